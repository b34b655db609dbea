//! The flow of a scan: the only module that changes one.
//!
//! One file a verb: `submit`, `observe`, `ingest`, `settle`, `recover`, `query`. Runners and intakes report what they see;
//! capabilities and HTTP routes call the verbs of [`Scans`]. What it needs from outside are four traits, in
//! `ports`; it knows nothing of HTTP, Wasm, SQL, namespaces or Kubernetes.

use std::sync::Arc;

use futures::stream::BoxStream;
use lanner_core::{JobError, JobSpec, JudgedAlert, Nanos, Owner, Priority, Scan, ScanId};

use ports::{BlobError, StoreError, StoredSource};

pub mod ports;

/// The handle of the flow: cheap to clone, its methods are the verbs.
#[derive(Clone)]
pub struct Scans {
    #[allow(dead_code, reason = "being built")]
    inner: Arc<()>,
}

/// Whose scans a caller may see: its own, or (role `admin`) all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Own(Owner),
    All,
}

/// What `submit` needs to make a scan.
#[derive(Clone, Debug)]
pub struct Submission {
    pub owner: Owner,
    pub spec: JobSpec,
    pub source: Option<StoredSource>,
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
}

/// What happens to a scan, for those who listen (server-sent events, the command line).
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum ScanEvent {
    State { scan: ScanId, state: lanner_core::ScanState, reason: String },
    Phase { scan: ScanId, name: String, started: Nanos, ended: Option<Nanos>, exit_code: Option<i32> },
    Alert { scan: ScanId, alert: Box<JudgedAlert> },
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the function asked for a job that cannot be run")]
    Job(#[from] JobError),
    #[error("the queue holds {0} scans already")]
    QueueFull(usize),
    #[error("the service is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no such scan")]
    Unknown,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scans {
    /// Streams a project into the source store. Nothing is kept if it is refused, or if no submission follows.
    pub async fn store_source(
        &self,
        _body: BoxStream<'static, Result<bytes::Bytes, std::io::Error>>,
    ) -> Result<StoredSource, BlobError> {
        unimplemented!()
    }

    /// Makes a scan: on disk when this returns.
    pub async fn submit(&self, _submission: Submission) -> Result<ScanId, SubmitError> {
        unimplemented!()
    }

    pub async fn get(&self, _reach: &Reach, _id: &ScanId) -> Result<Scan, QueryError> {
        unimplemented!()
    }

    /// Newest first; `before` is the last id of the page before.
    pub async fn list(
        &self,
        _reach: &Reach,
        _before: Option<ScanId>,
        _limit: usize,
    ) -> Result<Vec<Scan>, QueryError> {
        unimplemented!()
    }

    /// All alerts of a scan with what was decided about each, by alert id.
    pub async fn alerts(&self, _reach: &Reach, _id: &ScanId) -> Result<Vec<JudgedAlert>, QueryError> {
        unimplemented!()
    }

    /// The most urgent priority among the kept alerts.
    pub async fn worst(&self, _reach: &Reach, _id: &ScanId) -> Result<Option<Priority>, QueryError> {
        unimplemented!()
    }

    /// Cancels a queued or running scan; forgets a final one. Returns what it was.
    pub async fn delete(&self, _reach: &Reach, _id: &ScanId) -> Result<Scan, QueryError> {
        unimplemented!()
    }

    /// What happens to this scan from now on; ends after its final state. A listener that lags behind is told so by
    /// the end of its stream.
    pub async fn listen(
        &self,
        _reach: &Reach,
        _id: &ScanId,
    ) -> Result<(Scan, BoxStream<'static, ScanEvent>), QueryError> {
        unimplemented!()
    }

    /// Scans queued and running, for `/metrics` and Retry-After.
    pub fn load(&self) -> Load {
        unimplemented!()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub queued: usize,
    pub running: usize,
    pub capacity: usize,
    pub parallel: usize,
}
