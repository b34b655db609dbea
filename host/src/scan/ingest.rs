//! Ingest: turns reports into a scan's evidence and alerts, judged and stored in batches.
//!
//! An alert is judged as soon as no further one waits, and in batches while they come fast. Whatever cannot be stored
//! becomes a gap: a scan must not look clean because the disk was full.

use std::collections::{BTreeSet, HashMap};

use lanner_core::agree;
use lanner_core::evidence::{BUILTIN, GapKind};
use lanner_core::{Alert, FilterFailure, JudgedAlert, PhaseResult, Scan, SensorReport};
use tokio::sync::{mpsc, watch};

use super::ports::{Judge, Report};
use super::{ScanEvent, Scans};

/// Alerts judged at once.
const BATCH: usize = 256;
/// Filter failures kept on a scan.
const MAX_FAILURES: usize = 32;
/// Distinct alerts of one scan kept in all; more are counted as a gap. The sensor's own limit is lower.
const MAX_ALERTS: usize = 20_000;

pub(super) struct Ingest {
    scans: Scans,
    scan: Scan,
    /// Every alert so far, by its number minus one.
    alerts: Vec<JudgedAlert>,
    /// The sensor's number for an alert, to ours.
    numbers: HashMap<(String, u64), u64>,
    /// The first alert of its kind, for what another sensor says of the same.
    agreed: HashMap<agree::Key, u64>,
    unjudged: Vec<Alert>,
    /// Alerts that changed since they were stored.
    dirty: BTreeSet<u64>,
    /// The filters, as they were when the scan began.
    judge: Box<dyn Judge>,
    /// The number of the agent's stream up to which all is applied, and, for the runner, stored.
    taken: u64,
    stored: watch::Sender<u64>,
}

/// What a scan was when its last report had come.
pub(super) struct Ingested {
    pub(super) scan: Scan,
    pub(super) alerts: Vec<JudgedAlert>,
}

impl Ingest {
    pub(super) fn new(scans: Scans, mut scan: Scan, judge: Box<dyn Judge>) -> Self {
        let (alerts, numbers, agreed, unjudged, dirty) = Default::default();
        scan.filters = judge.filters();
        let taken = scan.passage.as_ref().map_or(0, |passage| passage.taken);
        let stored = watch::Sender::new(taken);
        Self { scans, scan, alerts, numbers, agreed, unjudged, dirty, judge, taken, stored }
    }

    /// Takes back what an earlier life of the host stored. All of it is judged again: one set of filters judges a scan from its
    /// first alert to its last.
    pub(super) fn take_back(&mut self, stored: Vec<JudgedAlert>) {
        self.scan.filter_failures.clear();
        for JudgedAlert { alert, .. } in stored {
            // The sensor numbers from one without a hole, and there was no other.
            self.numbers.insert((BUILTIN.to_owned(), alert.id), alert.id);
            if let Some(key) = agree::key(&alert) {
                self.agreed.entry(key).or_insert(alert.id);
            }
            self.unjudged.push(alert);
        }
    }

    pub(super) fn stored(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    /// Whether the next life of the host can go on with it.
    pub(super) fn has_passage(&self) -> bool {
        self.scan.passage.is_some() && self.scan.evidence.complete()
    }

    pub(super) fn gap(&mut self, kind: GapKind, detail: &str) {
        self.scan.evidence.gap(kind, detail);
    }

    /// Takes one report and what already waits behind it.
    pub(super) async fn take(&mut self, first: Report, more: &mut mpsc::Receiver<Report>) {
        let mut next = Some(first);
        let mut changed = false;
        while let Some(report) = next {
            // Listeners hear of things in the order in which they happened: an alert before the end of its phase.
            let of_alerts =
                matches!(report, Report::Alert(_) | Report::AlertRepeated { .. } | Report::Taken(_));
            if !of_alerts || self.unjudged.len() >= BATCH {
                self.judge().await;
            }
            changed |= self.apply(report);
            next = more.try_recv().ok();
        }
        self.judge().await;
        self.flush(changed).await;
    }

    /// Applies a report; whether the scan itself (not only its alerts) changed.
    fn apply(&mut self, report: Report) -> bool {
        match report {
            Report::Started { isolation } => self.scan.isolation = Some(isolation),
            Report::StartMark { sensor } => self.sensor(&sensor).start_mark = true,
            Report::EndMark { sensor } => self.sensor(&sensor).end_mark = true,
            Report::Quiet { sensor, events, processes } => {
                let report = self.sensor(&sensor);
                report.events = events;
                report.processes = processes;
            }
            Report::PhaseStarted { name, time } => self.phase_started(name, time),
            Report::PhaseEnded(result) => self.phase_ended(result),
            Report::Alert(alert) => {
                self.alert(*alert);
                return false;
            }
            Report::AlertRepeated { sensor, id, count, last_time } => {
                self.repeated(sensor, id, count, last_time);
                return false;
            }
            Report::Gap(gap) => self.scan.evidence.gap(gap.kind, &gap.detail),
            Report::Network(attempts) => self.scan.network = attempts,
            Report::Passage(note) => self.scan.passage.get_or_insert_default().note = note,
            Report::Taken(number) => {
                self.taken = number;
                return false;
            }
        }
        true
    }

    fn sensor(&mut self, name: &str) -> &mut SensorReport {
        let sensors = &mut self.scan.evidence.sensors;
        let at = sensors.iter().position(|s| s.name == name).unwrap_or_else(|| {
            sensors.push(SensorReport { name: name.to_owned(), ..SensorReport::default() });
            sensors.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found or pushed one line above")]
        &mut sensors[at]
    }

    fn phase_started(&mut self, name: String, time: lanner_core::Nanos) {
        self.tell_phase(&name, time, None, None);
        let (ended, exit_code, signal, output_tail) = (None, None, None, String::new());
        self.scan.phases.push(PhaseResult { name, started: time, ended, exit_code, signal, output_tail });
    }

    fn phase_ended(&mut self, result: PhaseResult) {
        self.tell_phase(&result.name, result.started, result.ended, result.exit_code);
        match self.scan.phases.iter_mut().find(|p| p.name == result.name && p.ended.is_none()) {
            Some(phase) => {
                let started = phase.started;
                *phase = PhaseResult { started, ..result };
            }
            None => self.scan.evidence.gap(GapKind::Protocol, "a phase ended that had not started"),
        }
    }

    fn tell_phase(&self, name: &str, started: i64, ended: Option<i64>, exit_code: Option<i32>) {
        let scan = self.scan.id.clone();
        let event = ScanEvent::Phase { scan, name: name.to_owned(), started, ended, exit_code };
        self.scans.tell(&self.scan.id, event);
    }

    fn alert(&mut self, mut alert: Alert) {
        if self.numbers.len() >= MAX_ALERTS {
            self.scan.evidence.gap(GapKind::Limit, format!("more than {MAX_ALERTS} distinct alerts"));
            return;
        }
        if let Some(&number) = self.numbers.get(&(alert.sensor.clone(), alert.id)) {
            // Sent again after a restart: the host could not say that it had stored it.
            if self.numbered(number).is_some_and(|k| k.time == alert.time && k.rule == alert.rule) {
                return;
            }
            self.scan.evidence.gap(GapKind::Protocol, "two alerts have the same number");
        }
        let key = agree::key(&alert);
        if let Some(&number) = key.as_ref().and_then(|key| self.agreed.get(key))
            && let Some(known) = self.numbered(number)
            && !known.is_seen_by(&alert.sensor)
        {
            known.seen_by(&alert.sensor, alert.count, alert.last_time);
            self.numbers.insert((alert.sensor, alert.id), number);
            self.dirty.insert(number);
            return;
        }
        let number = (self.alerts.len() + self.unjudged.len()) as u64 + 1;
        if let Some(key) = key {
            self.agreed.entry(key).or_insert(number);
        }
        self.numbers.insert((alert.sensor.clone(), alert.id), number);
        alert.id = number;
        self.unjudged.push(alert);
    }

    fn repeated(&mut self, sensor: String, id: u64, count: u64, last_time: i64) {
        let Some(&number) = self.numbers.get(&(sensor.clone(), id)) else {
            self.scan.evidence.gap(GapKind::Protocol, "an alert was repeated that had not come");
            return;
        };
        let Some(alert) = self.numbered(number) else { return };
        if alert.sensor == sensor {
            alert.count = count;
            alert.last_time = last_time;
        } else {
            alert.seen_by(&sensor, count, last_time);
        }
        self.dirty.insert(number);
    }

    /// The alert of this number, judged or waiting to be.
    fn numbered(&mut self, number: u64) -> Option<&mut Alert> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        match place.checked_sub(self.alerts.len()) {
            None => self.alerts.get_mut(place).map(|judged| &mut judged.alert),
            Some(place) => self.unjudged.get_mut(place),
        }
    }

    async fn judge(&mut self) {
        if self.unjudged.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.unjudged);
        let alerts = judge_whole(&mut *self.judge, &mut self.scan, batch).await;
        for alert in alerts {
            self.tell_alert(&alert);
            self.dirty.insert(alert.alert.id);
            self.alerts.push(alert);
        }
    }

    fn tell_alert(&self, alert: &JudgedAlert) {
        let scan = self.scan.id.clone();
        self.scans.tell(&self.scan.id, ScanEvent::Alert { scan, alert: Box::new(alert.clone()) });
    }

    /// Only now is it known what part of the scan's alerts each filter suppressed.
    fn enforce_shares(&mut self) {
        for place in lanner_core::decision::enforce_shares(&mut self.alerts, &self.judge.grants()) {
            if let Some(alert) = self.alerts.get(place) {
                self.tell_alert(alert);
                self.dirty.insert(alert.alert.id);
            }
        }
    }

    async fn flush(&mut self, scan_changed: bool) {
        let numbers = std::mem::take(&mut self.dirty);
        let changed: Vec<JudgedAlert> = numbers
            .iter()
            .filter_map(|&n| self.alerts.get(usize::try_from(n).ok()?.checked_sub(1)?))
            .cloned()
            .collect();
        if !changed.is_empty()
            && let Err(error) = self.scans.store().put_alerts(self.scan.id.clone(), changed).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "alerts could not be stored");
            self.scan.evidence.gap(GapKind::Store, "alerts");
        }
        let taken = self.scan.passage.as_mut().filter(|passage| passage.taken != self.taken);
        let has_taken = taken.map(|passage| passage.taken = self.taken).is_some();
        if (scan_changed || has_taken)
            && let Err(error) = self.scans.store().put(self.scan.clone()).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the scan could not be stored");
            self.scan.evidence.gap(GapKind::Store, "the scan");
        }
        // What could not be stored is a gap, and no reason to keep the sensor waiting.
        self.stored.send_replace(self.taken);
    }

    pub(super) async fn finish(mut self) -> Ingested {
        self.judge().await;
        self.enforce_shares();
        self.flush(false).await;
        Ingested { scan: self.scan, alerts: self.alerts }
    }
}

/// Judges a batch; what goes wrong is noted on the scan, and then the alerts are kept.
pub(super) async fn judge_whole(
    judge: &mut dyn Judge,
    scan: &mut Scan,
    batch: Vec<Alert>,
) -> Vec<JudgedAlert> {
    let judged = judge.judge(batch.clone()).await;
    for failure in judged.failures {
        filter_failed(scan, failure);
    }
    // A filter set that loses an alert has failed, whatever it says; the alerts are then kept unjudged.
    if judged.alerts.iter().map(|j| j.alert.id).eq(batch.iter().map(|a| a.id)) {
        return judged.alerts;
    }
    let reason = "the filters did not answer for every alert".into();
    let alerts = batch.len() as u64;
    filter_failed(scan, FilterFailure { filter: "all".into(), digest: String::new(), reason, alerts });
    batch.into_iter().map(JudgedAlert::unjudged).collect()
}

fn filter_failed(scan: &mut Scan, failure: FilterFailure) {
    tracing::warn!(filter = failure.filter, reason = failure.reason, "a filter failed; its alerts are kept");
    let failures = &mut scan.filter_failures;
    let same = |f: &&mut FilterFailure| f.filter == failure.filter && f.reason == failure.reason;
    if let Some(known) = failures.iter_mut().find(same) {
        known.alerts += failure.alerts;
    } else if failures.len() < MAX_FAILURES {
        failures.push(failure);
    }
}
