//! Recover: at the start, gives every unfinished scan of an earlier life a way to its answer.
//!
//! A queued scan is queued again: nothing of its package has run. A running one ends `incomplete`: its package has
//! acted, and what it did after the host was gone nobody saw. None is left hanging.

use lanner_core::ScanState;
use lanner_core::evidence::GapKind;
use tokio::sync::broadcast;

use super::ports::StoreError;
use super::{LISTENER_LAG, Scans, now};

impl Scans {
    /// Called once, before the first submission is accepted.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let unfinished = self.store().unfinished().await?;
        let ran = unfinished.iter().filter(|s| s.state == ScanState::Running).map(|s| s.id.clone()).collect();
        self.inner.ports.runner.sweep(ran).await;
        for mut scan in unfinished {
            if scan.state == ScanState::Queued {
                let (listeners, _) = broadcast::channel(LISTENER_LAG);
                let mut state = self.state();
                state.queue.push_back(scan.id.clone());
                state.listeners.insert(scan.id, listeners);
                continue;
            }
            scan.evidence.gap(GapKind::HostRestarted, "");
            scan.state = ScanState::Incomplete;
            scan.reason = scan.evidence.gaps.first().map(ToString::to_string).unwrap_or_default();
            scan.ended = Some(now());
            let alerts = self.store().alerts(scan.id.clone()).await?;
            scan.counts = super::settle::counts(&scan, &alerts);
            tracing::warn!(scan = %scan.id, "was running when the host ended: incomplete");
            self.store().put(scan).await?;
        }
        self.inner.wake.notify_one();
        Ok(())
    }
}
