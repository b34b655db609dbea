//! The flow of a scan: the only module that changes one.
//!
//! One file a verb: `submit`, `observe`, `place`, `ingest`, `settle`, `late`, `recover`, `recycle`, `query`, and `witness`
//! for what others see of it. Runners and intakes report what they see; capabilities and HTTP routes call the verbs of
//! [`Scans`]. What it needs from outside are four traits, in `ports`; it knows nothing of HTTP, Wasm, SQL, namespaces or
//! Kubernetes.
//!
//! The queue in memory (`queue`) is only an index: a scan is on disk before its id is answered, and `recover` builds the
//! queue anew from the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanner_core::{JobError, JobSpec, JudgedAlert, Nanos, Owner, Scan, ScanId};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use ports::{Blob, Filter, Runner, Store, StoreError, StoredSource};
use queue::Queue;
use room::Room;

mod ingest;
mod late;
mod observe;
mod place;
pub mod ports;
mod query;
mod queue;
mod recover;
mod recycle;
mod rejudge;
mod room;
mod settle;
mod submit;
#[cfg(test)]
pub(crate) mod tests;
pub mod witness;

pub use late::LateError;
pub use place::Patience;
pub use rejudge::{Rejudged, Rejudgement};

/// The handle of the flow: cheap to clone, its methods are the verbs.
#[derive(Clone)]
pub struct Scans {
    inner: Arc<Inner>,
}

/// What the flow stands on.
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub blob: Arc<dyn Blob>,
    pub runner: Arc<dyn Runner>,
    pub filter: Arc<dyn Filter>,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Scans that may wait; one more is refused.
    pub queue: usize,
    /// Scans that run at the same time.
    pub parallel: usize,
    /// Final scans that are kept, and for how long.
    pub keep: usize,
    pub max_age: Duration,
    pub patience: Patience,
    /// Falco must vouch for every scan, and gets this long for its marks.
    pub witness: Option<witness::WitnessPatience>,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub queued: usize,
    pub running: usize,
    pub capacity: usize,
    pub parallel: usize,
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

struct Inner {
    ports: Ports,
    settings: Settings,
    state: Mutex<State>,
    /// Something was queued, or a place became free.
    wake: Notify,
    /// The last rejudgement.
    rejudged: Mutex<Option<Rejudged>>,
}

/// What only this process needs to know; everything else is in the store.
struct State {
    queue: Queue,
    /// How many of them may run.
    room: Room,
    /// What an earlier life of the host began: they run already, whatever the bound says.
    left: VecDeque<ScanId>,
    /// Submissions between their check and their place in the queue: they count against the bound.
    reserved: usize,
    running: HashMap<ScanId, Running>,
    /// Of each scan that is not over; a channel once somebody listens, since it is larger than all else of a scan that waits.
    listeners: HashMap<ScanId, Option<broadcast::Sender<ScanEvent>>>,
    stopping: bool,
}

struct Running {
    cancel: CancellationToken,
    /// A user asked for the end; otherwise it is the host that stops.
    by_user: bool,
    watch: witness::Watch,
}

/// How many events a listener may lag behind before its stream ends.
const LISTENER_LAG: usize = 1024;
/// How long, and how often, room on a full disk is waited for.
const FULL_PAUSE: Duration = Duration::from_millis(500);
const FULL_TRIES: u32 = 600;

impl Scans {
    pub fn new(ports: Ports, settings: Settings) -> Self {
        let (queue, left, reserved, running, listeners) = Default::default();
        let room = Room::new(settings.parallel, settings.patience.pause);
        let state = State { queue, room, left, reserved, running, listeners, stopping: false };
        let inner = Inner {
            ports,
            settings,
            state: Mutex::new(state),
            wake: Notify::new(),
            rejudged: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Scans queued and running, for `/metrics` and Retry-After.
    pub fn load(&self) -> Load {
        let state = self.state();
        Load {
            queued: state.queue.len() + state.reserved,
            running: state.running.len(),
            capacity: self.inner.settings.queue,
            parallel: self.inner.settings.parallel,
        }
    }

    /// No new scans from here on.
    pub fn stop_accepting(&self) {
        self.state().stopping = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that another task panicked between two plain assignments; the data is still whole.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a scan's state. A full disk is waited out: a scan whose state is not written has no answer before the next
    /// start of the host.
    async fn put_patiently(&self, scan: &Scan) -> Result<(), StoreError> {
        for _ in 0..FULL_TRIES {
            let put = self.store().put(scan.clone()).await;
            let stopping = self.state().stopping;
            if stopping || !matches!(put, Err(StoreError::Full)) {
                return put;
            }
            tracing::warn!(scan = %scan.id, "the disk is full: waiting for room");
            tokio::time::sleep(FULL_PAUSE).await;
        }
        self.store().put(scan.clone()).await
    }

    fn store(&self) -> &dyn Store {
        &*self.inner.ports.store
    }

    fn tell(&self, id: &ScanId, event: ScanEvent) {
        if let Some(Some(listeners)) = self.state().listeners.get(id) {
            // An error only says that nobody listens.
            let _ = listeners.send(event);
        }
    }

    fn tell_state(&self, scan: &Scan) {
        let event =
            ScanEvent::State { scan: scan.id.clone(), state: scan.state, reason: scan.reason.clone() };
        self.tell(&scan.id, event);
        if scan.state.is_final() {
            self.state().listeners.remove(&scan.id);
        }
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> Nanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}
