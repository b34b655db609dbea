//! Recover: at the start, gives every unfinished scan of an earlier life a way to its answer.
//!
//! A queued scan is queued again: nothing of its package has run. A running one goes on if its runner left a passage: then
//! its sensor has kept what the host did not take. Any other ends `incomplete`: its package has acted, and what it did after
//! the host was gone nobody saw. None is left hanging.

use lanner_core::evidence::{BUILTIN, GapKind};
use lanner_core::{JudgedAlert, Scan, ScanState};

use super::ports::{Left, StoreError};
use super::{Scans, now};

impl Scans {
    /// Called once, before the first submission is accepted.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let unfinished = self.store().unfinished().await?;
        let (ran, queued): (Vec<_>, Vec<_>) =
            unfinished.into_iter().partition(|s| s.state == ScanState::Running);
        let mut left = Vec::new();
        for scan in ran {
            let alerts = self.store().alerts(scan.id.clone()).await?;
            if self.may_go_on(&scan, &alerts) {
                tracing::info!(scan = %scan.id, "was running when the host ended, and goes on");
                left.push(scan);
            } else {
                self.give_up(scan, &alerts).await?;
            }
        }
        let source = |scan: &Scan| scan.source.as_ref().map(|source| self.inner.ports.blob.path(source));
        let known = left.iter().map(|scan| Left { scan: scan.clone(), source: source(scan) }).collect();
        self.inner.ports.runner.recover(known).await;
        for scan in left.into_iter().chain(queued) {
            let mut state = self.state();
            state.listeners.insert(scan.id.clone(), None);
            match scan.state {
                ScanState::Queued => state.queue.push(scan.owner, scan.id),
                _ => state.left.push_back(scan.id),
            }
        }
        self.inner.wake.notify_one();
        Ok(())
    }

    /// Only where the runner's sensor is the one witness: what another one saw meanwhile is lost.
    fn may_go_on(&self, scan: &Scan, alerts: &[JudgedAlert]) -> bool {
        let alone = |a: &JudgedAlert| a.alert.sensor == BUILTIN && a.alert.also_seen_by.is_empty();
        scan.passage.is_some() && self.inner.settings.witness.is_none() && alerts.iter().all(alone)
    }

    async fn give_up(&self, mut scan: Scan, alerts: &[JudgedAlert]) -> Result<(), StoreError> {
        scan.evidence.gap(GapKind::HostRestarted, "");
        scan.state = ScanState::Incomplete;
        scan.reason = scan.evidence.gaps.first().map(ToString::to_string).unwrap_or_default();
        scan.ended = Some(now());
        scan.passage = None;
        scan.counts = super::settle::counts(&scan, alerts);
        tracing::warn!(scan = %scan.id, "was running when the host ended: incomplete");
        self.store().put(scan).await
    }
}
