//! Judge again: gives the alerts of stored scans to the filters of now. What was seen does not change, nor does the
//! state; decisions, counts and the filters that judged do.
//!
//! It goes from the newest scan to the oldest, page by page, and its place is stored after each: what a host did not end, the
//! next one goes on with. Scans of a page that was begun are then judged once more, with the same outcome.

use std::sync::PoisonError;

use lanner_core::{Nanos, Scan, ScanId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::ports::StoreError;
use super::settle::counts;
use super::{Scans, now};

/// How far a rejudgement is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A rejudgement as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejudgement {
    progress: Rejudged,
    /// All scans from this one on have been judged again.
    before: Option<ScanId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rejudgement is running already: ask for its progress")]
pub struct AlreadyRunning;

const PAGE: usize = 50;

impl Rejudgement {
    pub(crate) fn begun(since: Nanos) -> Self {
        Self { progress: Rejudged { since, started: now(), ..Rejudged::default() }, before: None }
    }
}

impl Scans {
    /// The last rejudgement, if there was one.
    pub fn rejudged(&self) -> Option<Rejudged> {
        self.progress().clone()
    }

    /// Takes the place of the one rejudgement that may run. [`rejudge`](Self::rejudge) does the work.
    pub fn begin_rejudge(&self, since: Nanos) -> Result<Rejudgement, AlreadyRunning> {
        let mut progress = self.progress();
        if progress.as_ref().is_some_and(|p| p.ended.is_none()) {
            return Err(AlreadyRunning);
        }
        let begun = Rejudgement::begun(since);
        *progress = Some(begun.progress.clone());
        Ok(begun)
    }

    /// At the start: what is known of the last rejudgement, and the rest of it if an earlier host did not end it.
    pub async fn resume_rejudge(&self) -> Result<Option<Rejudgement>, StoreError> {
        let stored = self.store().rejudgement().await?;
        *self.progress() = stored.as_ref().map(|r| r.progress.clone());
        Ok(stored.filter(|r| r.progress.ended.is_none()))
    }

    /// Newest first, until `stop`; then the rest is for the next start.
    pub async fn rejudge(self, mut it: Rejudgement, stop: CancellationToken) {
        let reason = match self.rejudge_all(&mut it, &stop).await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => String::new(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a rejudgement broke off");
                "the store failed".to_owned()
            }
        };
        self.note(|p| (p.ended, p.reason) = (Some(now()), reason));
        if let Err(error) = self.keep(&mut it).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a rejudgement's end is not stored");
        }
    }

    async fn rejudge_all(&self, it: &mut Rejudgement, stop: &CancellationToken) -> Result<(), StoreError> {
        let since = it.progress.since;
        loop {
            self.keep(it).await?;
            let page = self.store().list(None, it.before.clone(), PAGE).await?;
            let Some(last) = page.last().map(|scan| scan.id.clone()) else { return Ok(()) };
            for scan in page {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if scan.state.is_final() && scan.ended.is_some_and(|e| e >= since) {
                    self.rejudge_one(scan).await?;
                }
            }
            it.before = Some(last);
        }
    }

    /// Stores how far it is.
    async fn keep(&self, it: &mut Rejudgement) -> Result<(), StoreError> {
        if let Some(progress) = self.progress().clone() {
            it.progress = progress;
        }
        self.store().put_rejudgement(it.clone()).await
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
