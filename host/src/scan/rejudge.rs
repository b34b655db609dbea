//! Judge again: gives the alerts of stored scans to the filters of now. What was seen does not change, nor does the
//! state; decisions, counts and the filters that judged do.

use std::sync::PoisonError;

use lanner_core::{Nanos, Scan};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::ports::StoreError;
use super::settle::counts;
use super::{Scans, now};

/// How far a rejudgement is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejudged {
    /// Scans that ended at this time or later are judged again.
    pub since: Nanos,
    pub started: Nanos,
    pub ended: Option<Nanos>,
    pub scans: u64,
    pub alerts: u64,
    /// Alerts that count otherwise now.
    pub changed: u64,
    /// Scans on which a filter failed.
    pub failed: u64,
    /// Why it ended early; empty if it did not.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rejudgement is running already: ask for its progress")]
pub struct AlreadyRunning;

const PAGE: usize = 50;

impl Scans {
    /// The last rejudgement of this host's life, if there was one.
    pub fn rejudged(&self) -> Option<Rejudged> {
        self.progress().clone()
    }

    /// Takes the place of the one rejudgement that may run. [`rejudge`](Self::rejudge) does the work.
    pub fn begin_rejudge(&self, since: Nanos) -> Result<(), AlreadyRunning> {
        let mut progress = self.progress();
        if progress.as_ref().is_some_and(|p| p.ended.is_none()) {
            return Err(AlreadyRunning);
        }
        *progress = Some(Rejudged { since, started: now(), ..Rejudged::default() });
        Ok(())
    }

    /// Newest first, until `stop`.
    pub async fn rejudge(self, since: Nanos, stop: CancellationToken) {
        let reason = match self.rejudge_all(since, &stop).await {
            Ok(()) if stop.is_cancelled() => "the host stopped".to_owned(),
            Ok(()) => String::new(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a rejudgement broke off");
                "the store failed".to_owned()
            }
        };
        self.note(|p| (p.ended, p.reason) = (Some(now()), reason));
    }

    async fn rejudge_all(&self, since: Nanos, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut before = None;
        loop {
            let page = self.store().list(None, before, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            before = Some(last.id.clone());
            for scan in page {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if scan.state.is_final() && scan.ended.is_some_and(|e| e >= since) {
                    self.rejudge_one(scan).await?;
                }
            }
        }
    }

    async fn rejudge_one(&self, mut scan: Scan) -> Result<(), StoreError> {
        let stored = self.store().alerts(scan.id.clone()).await?;
        let mut judge = self.session(&scan).await?;
        let asked: Vec<_> = stored.iter().map(|j| j.alert.clone()).collect();
        let judged = judge.judge(asked).await;
        let whole = judged.alerts.iter().map(|j| j.alert.id).eq(stored.iter().map(|j| j.alert.id));
        if !whole {
            // As at the first judgement: a set that loses an alert decides nothing.
            self.note(|p| p.failed += 1);
            return Ok(());
        }
        let mut alerts = judged.alerts;
        lanner_core::decision::enforce_shares(&mut alerts, &judge.grants());
        let outcome = |j: &lanner_core::JudgedAlert| (j.suppressed(), j.priority());
        let changed: Vec<_> =
            alerts.iter().zip(&stored).filter(|(a, b)| a != b).map(|(a, _)| a.clone()).collect();
        let otherwise = alerts.iter().zip(&stored).filter(|(a, b)| outcome(a) != outcome(b)).count() as u64;
        self.store().put_alerts(scan.id.clone(), changed).await?;
        scan.counts = counts(&scan, &alerts);
        scan.filters = judge.filters();
        let failed = !judged.failures.is_empty();
        scan.filter_failures = judged.failures;
        self.store().put(scan).await?;
        self.note(|p| {
            p.scans += 1;
            p.alerts += alerts.len() as u64;
            p.changed += otherwise;
            p.failed += u64::from(failed);
        });
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Rejudged)) {
        if let Some(progress) = self.progress().as_mut() {
            change(progress);
        }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Option<Rejudged>> {
        self.inner.rejudged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
