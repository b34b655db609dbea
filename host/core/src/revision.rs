//! A revision: one upload of a filter with its settings, and the states that it goes through.
//!
//! `RevisionState::may_become` is the one place that says which state may follow which. Who moves a revision, and why,
//! is the business of the host's `policy` module; what the component does is the engine's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Nanos;
use crate::decision::Grant;

/// A filter's name: 1 to 63 of `a-z 0-9 -`, beginning with a letter or digit; so it is a path segment, a metric's label
/// and a Kubernetes name as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilterName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a filter's name has 1 to 63 lower-case letters, digits or hyphens and begins with no hyphen")]
    Form,
    #[error("a filter cannot be called {0}: the name is a route of its own")]
    Reserved(String),
}

/// Routes beside those of the filters.
const RESERVED: [&str; 1] = ["rejudge"];
const MAX_NAME: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisionState {
    /// Its code is being compiled, in a process of its own.
    Compiling,
    /// It is asked about alerts whose answer nobody waits for.
    Trial,
    /// It judges along with the active revision; differences are recorded, nothing else changes.
    Shadow,
    /// It judges.
    Active,
    /// It was refused, or failed too often in a row; then its alerts are kept and it is tried again.
    Failed,
    /// It was active or shadow, and is kept to go back to.
    Retired,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub filter: FilterName,
    /// From 1, never used twice for one name.
    pub number: u64,
    /// `sha256:…` of the component.
    pub digest: String,
    /// Of the component, in bytes.
    pub bytes: u64,
    /// What is given to the filter with each batch.
    pub settings: serde_json::Value,
    /// Filters are asked in ascending order, those of the same order by name.
    pub order: i32,
    pub may_suppress_up_to: Grant,
    pub state: RevisionState,
    /// It was active when it failed: its place is kept, and no scan is clean without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_out: bool,
    /// Why it failed; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the filter says of itself.
    pub description: Description,
    pub by: String,
    pub at: Nanos,
    /// When it last became active.
    #[serde(default)]
    pub activated: Option<Nanos>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What a filter says of itself: not trusted, bounded and escaped by whoever asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub author: String,
    pub summary: String,
    /// A JSON Schema of the settings, or `null`.
    pub settings_schema: serde_json::Value,
}

/// Which revision judged: stands in each scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRef {
    pub filter: String,
    pub revision: u64,
    pub digest: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: Nanos,
    pub by: String,
    pub action: ChangeKind,
    pub filter: String,
    /// The active revision and its digest before and after; `None`: there was, or is, none.
    pub before: Option<FilterRef>,
    pub after: Option<FilterRef>,
    /// What the action was about, where it did not become active: the uploaded revision, or why it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A new revision, active or shadow.
    Upload,
    /// An upload that was refused.
    Refuse,
    Activate,
    Rollback,
    /// Active no more, and nothing in its place.
    Retire,
    /// Taken out after failures in a row.
    TakeOut,
    /// Failed before, and back.
    Recover,
    /// Stored alerts were judged again.
    Rejudge,
}

impl RevisionState {
    pub fn may_become(self, next: Self) -> bool {
        use RevisionState::{Active, Compiling, Failed, Retired, Shadow, Trial};
        match self {
            Compiling => matches!(next, Trial | Failed),
            Trial => matches!(next, Shadow | Active | Failed),
            Shadow => matches!(next, Active | Failed | Retired),
            Active => matches!(next, Failed | Retired),
            // Tried again with success, or activated by hand.
            Failed => matches!(next, Active | Shadow | Retired),
            Retired => matches!(next, Active | Shadow),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compiling => "compiling",
            Self::Trial => "trial",
            Self::Shadow => "shadow",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Retired => "retired",
        }
    }
}

impl Revision {
    pub fn reference(&self) -> FilterRef {
        FilterRef { filter: self.filter.to_string(), revision: self.number, digest: self.digest.clone() }
    }
}

impl FilterName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilterName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME || text.starts_with('-') || !text.bytes().all(good) {
            return Err(BadName::Form);
        }
        if RESERVED.contains(&text) {
            return Err(BadName::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for FilterName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<FilterName> for String {
    fn from(name: FilterName) -> Self {
        name.0
    }
}

impl fmt::Display for FilterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_a_path_segment_and_no_route() {
        for good in ["a", "team-severity", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<FilterName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a/b", "a.b", "..", "é", &"x".repeat(64)] {
            assert_eq!(bad.parse::<FilterName>(), Err(BadName::Form), "{bad}");
        }
        let reserved = "rejudge".parse::<FilterName>().unwrap_err().to_string();
        assert_eq!(reserved, "a filter cannot be called rejudge: the name is a route of its own");
    }

    fn any_state() -> impl Strategy<Value = RevisionState> {
        use RevisionState::*;
        prop::sample::select(vec![Compiling, Trial, Shadow, Active, Failed, Retired])
    }

    proptest! {
        #[test]
        fn nothing_judges_that_was_not_tried(states in prop::collection::vec(any_state(), 1..12)) {
            let mut state = RevisionState::Compiling;
            let mut tried = false;
            for next in states {
                if state.may_become(next) {
                    state = next;
                    tried |= state == RevisionState::Trial;
                    // What failed before its trial ended may be activated by hand; the host then tries it anew.
                    if state == RevisionState::Failed { tried = true; }
                }
                prop_assert!(tried || !matches!(state, RevisionState::Active | RevisionState::Shadow));
                prop_assert!(!state.may_become(state));
            }
        }
    }
}
