//! Whether a connection has a request in flight: from its complete head until its answer's last byte was handed over
//! or given up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(super) struct Activity {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// When the last one ended, or the connection began.
    since: Instant,
}

/// One request in flight, as long as it lives.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State { requests: 0, since: Instant::now() })) }
    }

    pub(super) fn begin(&self) -> InFlight {
        self.with(|s| s.requests += 1);
        InFlight(self.clone())
    }

    /// Returns when no request has been in flight for so long.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let idle = self.with(|s| if s.requests > 0 { Duration::ZERO } else { s.since.elapsed() });
            let Some(left) = limit.checked_sub(idle).filter(|l| !l.is_zero()) else { return };
            tokio::time::sleep(left).await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|s| {
            s.requests = s.requests.saturating_sub(1);
            s.since = Instant::now();
        });
    }
}

/// A body that keeps its request in flight.
pub(super) struct Held<B> {
    body: B,
    _held: InFlight,
}

impl<B> Held<B> {
    pub(super) fn new(body: B, held: InFlight) -> Self {
        Self { body, _held: held }
    }
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_only_without_requests() {
        let activity = Activity::new();
        let held = activity.begin();
        let limit = Duration::from_millis(10);
        assert!(tokio::time::timeout(Duration::from_millis(100), activity.idle_for(limit)).await.is_err());
        drop(held);
        assert!(tokio::time::timeout(Duration::from_secs(30), activity.idle_for(limit)).await.is_ok());
    }
}
