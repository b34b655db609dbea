//! A trial: what a filter would change about alerts whose answer nobody waits for: a fixed set, and the last stored scans.

use std::collections::BTreeMap;

use lanner_core::{Alert, Grant, JudgedAlert, Priority, ScanId};
use serde::{Deserialize, Serialize};

use super::member::Member;
use super::ports::Difference;
use super::set::{BATCH, difference};
use super::upload::Refusal;
use super::{Policy, convert};
use crate::scan::ports::{About, Seen};

/// The outcome of a trial.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trial {
    /// Stored scans and alerts that were looked at, the fixed set among them.
    pub scans: u64,
    pub alerts: u64,
    /// Alerts that would count otherwise.
    pub changed: u64,
    /// The first of them.
    pub changes: Vec<Difference>,
}

const FIXED: &str = include_str!("trial.json");
const MAX_ALERTS: u64 = 5000;
const SHOWN: usize = 50;
/// The name of the fixed set, where a scan's id stands.
const FIXED_SCAN: &str = "fixed";

impl Policy {
    /// Fails if the filter fails on any batch.
    pub(super) async fn trial(&self, member: &Member) -> Result<Trial, Refusal> {
        let mut trial = Trial::default();
        let unjudged = fixed().into_iter().map(JudgedAlert::unjudged).collect();
        trial.add(member, FIXED_SCAN, &about(), unjudged).await.map_err(Refusal::Trial)?;
        let scans = self.inner.history.list(None, None, self.inner.settings.trial_scans).await?;
        for scan in scans.into_iter().filter(|s| s.state.is_final()) {
            let alerts = self.inner.history.alerts(scan.id.clone()).await?;
            if trial.alerts + alerts.len() as u64 > MAX_ALERTS {
                break;
            }
            let about = About {
                scan: scan.id.clone(),
                manager: scan.spec.manager.clone(),
                subject: scan.spec.subject.label(),
                seen: Seen::new(),
            };
            trial.add(member, scan.id.as_str(), &about, alerts).await.map_err(Refusal::Trial)?;
        }
        Ok(trial)
    }
}

impl Trial {
    async fn add(
        &mut self,
        member: &Member,
        name: &str,
        about: &About,
        alerts: Vec<JudgedAlert>,
    ) -> Result<(), String> {
        self.scans += 1;
        self.alerts += alerts.len() as u64;
        let found = compare(member, name, about, alerts).await?;
        self.changed += found.len() as u64;
        let room = SHOWN.saturating_sub(self.changes.len());
        self.changes.extend(found.into_iter().take(room));
        Ok(())
    }
}

/// What would change about one scan's alerts if this filter judged, in place of an earlier one of its name.
pub(super) async fn compare(
    member: &Member,
    name: &str,
    about: &About,
    now: Vec<JudgedAlert>,
) -> Result<Vec<Difference>, String> {
    let mut then: Vec<JudgedAlert> = Vec::with_capacity(now.len());
    for chunk in now.chunks(BATCH) {
        let alerts: Vec<Alert> = chunk.iter().map(|j| j.alert.clone()).collect();
        let decisions = member.ask(&convert::batch(about, &alerts)).await?;
        for (judged, decision) in chunk.iter().zip(decisions) {
            // What the others decided stands, and so does what was overruled of it.
            let granted = Grant { percent: 100, priority: Priority::Emergency };
            let others = judged.decisions.iter().filter(|d| d.filter != decision.filter).cloned();
            let mut all: Vec<_> = others.map(|d| (d, granted)).collect();
            all.push((decision, member.revision.spec.may_suppress_up_to));
            let mut alert = JudgedAlert::unjudged(judged.alert.clone());
            alert.decide(all);
            then.push(alert);
        }
    }
    let grants =
        BTreeMap::from([(member.revision.name.to_string(), member.revision.spec.may_suppress_up_to)]);
    lanner_core::decision::enforce_shares(&mut then, &grants);
    let pairs = now.iter().zip(&then);
    Ok(pairs.filter_map(|(now, then)| difference(name, now, then, then.decisions.last())).collect())
}

/// Alerts as scans of known packages gave them, and some that no scan gives: empty, long, not ASCII.
pub(super) fn fixed() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = serde_json::from_str(FIXED).unwrap_or_default();
    for (number, alert) in (1..).zip(&mut alerts) {
        alert.id = number;
    }
    alerts
}

pub(super) fn about() -> About {
    About { scan: ScanId::new(0, [0; 10]), manager: "npm".into(), subject: "trial".into(), seen: Seen::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_set_can_be_read_and_has_what_trips_filters() {
        let alerts = fixed();
        assert!(alerts.len() >= 12);
        assert!(alerts.iter().any(|a| a.ancestry.is_empty() && a.output_fields.is_empty()));
        assert!(alerts.iter().any(|a| a.output.len() > 4000));
        assert!(alerts.iter().any(|a| !a.output.is_ascii()));
        assert!(alerts.iter().any(|a| a.package.is_none()) && alerts.iter().any(|a| a.package.is_some()));
    }
}
