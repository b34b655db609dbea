//! Late: an alert that came after its scan's end is judged by the filters of now and kept with the scan.
//!
//! The scan's state stays what it is; its verdict counts the alert. Who sent it, and why so late, is not known here.

use lanner_core::agree::{self, family};
use lanner_core::decision::enforce_shares;
use lanner_core::{Alert, JudgedAlert, Nanos};

use super::Scans;
use super::ingest::judge_whole;
use super::ports::StoreError;
use super::settle::counts;

/// Why an alert for a scan that no longer runs was not added.
#[derive(Debug, thiserror::Error)]
pub enum LateError {
    #[error("there is no such scan")]
    Unknown,
    #[error("the scan is about to end: try again")]
    NotYet,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scans {
    /// Keeps the alert with its scan, unless it is there already.
    pub async fn late(&self, id: &lanner_core::ScanId, mut alert: Alert) -> Result<(), LateError> {
        let mut scan = self.store().get(id.clone()).await?.ok_or(LateError::Unknown)?;
        if !scan.state.is_final() {
            return Err(LateError::NotYet);
        }
        let mut alerts = self.store().alerts(id.clone()).await?;
        let same = |a: &Alert| (a.time, &a.rule, &a.output) == (alert.time, &alert.rule, &alert.output);
        if alerts.iter().any(|judged| same(&judged.alert)) {
            return Ok(());
        }
        if let Some(known) = agreeing(&mut alerts, &alert) {
            again(&mut known.alert, &alert);
            return Ok(self.store().put_alerts(id.clone(), vec![known.clone()]).await?);
        }
        alert.id = alerts.iter().map(|judged| judged.alert.id).max().unwrap_or_default() + 1;
        let mut judge = self.session(&scan).await?;
        let known = alerts.len();
        alerts.extend(judge_whole(&mut *judge, &mut scan, vec![alert]).await);
        // What came in time counts too: a filter must not get round its share by one alert at a time.
        let mut changed = enforce_shares(&mut alerts, &judge.grants());
        changed.extend(known..alerts.len());
        let changed = changed.into_iter().filter_map(|place| alerts.get(place)).cloned().collect();
        self.store().put_alerts(id.clone(), changed).await?;
        for filter in judge.filters() {
            if !scan.filters.contains(&filter) {
                scan.filters.push(filter);
            }
        }
        scan.counts = counts(&scan, &alerts);
        Ok(self.store().put(scan).await?)
    }
}

/// Counts what was not counted yet: a late alert may be delivered twice.
fn again(known: &mut Alert, late: &Alert) {
    let before = known.also_seen_by.iter().find(|w| w.sensor == late.sensor);
    let (count, until) = before.map_or((0, Nanos::MIN), |w| (w.count, w.last_time));
    if late.last_time > until {
        known.seen_by(&late.sensor, count + late.count, late.last_time);
    }
}

/// The alert by which another sensor told of the same.
fn agreeing<'a>(alerts: &'a mut [JudgedAlert], late: &Alert) -> Option<&'a mut JudgedAlert> {
    let key = agree::key(late)?;
    let other = |a: &Alert| family(&a.sensor) != family(&late.sensor) && agree::key(a).as_ref() == Some(&key);
    alerts.iter_mut().find(|judged| other(&judged.alert))
}
