//! Observe: takes scans from the queue, gives each to the runner, and follows it to its end.
//!
//! One loop owns all running scans. When the host stops, queued scans stay on disk for the next start, and so do running ones
//! whose runner left a passage to them. The others are ended: what a package did after we looked away cannot be vouched for.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lanner_core::evidence::GapKind;
use lanner_core::{Scan, ScanId, ScanState};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ingest::Ingest;
use super::place::Placed;
use super::ports::{About, Job, Judge, NoRoom, Seen};
use super::witness::{self, Desk, Fence, Parcels, Watch};
use super::{Running, Scans, now};

/// Reports on their way from the runner: bounded, so that a flood slows the package and not the host's memory.
const REPORTS: usize = 256;
/// How many earlier scans of a subject a filter hears of.
const SEEN_SCANS: usize = 50;

/// How a scan was left.
enum Watched {
    /// It is over, or another life of the host goes on with it.
    Over,
    NoRoom(Box<Scan>, NoRoom),
}

impl Scans {
    /// Runs scans until `stop`; returns when the last running one has been settled.
    pub async fn run(self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            if stop.is_cancelled() {
                self.stop_accepting();
            }
            while !stop.is_cancelled() {
                let Some((id, cancel, parcels)) = self.next() else { break };
                running.push(self.clone().observe(id, cancel, stop.clone(), parcels));
            }
            tokio::select! {
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = self.inner.wake.notified(), if !stop.is_cancelled() => {}
                () = self.room_again(), if !stop.is_cancelled() => {}
                Some(()) = running.next() => {}
                else => return,
            }
        }
    }

    fn next(&self) -> Option<(ScanId, CancellationToken, Parcels)> {
        let mut state = self.state();
        let id = match state.left.pop_front() {
            Some(left) => left,
            None => state.next_queued()?,
        };
        let cancel = CancellationToken::new();
        let (watch, parcels) = Watch::new();
        state.running.insert(id.clone(), Running { cancel: cancel.clone(), by_user: false, watch });
        Some((id, cancel, parcels))
    }

    #[tracing::instrument(skip_all, fields(scan = %id))]
    async fn observe(self, id: ScanId, cancel: CancellationToken, stop: CancellationToken, parcels: Parcels) {
        match self.observe_fallibly(&id, cancel, stop, Desk::new(parcels)).await {
            Ok(Watched::Over) => {}
            // From there it may run again at any moment: it is no longer ours.
            Ok(Watched::NoRoom(scan, why)) => return self.wait_again(*scan, why).await,
            // The scan stays unfinished on disk; `recover` gives it its answer at the next start.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store failed while a scan ran"
                );
            }
        }
        self.state().running.remove(&id);
    }

    async fn observe_fallibly(
        &self,
        id: &ScanId,
        cancel: CancellationToken,
        stop: CancellationToken,
        mut desk: Desk,
    ) -> Result<Watched, super::StoreError> {
        let Some(scan) = self.store().get(id.clone()).await? else { return Ok(Watched::Over) };
        let goes_on = scan.state == ScanState::Running && scan.passage.is_some();
        if !goes_on && !scan.state.may_become(ScanState::Running) {
            return Ok(Watched::Over);
        }
        let (scan, judge) = if goes_on {
            let judge = self.session(&scan).await?;
            (scan, judge)
        } else {
            match self.placed(&scan, &cancel, &stop, &mut desk).await {
                Placed::Runs => self.begun(scan).await?,
                Placed::Stops => return Ok(Watched::Over),
                Placed::NoRoom(why) => return Ok(Watched::NoRoom(Box::new(scan), why)),
            }
        };
        let (reports, mut received) = mpsc::channel(REPORTS);
        let mut ingest = Ingest::new(self.clone(), scan.clone(), judge);
        if goes_on {
            ingest.take_back(self.store().alerts(id.clone()).await?);
        }
        let job = self.job(scan, ingest.stored());
        let mut run = self.inner.ports.runner.run(job, reports, cancel.clone());
        let mut ended = false;
        // The runner and the ingest go on together in this one task: a full channel makes the runner wait.
        loop {
            tokio::select! {
                () = &mut run, if !ended => ended = true,
                report = received.recv() => match report {
                    Some(report) => ingest.take(report, &mut received).await,
                    None if ended => break,
                    None => { run.as_mut().await; ended = true; }
                },
                Some(parcel) = desk.parcels.recv() => desk.take(parcel, &mut ingest).await,
                () = stop.cancelled(), if !ended && !cancel.is_cancelled() => {
                    if ingest.has_passage() && self.inner.settings.witness.is_none() {
                        tracing::info!("the host stops; the scan goes on without it");
                        return Ok(Watched::Over);
                    }
                    cancel.cancel();
                }
            }
        }
        self.await_witness(id, &mut ingest, &mut desk).await;
        if cancel.is_cancelled() && !self.ended_by_user(id) {
            ingest.gap(GapKind::HostRestarted, "the host stopped while the scan ran");
        }
        let by_user = self.ended_by_user(id);
        self.settle(ingest.finish().await, by_user).await?;
        Ok(Watched::Over)
    }

    pub(super) fn job(&self, scan: Scan, stored: watch::Receiver<u64>) -> Job {
        let source = scan.source.as_ref().map(|source| self.inner.ports.blob.path(source));
        let fence = Fence::new(self.clone(), scan.id.clone());
        Job { scan, source, fence, stored }
    }

    /// One that has a place, and leaves it if it cannot begin.
    async fn begun(&self, scan: Scan) -> Result<(Scan, Box<dyn Judge>), super::StoreError> {
        let begun = self.begin(scan.clone()).await;
        if begun.is_err() {
            self.leave_place(scan).await;
        }
        begun
    }

    async fn begin(&self, mut scan: Scan) -> Result<(Scan, Box<dyn Judge>), super::StoreError> {
        let judge = self.session(&scan).await?;
        scan.state = ScanState::Running;
        scan.started = Some(now());
        scan.reason.clear();
        if self.inner.settings.witness.is_some() {
            scan.evidence.sensors.push(witness::required());
        }
        self.put_patiently(&scan).await?;
        self.tell_state(&scan);
        Ok((scan, judge))
    }

    /// The filters of this moment, for one scan.
    pub(super) async fn session(&self, scan: &Scan) -> Result<Box<dyn Judge>, super::StoreError> {
        let seen = match scan.spec.subject.key() {
            Some(subject) => {
                let (owner, before) = (scan.owner.clone(), scan.id.clone());
                self.store().seen(owner, subject, before, SEEN_SCANS).await?
            }
            None => Seen::new(),
        };
        let about = About {
            scan: scan.id.clone(),
            manager: scan.spec.manager.clone(),
            subject: scan.spec.subject.label(),
            seen,
        };
        Ok(self.inner.ports.filter.session(about))
    }

    fn ended_by_user(&self, id: &ScanId) -> bool {
        self.state().running.get(id).is_some_and(|r| r.by_user)
    }
}
