//! Place: a scan of the queue begins once its runner has a place for it. Until then it is queued, and says what it waits for.
//!
//! Nothing of its package has run meanwhile, so it may wait, and ask again after a restart of the host as if for the first time.

use std::time::Duration;

use lanner_core::evidence::GapKind;
use lanner_core::{Scan, ScanId};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ingest::Ingested;
use super::ports::{NoRoom, StoreError};
use super::witness::Desk;
use super::{Scans, State, now};

/// How a scan waits for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until the next one tries whether there is room, though nothing has ended.
    pub pause: Duration,
    /// When nobody has had a place for so long, a scan that is as old is not put back into the queue any more: it would wait for
    /// ever at a quota that nothing is ever below.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { pause: Duration::from_secs(5), whole: Duration::from_secs(3600) }
    }
}

/// What became of the wish for a place.
pub(super) enum Placed {
    /// It runs now; or ends now, since somebody cancelled it.
    Runs,
    /// The host stops, and its next life has it in its queue.
    Stops,
    NoRoom(NoRoom),
}

impl State {
    pub(super) fn next_queued(&mut self) -> Option<ScanId> {
        // Whoever is let in begins: nobody is asked for if nobody waits.
        let takes_one = self.queue.len() > 0 && self.room.takes_one(self.running.len(), Instant::now());
        if takes_one { self.queue.pop() } else { None }
    }
}

impl Scans {
    /// Ends when one that waits may try whether there is room by now, though nothing has ended.
    pub(super) async fn room_again(&self) {
        let again = {
            let state = self.state();
            let again = state.room.again(state.running.len());
            again.filter(|_| state.queue.len() > 0)
        };
        match again {
            Some(again) => tokio::time::sleep_until(again).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn placed(
        &self,
        scan: &Scan,
        cancel: &CancellationToken,
        stop: &CancellationToken,
        desk: &mut Desk,
    ) -> Placed {
        let source = scan.source.as_ref().map(|source| self.inner.ports.blob.path(source));
        let mut place = self.inner.ports.runner.place(scan.clone(), source);
        loop {
            tokio::select! {
                biased;
                // Its runner clears away what came of it so far.
                () = cancel.cancelled() => {
                    self.may_ask(|room, now| room.ask_again(now));
                    return Placed::Runs;
                }
                () = stop.cancelled() => return Placed::Stops,
                answer = &mut place => return match answer {
                    Ok(()) => {
                        self.may_ask(|room, now| room.had_one(now));
                        Placed::Runs
                    }
                    Err(why) => Placed::NoRoom(why),
                },
                // Of a time before it: a witness has nothing to say of it yet, and must not wait for it.
                Some(_) = desk.parcels.recv() => {}
            }
        }
    }

    fn may_ask(&self, change: impl FnOnce(&mut super::room::Room, Instant)) {
        change(&mut self.state().room, Instant::now());
        self.inner.wake.notify_one();
    }

    /// A scan that had a place and cannot be begun: its runner hears of the end alone.
    pub(super) async fn leave_place(&self, scan: Scan) {
        let (_, stored) = watch::channel(0);
        let job = self.job(scan, stored);
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let (reports, _nobody) = mpsc::channel(1);
        self.inner.ports.runner.run(job, reports, cancelled).await;
    }

    /// Puts a scan back into the queue, as the next of its owner; not for ever.
    pub(super) async fn wait_again(&self, scan: Scan, why: NoRoom) {
        let result = if self.is_refused_for_good(&scan) {
            self.give_up_waiting(scan, why).await
        } else {
            self.put_back(scan, why).await
        };
        if let Err(error) = result {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed while a scan waited");
        }
    }

    /// Notes that there is no room; whether the scan has waited long enough.
    fn is_refused_for_good(&self, scan: &Scan) -> bool {
        let whole = self.inner.settings.patience.whole;
        let age = u64::try_from(now().saturating_sub(scan.created)).unwrap_or_default();
        let mut state = self.state();
        let others = state.running.len().saturating_sub(1);
        state.room.is_full(others, Instant::now());
        state.room.none_for(Instant::now()) >= whole && Duration::from_nanos(age) >= whole
    }

    async fn give_up_waiting(&self, mut scan: Scan, NoRoom(why): NoRoom) -> Result<(), StoreError> {
        let whole = self.inner.settings.patience.whole.as_secs();
        scan.evidence.gap(GapKind::Sandbox, format!("nobody has had a place for {whole} s: {why}"));
        self.state().running.remove(&scan.id);
        // Those behind it are as old, or will be.
        self.may_ask(|room, now| room.ask_again(now));
        self.settle(Ingested { scan, alerts: vec![] }, false).await
    }

    async fn put_back(&self, mut scan: Scan, NoRoom(why): NoRoom) -> Result<(), StoreError> {
        let told = self.tell_why(&mut scan, why).await;
        let is_cancelled = {
            let mut state = self.state();
            let is_cancelled = state.running.remove(&scan.id).is_some_and(|running| running.by_user);
            if !is_cancelled {
                state.queue.put_back(scan.owner.clone(), scan.id.clone());
            }
            is_cancelled
        };
        self.inner.wake.notify_one();
        if is_cancelled { self.cancel_queued(scan).await } else { told }
    }

    async fn tell_why(&self, scan: &mut Scan, why: String) -> Result<(), StoreError> {
        let reason = format!("waits for a place: {why}");
        if scan.reason == reason {
            return Ok(());
        }
        tracing::info!(scan = %scan.id, why, "waits for a place");
        scan.reason = reason;
        self.put_patiently(scan).await?;
        self.tell_state(scan);
        Ok(())
    }
}
