//! What is to be done: the verbs that the host's policy has, with all that they need.

use lanner_core::{Grant, Name};
use serde_json::{Map, Value};

use crate::filter::Mode;
use crate::module::ModuleRef;

/// One step. They are done in the order in which they are given; one that fails holds up no other.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The filter judges no more, neither as active nor as shadow.
    Retire { name: Name },
    /// A kept revision is what is wanted.
    Activate { name: Name, revision: u64 },
    /// The module is fetched and uploaded, with its reference as the note and [`BY`](crate::BY) as who did it.
    Upload {
        name: Name,
        module: ModuleRef,
        settings: Map<String, Value>,
        order: i32,
        may_suppress_up_to: Grant,
        start: Mode,
    },
}

impl Action {
    pub fn name(&self) -> &Name {
        match self {
            Self::Retire { name } | Self::Activate { name, .. } | Self::Upload { name, .. } => name,
        }
    }
}
