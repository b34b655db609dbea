//! What the flow of a scan needs from outside: somewhere to run, to keep, to store bytes, and to judge.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use lanner_core::{
    Alert, Evidence, FilterFailure, FilterRef, Grant, Isolation, JudgedAlert, Nanos, Owner, PhaseResult,
    Scan, ScanId, SourceRef,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Rejudgement;

/// Runs one scan's Job and reports what it sees, in order.
pub trait Runner: Send + Sync + 'static {
    /// Takes a place for a scan where it will run, and says so; nothing of its package runs before [`run`](Self::run). Whoever drops
    /// this calls `run` with what is cancelled, to clear away what came of it, or leaves that to [`recover`](Self::recover) at
    /// the next start. A scan without room waits in the queue.
    fn place(&self, scan: Scan, source: Option<PathBuf>) -> BoxFuture<'static, Result<(), NoRoom>> {
        drop((scan, source));
        Box::pin(std::future::ready(Ok(())))
    }

    /// Starts the Job and returns when it is over; every report goes through `reports` as it happens. Cancelling
    /// `cancel` ends the Job. What a runner cannot vouch for it reports as a gap; it never settles a scan.
    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()>;

    /// At the start of the host: ends whatever an earlier life of it left running, but for these scans, whose `run` comes soon
    /// and goes on by their [`Passage`](lanner_core::Passage).
    fn recover(&self, left: Vec<Left>) -> BoxFuture<'static, ()>;
}

/// Where a scan would run is no room for it now, and why: there may be later. Nothing of it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom(pub String);

/// A scan that an earlier life of the host began.
#[derive(Clone, Debug)]
pub struct Left {
    pub scan: Scan,
    /// The source as a file that can be read.
    pub source: Option<PathBuf>,
}

/// One scan to run.
#[derive(Clone, Debug)]
pub struct Job {
    pub scan: Scan,
    /// The source as a file that can be read.
    pub source: Option<PathBuf>,
    /// Where the runner says its marks, and waits until the witnesses have seen the first.
    pub fence: super::witness::Fence,
    /// The last [`Report::Taken`] that is on disk with all that came before it.
    pub stored: watch::Receiver<u64>,
}

pub type ReportSender = tokio::sync::mpsc::Sender<Report>;

/// What a runner or an intake saw.
#[derive(Clone, Debug)]
pub enum Report {
    /// The sandbox stands; nothing of the package has run.
    Started {
        isolation: Isolation,
    },
    /// A sensor joined and reported the start mark.
    StartMark {
        sensor: String,
    },
    PhaseStarted {
        name: String,
        time: Nanos,
    },
    PhaseEnded(PhaseResult),
    /// `alert.scan`'s numbering is the sensor's; first sight.
    Alert(Box<Alert>),
    AlertRepeated {
        sensor: String,
        id: u64,
        count: u64,
        last_time: Nanos,
    },
    Gap(lanner_core::Gap),
    /// The last process is gone; counts of the sensor.
    Quiet {
        sensor: String,
        events: u64,
        processes: u64,
    },
    EndMark {
        sensor: String,
    },
    /// What the proxy was asked for.
    Network(Vec<lanner_core::scan::HostAttempt>),
    /// The runner could go on with the scan by this note, should the host restart.
    Passage(serde_json::Value),
    /// All that came with this number of the agent's stream has been reported.
    Taken(u64),
}

/// Keeps scans and alerts. A call that returned `Ok` is on disk.
pub trait Store: Send + Sync + 'static {
    /// A new scan; `key` is the client's idempotency key, remembered with it. Returns the id of the earlier scan if
    /// this owner used the key before.
    fn create(&self, scan: Scan, key: Option<String>) -> BoxFuture<'static, Result<Created, StoreError>>;
    fn put(&self, scan: Scan) -> BoxFuture<'static, Result<(), StoreError>>;
    fn get(&self, id: ScanId) -> BoxFuture<'static, Result<Option<Scan>, StoreError>>;
    /// Newest first, those of `owner` (all if `None`) older than `before`.
    fn list(
        &self,
        owner: Option<Owner>,
        before: Option<ScanId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>>;
    /// Every scan that is queued or running, oldest first.
    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>>;
    /// Adds or replaces alerts of a scan, by alert id.
    fn put_alerts(&self, id: ScanId, alerts: Vec<JudgedAlert>) -> BoxFuture<'static, Result<(), StoreError>>;
    fn alerts(&self, id: ScanId) -> BoxFuture<'static, Result<Vec<JudgedAlert>, StoreError>>;
    /// Fingerprints of the alerts in this owner's last `scans` scans of a subject that are older than `before`.
    fn seen(
        &self,
        owner: Owner,
        subject: String,
        before: ScanId,
        scans: usize,
    ) -> BoxFuture<'static, Result<Seen, StoreError>>;
    /// Replaces what is kept of the last rejudgement.
    fn put_rejudgement(&self, it: Rejudgement) -> BoxFuture<'static, Result<(), StoreError>>;
    fn rejudgement(&self) -> BoxFuture<'static, Result<Option<Rejudgement>, StoreError>>;
    fn delete(&self, id: ScanId) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Ids of final scans beyond the newest `keep`, or that ended before `older_than`.
    fn expired(&self, keep: usize, older_than: Nanos) -> BoxFuture<'static, Result<Vec<ScanId>, StoreError>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// The same owner and key made this scan before.
    Earlier(ScanId),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; the client may try again later.
    #[error("the disk that holds the data directory is full")]
    Full,
    #[error("the store failed")]
    Failed(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Keeps the bytes of sources.
pub trait Blob: Send + Sync + 'static {
    /// Stores a gzipped tar, checked while it streams; nothing is kept of a refused one.
    fn put(
        &self,
        body: BoxStream<'static, Result<bytes::Bytes, std::io::Error>>,
    ) -> BoxFuture<'static, Result<StoredSource, BlobError>>;
    /// The source as a file.
    fn path(&self, source: &SourceRef) -> PathBuf;
    fn delete(&self, source: &SourceRef) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Deletes sources that no scan in `used` names and that are older than the grace time.
    fn sweep(&self, used: Vec<SourceRef>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// A source that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSource {
    pub source: SourceRef,
    pub entries: u64,
    pub unpacked_bytes: u64,
    /// Names of the files at the root of the project, sorted, at most 256.
    pub top_level: Vec<String>,
    /// The contents of small top-level files (`*.json`, `*.toml`; at most 64 KiB each) are not kept: only names.
    pub root: String,
}

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The archive itself is at fault; the text is for the client.
    #[error(transparent)]
    Archive(lanner_archive::ArchiveError),
    /// The client stopped sending.
    #[error("the body ended before it was complete")]
    Interrupted(#[source] std::io::Error),
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    #[error(transparent)]
    Store(StoreError),
}

/// Judges alerts. A session is made for each scan, and holds the filters as they were then: a scan is judged by one set
/// from its first alert to its last, whatever is swapped meanwhile.
pub trait Filter: Send + Sync + 'static {
    fn session(&self, about: About) -> Box<dyn Judge>;
}

/// The scan that a session is for.
#[derive(Clone, Debug)]
pub struct About {
    pub scan: ScanId,
    pub manager: String,
    /// The project's name, or `NAME@VERSION`; empty if unknown.
    pub subject: String,
    /// In how many earlier scans of the same subject each fingerprint was seen.
    pub seen: Seen,
}

/// Alert fingerprint to the number of scans that had it.
pub type Seen = std::collections::HashMap<String, u32>;

pub trait Judge: Send {
    /// Judges a batch. Never fails: what goes wrong is in the answer, and the alerts are kept.
    fn judge(&mut self, alerts: Vec<Alert>) -> BoxFuture<'_, Judged>;
    /// The filters that judge, in their order.
    fn filters(&self) -> Vec<FilterRef>;
    /// How far each may suppress, by its name.
    fn grants(&self) -> BTreeMap<String, Grant>;
}

#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub alerts: Vec<JudgedAlert>,
    pub failures: Vec<FilterFailure>,
}

/// Used by `settle`: what the reports added up to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub evidence: Evidence,
    pub phases: Vec<PhaseResult>,
}
