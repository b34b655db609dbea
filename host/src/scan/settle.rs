//! Settle: gives a scan its final state, by the pure rule in core.

use lanner_core::{Counts, JudgedAlert, Scan, ScanState};

use super::ingest::Ingested;
use super::ports::StoreError;
use super::{Scans, now};

impl Scans {
    pub(super) async fn settle(&self, ingested: Ingested, by_user: bool) -> Result<(), StoreError> {
        let Ingested { mut scan, alerts } = ingested;
        scan.evidence.close();
        scan.evidence.compare(alerts.iter().map(|judged| &judged.alert));
        scan.counts = counts(&scan, &alerts);
        (scan.state, scan.reason) = if by_user {
            (ScanState::Cancelled, "cancelled while it ran".into())
        } else {
            lanner_core::scan::settle(&scan.evidence, &scan.phases, scan.spec.phases.len())
        };
        scan.ended = Some(now());
        scan.passage = None;
        tracing::info!(state = scan.state.as_str(), reason = scan.reason, kept = scan.counts.kept, "settled");
        self.put_patiently(&scan).await?;
        self.tell_state(&scan);
        Ok(())
    }
}

pub(super) fn counts(scan: &Scan, alerts: &[JudgedAlert]) -> Counts {
    let suppressed = alerts.iter().filter(|a| a.suppressed()).count() as u64;
    Counts {
        kept: alerts.len() as u64 - suppressed,
        suppressed,
        events: scan.evidence.sensors.iter().map(|s| s.events).sum(),
    }
}
