//! Observe: takes scans from the queue, gives each to the runner, and follows it to its end.
//!
//! One loop owns all running scans. When the host stops, queued scans stay on disk for the next start, and so do running ones
//! whose runner left a passage to them. The others are ended: what a package did after we looked away cannot be vouched for.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lanner_core::evidence::GapKind;
use lanner_core::{Scan, ScanId, ScanState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ingest::Ingest;
use super::ports::{About, Job, Judge, Seen};
use super::witness::{self, Desk, Fence, Parcels, Watch};
use super::{Running, Scans, now};

/// Reports on their way from the runner: bounded, so that a flood slows the package and not the host's memory.
const REPORTS: usize = 256;
/// How many earlier scans of a subject a filter hears of.
const SEEN_SCANS: usize = 50;

impl Scans {
    /// Runs scans until `stop`; returns when the last running one has been settled.
    pub async fn run(self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            if stop.is_cancelled() {
                self.stop_accepting();
            }
            while !stop.is_cancelled() {
                let is_free = running.len() < self.inner.settings.parallel;
                let Some((id, cancel, parcels)) = self.next(is_free) else { break };
                running.push(self.clone().observe(id, cancel, stop.clone(), parcels));
            }
            tokio::select! {
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = self.inner.wake.notified(), if !stop.is_cancelled() => {}
                Some(()) = running.next() => {}
                else => return,
            }
        }
    }

    fn next(&self, is_free: bool) -> Option<(ScanId, CancellationToken, Parcels)> {
        let mut state = self.state();
        let left = state.left.pop_front();
        let id = left.or_else(|| is_free.then(|| state.queue.pop()).flatten())?;
        let cancel = CancellationToken::new();
        let (watch, parcels) = Watch::new();
        state.running.insert(id.clone(), Running { cancel: cancel.clone(), by_user: false, watch });
        Some((id, cancel, parcels))
    }

    #[tracing::instrument(skip_all, fields(scan = %id))]
    async fn observe(self, id: ScanId, cancel: CancellationToken, stop: CancellationToken, parcels: Parcels) {
        if let Err(error) = self.observe_fallibly(&id, cancel, stop, Desk::new(parcels)).await {
            // The scan stays unfinished on disk; `recover` gives it its answer at the next start.
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed while a scan ran");
        }
        self.state().running.remove(&id);
    }

    async fn observe_fallibly(
        &self,
        id: &ScanId,
        cancel: CancellationToken,
        stop: CancellationToken,
        mut desk: Desk,
    ) -> Result<(), super::StoreError> {
        let Some(scan) = self.store().get(id.clone()).await? else { return Ok(()) };
        let goes_on = scan.state == ScanState::Running && scan.passage.is_some();
        if !goes_on && !scan.state.may_become(ScanState::Running) {
            return Ok(());
        }
        let scan = if goes_on { scan } else { self.begun(scan).await? };
        let judge = self.session(&scan).await?;
        let (reports, mut received) = mpsc::channel(REPORTS);
        let source = scan.source.as_ref().map(|s| self.inner.ports.blob.path(s));
        let fence = Fence::new(self.clone(), id.clone());
        let mut ingest = Ingest::new(self.clone(), scan.clone(), judge);
        if goes_on {
            ingest.take_back(self.store().alerts(id.clone()).await?);
        }
        let job = Job { scan, source, fence, stored: ingest.stored() };
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
                        return Ok(());
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
        self.settle(ingest.finish().await, by_user).await
    }

    async fn begun(&self, mut scan: Scan) -> Result<Scan, super::StoreError> {
        scan.state = ScanState::Running;
        scan.started = Some(now());
        if self.inner.settings.witness.is_some() {
            scan.evidence.sensors.push(witness::required());
        }
        self.put_patiently(&scan).await?;
        self.tell_state(&scan);
        Ok(scan)
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
