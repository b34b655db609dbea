//! What the filters' life cycle needs from outside: a place for revisions, differences and the audit log.

use futures::future::BoxFuture;
use lanner_core::{Action, Change, FilterName, Priority, Revision, ScanId};
use serde::{Deserialize, Serialize};

use crate::scan::ports::StoreError;

/// Keeps revisions. A call that returned `Ok` is on disk.
pub trait Revisions: Send + Sync + 'static {
    /// All that are kept, by filter and number.
    fn revisions(&self) -> BoxFuture<'static, Result<Vec<Revision>, StoreError>>;
    /// A number that no revision of this filter ever had.
    fn next(&self, filter: FilterName) -> BoxFuture<'static, Result<u64, StoreError>>;
    /// All of a step, or nothing.
    fn apply(&self, step: Step) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Newest first, those before `before`.
    fn audit(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(u64, Change)>, StoreError>>;
    fn put_differences(
        &self,
        of: Revision,
        scan: ScanId,
        found: Vec<Difference>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
    fn differences(
        &self,
        filter: FilterName,
        revision: u64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Differences, StoreError>>;
}

/// What changes together.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Added or replaced.
    pub put: Vec<Revision>,
    pub forget: Vec<(FilterName, u64)>,
    pub audit: Option<Change>,
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
