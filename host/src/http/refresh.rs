//! "Look at your sources now": by hand, or as a registry sends it about its own.

use lanner_core::Name;
use serde::Deserialize;

use super::Body;
use super::documents::{Problem, limited, parsed};

/// A registry sends many events at once, and much about each.
const MAX_NOTIFICATION: usize = 1 << 20;

/// What somebody asks for by hand, or a registry's notification.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Refresh {
    #[serde(alias = "function", alias = "policy")]
    pub(super) name: Option<Name>,
    again: bool,
    events: Option<Vec<Event>>,
}

/// Of a registry's notification; it has much more.
#[derive(Deserialize)]
struct Event {
    action: String,
    #[serde(default)]
    target: Target,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Target {
    repository: String,
    tag: Option<String>,
}

impl Refresh {
    pub(super) async fn received(body: Body) -> Result<Self, Problem> {
        let bytes = limited(body, MAX_NOTIFICATION, "document").await?;
        if bytes.is_empty() { Ok(Self::default()) } else { parsed(&bytes) }
    }

    /// Whether it is about what has this name, and lies in this repository under this tag.
    pub(super) fn wants(&self, name: &Name, package: Option<&(String, String)>) -> bool {
        match (&self.events, &self.name) {
            (Some(events), _) => events.iter().any(|event| event.is_about(package)),
            (None, Some(wanted)) => name == wanted,
            (None, None) => true,
        }
    }

    /// A registry tells that something is new; whether it is tried again is for people to say.
    pub(super) fn again(&self) -> bool {
        self.again && self.events.is_none()
    }
}

impl Event {
    fn is_about(&self, package: Option<&(String, String)>) -> bool {
        let Some((repository, tag)) = package else { return false };
        self.action == "push"
            && self.target.repository == *repository
            && self.target.tag.as_ref().is_none_or(|t| t == tag)
    }
}
