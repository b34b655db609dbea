//! A revision: one component of a filter or of a function, and the states that it goes through. What both kinds have in
//! common is [`Revision`]; what is a kind's own is its [`Spec`].
//!
//! `RevisionState::may_become` is the one place that says which state may follow which. Who moves a revision, and why,
//! is the business of the host's modules `policy` and `function`; what the component does is the engine's.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Nanos;
use crate::decision::Grant;

/// A filter's or a function's name: 1 to 63 of `a-z 0-9 -`, beginning with a letter or digit; so it is a path segment, a
/// metric's label and a Kubernetes name as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a name has 1 to 63 lower-case letters, digits or hyphens and begins with no hyphen")]
    Form,
    #[error("nothing can be called {0}: the name is a route of its own")]
    Reserved(String),
}

/// Routes beside those of the filters and functions.
const RESERVED: [&str; 2] = ["rejudge", "refresh"];
const MAX_NAME: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisionState {
    /// Its code is being compiled, in a process of its own.
    Compiling,
    /// It is asked about alerts whose answer nobody waits for.
    Trial,
    /// A filter that judges along with the active revision; differences are recorded, nothing else changes.
    Shadow,
    /// A function that answers a share of the requests; how it does is compared with the active revision.
    Canary,
    /// It judges, or answers.
    Active,
    /// It was refused, or failed since: a filter that failed too often in a row is tried again, a function is not until
    /// somebody asks.
    Failed,
    /// It was active or shadow, and is kept to go back to.
    Retired,
}

/// What can be replaced while the host runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Filter,
    Function,
}

/// What a kind's revisions have of their own.
pub trait Spec: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: Kind;

    /// Where it came from, if it was not sent.
    fn named(&self) -> Option<&Named>;
    /// It failed a check on its way in; false if what failed says nothing about it.
    fn is_refused(&self) -> bool;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision<S = FilterSpec> {
    #[serde(alias = "filter")]
    pub name: Name,
    /// From 1, never used twice for one name.
    pub number: u64,
    /// `sha256:…` of the component.
    pub digest: String,
    /// Of the component, in bytes.
    pub bytes: u64,
    pub state: RevisionState,
    /// A filter that was active when it failed: its place is kept, and no scan is clean without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_out: bool,
    /// Why it failed; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub by: String,
    pub at: Nanos,
    /// When it last became active.
    #[serde(default)]
    pub activated: Option<Nanos>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(flatten)]
    pub spec: S,
}

/// A filter's own: how it is to judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// What is given to the filter with each batch.
    pub settings: serde_json::Value,
    /// Filters are asked in ascending order, those of the same order by name.
    pub order: i32,
    pub may_suppress_up_to: Grant,
    /// What the filter says of itself.
    pub description: Description,
    /// Where the component came from; nothing if it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Where a filter came from, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    #[serde(flatten)]
    pub named: Named,
    /// The keys that signed it; empty where no signature is asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// It failed a check when it came, and is not taken again until somebody asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// What a source named when a revision was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// `built in`, a path, a URL, or `REGISTRY/REPOSITORY:TAG`.
    pub source: String,
    /// The manifest's digest in a registry, the component's own elsewhere.
    pub resolved: String,
}

/// A function's own: where it came from, and what was found on the way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSpec {
    #[serde(flatten)]
    pub named: Named,
    /// The checks that it passed, in their order, each with what was found.
    #[serde(default)]
    pub passed: Vec<Passed>,
    /// The check that it failed; `reason` says why.
    #[serde(default)]
    pub failed: Option<Check>,
}

/// What a new revision of a function goes through, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// All of it came, and has the digest that was asked for.
    Pull,
    /// Signed by whom the operator trusts.
    Signature,
    /// It imports nothing that is not granted, and handles HTTP.
    Imports,
    Compile,
    /// Its own health request and recorded requests, without side effects.
    Trial,
    /// A share of the requests, compared with the active revision.
    Canary,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    pub check: Check,
    pub found: String,
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

/// Which revision: stands in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRef {
    pub revision: u64,
    pub digest: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: Nanos,
    pub by: String,
    pub action: ChangeKind,
    #[serde(default)]
    pub kind: Kind,
    /// Of the filter or function.
    #[serde(alias = "filter")]
    pub name: String,
    /// The active revision and its digest before and after; `None`: there was, or is, none.
    pub before: Option<RevisionRef>,
    pub after: Option<RevisionRef>,
    /// What the action was about, where it did not become active: the uploaded revision, or why it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A new revision, active or shadow.
    Upload,
    /// A new revision of a function, from its source.
    Update,
    /// An upload or an update that was refused.
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
        use RevisionState::{Active, Canary, Compiling, Failed, Retired, Shadow, Trial};
        match self {
            Compiling => matches!(next, Trial | Failed),
            Trial => matches!(next, Shadow | Canary | Active | Failed),
            Shadow | Canary => matches!(next, Active | Failed | Retired),
            Active => matches!(next, Failed | Retired),
            // Tried again with success, or activated by hand.
            Failed => matches!(next, Active | Shadow | Retired),
            Retired => matches!(next, Active | Shadow),
        }
    }

    /// On its way in: of no use when the host stopped meanwhile.
    pub fn is_half_way(self) -> bool {
        matches!(self, Self::Compiling | Self::Trial | Self::Canary)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compiling => "compiling",
            Self::Trial => "trial",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Retired => "retired",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Function => "function",
        }
    }
}

impl Check {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Signature => "signature",
            Self::Imports => "imports",
            Self::Compile => "compile",
            Self::Trial => "trial",
            Self::Canary => "canary",
        }
    }
}

impl Spec for FilterSpec {
    const KIND: Kind = Kind::Filter;

    fn named(&self) -> Option<&Named> {
        self.provenance.as_ref().map(|p| &p.named)
    }

    fn is_refused(&self) -> bool {
        self.provenance.as_ref().is_some_and(|p| p.refused)
    }
}

impl Spec for FunctionSpec {
    const KIND: Kind = Kind::Function;

    fn named(&self) -> Option<&Named> {
        Some(&self.named)
    }

    fn is_refused(&self) -> bool {
        // One that failed because the host stopped has no check that it failed.
        self.failed.is_some()
    }
}

impl<S> Revision<S> {
    pub fn reference(&self) -> RevisionRef {
        RevisionRef { revision: self.number, digest: self.digest.clone() }
    }
}

impl Revision<FilterSpec> {
    /// As scans name it.
    pub fn as_filter(&self) -> FilterRef {
        FilterRef { filter: self.name.to_string(), revision: self.number, digest: self.digest.clone() }
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
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

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
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
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a/b", "a.b", "..", "é", &"x".repeat(64)] {
            assert_eq!(bad.parse::<Name>(), Err(BadName::Form), "{bad}");
        }
        let reserved = "rejudge".parse::<Name>().unwrap_err().to_string();
        assert_eq!(reserved, "nothing can be called rejudge: the name is a route of its own");
    }

    #[test]
    fn a_revision_is_read_as_it_was_written_and_as_it_was_written_before() {
        let text = r#"{"filter":"a","number":3,"digest":"sha256:0","bytes":7,"settings":{"x":1},"order":-2,
            "may_suppress_up_to":{"percent":5,"priority":"WARNING"},"state":"shadow","at":1795506696273737113,"by":"me",
            "description":{"name":"","version":"","author":"","summary":"","settings_schema":null}}"#;
        let read: Revision = serde_json::from_str(text).unwrap();
        assert_eq!((read.name.as_str(), read.spec.order, read.at), ("a", -2, 1_795_506_696_273_737_113));
        let again: Revision = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    fn any_state() -> impl Strategy<Value = RevisionState> {
        use RevisionState::*;
        prop::sample::select(vec![Compiling, Trial, Shadow, Canary, Active, Failed, Retired])
    }

    proptest! {
        #[test]
        fn nothing_judges_or_answers_that_was_not_tried(states in prop::collection::vec(any_state(), 1..12)) {
            let mut state = RevisionState::Compiling;
            let mut tried = false;
            for next in states {
                if state.may_become(next) {
                    state = next;
                    tried |= state == RevisionState::Trial;
                    // What failed before its trial ended may be activated by hand; the host then tries it anew.
                    if state == RevisionState::Failed { tried = true; }
                }
                prop_assert!(tried || !matches!(state, RevisionState::Active | RevisionState::Shadow | RevisionState::Canary));
                prop_assert!(!state.may_become(state));
            }
        }
    }
}
