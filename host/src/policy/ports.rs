//! What the filters' life cycle needs from outside: a place for revisions and for what shadows say.

use futures::future::BoxFuture;
use lanner_core::{Action, FilterSpec, Name, Priority, Revision, ScanId};
use serde::{Deserialize, Serialize};

use crate::lifecycle;
use crate::scan::ports::StoreError;

/// Keeps revisions of filters, and what shadows would have decided.
pub trait Revisions: lifecycle::Revisions<FilterSpec> {
    fn put_differences(
        &self,
        of: Revision,
        scan: ScanId,
        found: Vec<Difference>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
    fn differences(
        &self,
        filter: Name,
        revision: u64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Differences, StoreError>>;
}

/// One alert that a shadow revision, or a filter on trial, would have answered differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub scan: String,
    pub alert: u64,
    pub rule: String,
    pub now: Outcome,
    pub then: Outcome,
    /// The other one's action and reason.
    pub action: Option<Action>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What an alert counts as after all filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub suppressed: bool,
    pub priority: Priority,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Differences {
    pub total: u64,
    pub latest: Vec<Difference>,
}
