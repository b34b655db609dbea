//! Tasks with an owner. What a task's failure means, and what a stop means to it, is data ([`TaskKind`]) and not a
//! habit of whoever spawns it. The only module that calls `tokio::spawn` (through the tracker).
//!
//! A stop is one token: tasks that finish watch it themselves, tasks that abort are dropped at their next await. It
//! knows nothing of what the tasks do.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who a task is and what its end means.
#[derive(Clone, Copy, Debug)]
pub struct TaskKind {
    pub name: &'static str,
    pub on_error: OnError,
    pub on_stop: OnStop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The host cannot go on without it: everything stops.
    Stop,
    /// Only this task is lost.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It watches the token and comes to its own end.
    Finish,
    /// Dropped where it waits.
    Abort,
}

/// Owns every task of a host. Clones are handles on the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: Arc<OnceLock<&'static str>>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when everything shall come to its end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The task whose failure stopped everything, if one did.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    pub fn spawn<E: Into<BoxError>>(
        &self,
        kind: TaskKind,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        self.tracker.spawn(async move {
            let guarded = AssertUnwindSafe(task).catch_unwind();
            let ended = match kind.on_stop {
                OnStop::Finish => guarded.await,
                OnStop::Abort => match this.stop.run_until_cancelled(guarded).await {
                    Some(ended) => ended,
                    None => return,
                },
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => this.lost(kind, &*error.into()),
                Err(panic) => this.lost(kind, &Panicked(text_of(&*panic))),
            }
        });
    }

    fn lost(&self, kind: TaskKind, error: &(dyn std::error::Error + 'static)) {
        match kind.on_error {
            OnError::Log => tracing::debug!(task = kind.name, error, "a task failed"),
            OnError::Stop => {
                tracing::error!(task = kind.name, error, "a task that the host needs failed: stopping");
                let _ = self.failed.set(kind.name);
                self.stop.cancel();
            }
        }
    }

    /// Waits for the end of all tasks; false if some were left at the deadline.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}

/// hyper runs the streams of an HTTP/2 connection on it.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Supervisor {
    fn execute(&self, task: F) {
        self.tracker.spawn(task);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
struct Panicked(String);

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Up to half as long again, so that many who lost the same at the same moment do not come back at once.
pub fn jitter(wait: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness all come at once, and come all the same.
    let _ = getrandom::fill(&mut random);
    let [share] = random;
    wait * u32::from(share) / 512
}

/// SIGTERM is what service managers send, SIGINT what a terminal sends. May be awaited again for the second one.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: TaskKind = TaskKind { name: "needed", on_error: OnError::Stop, on_stop: OnStop::Abort };
    const SPARE: TaskKind = TaskKind { name: "spare", on_error: OnError::Log, on_stop: OnStop::Finish };

    #[tokio::test]
    async fn a_needed_task_that_fails_or_panics_stops_everything() {
        let fails = Supervisor::new();
        fails.spawn(NEEDED, async { Err::<(), _>("no disk") });
        fails.stop().cancelled().await;
        assert_eq!(fails.failed(), Some("needed"));

        let panics = Supervisor::new();
        panics.spawn(NEEDED, async {
            assert!(std::hint::black_box(false), "on purpose");
            Ok::<(), BoxError>(())
        });
        panics.stop().cancelled().await;
        assert_eq!(panics.failed(), Some("needed"));
    }

    #[tokio::test]
    async fn a_spare_task_is_lost_alone() {
        let supervisor = Supervisor::new();
        supervisor.spawn(SPARE, async { Err::<(), _>("whatever") });
        assert!(supervisor.finish(Duration::from_secs(10)).await);
        assert!(!supervisor.stop().is_cancelled() && supervisor.failed().is_none());
    }

    #[tokio::test]
    async fn a_stop_aborts_one_kind_waits_for_the_other_and_has_a_deadline() {
        let supervisor = Supervisor::new();
        let stop = supervisor.stop().clone();
        let (go, may_end) = tokio::sync::oneshot::channel::<()>();
        supervisor.spawn(NEEDED, std::future::pending::<Result<(), BoxError>>());
        supervisor.spawn(SPARE, async move {
            stop.cancelled().await;
            may_end.await
        });
        supervisor.stop().cancel();
        assert!(!supervisor.finish(Duration::from_millis(50)).await, "one still works");
        go.send(()).unwrap();
        assert!(supervisor.finish(Duration::from_secs(30)).await);
    }
}
