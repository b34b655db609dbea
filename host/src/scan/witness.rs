//! Witness: what sensors outside the runner see of a running scan comes in here, and the fence that a runner waits at.
//!
//! A sensor's stream comes in stretches without a break. Where Falco must be a witness, the stretch that reports the
//! start mark is bound to the scan, and only an end mark on that very stretch closes its evidence: then nothing can be
//! missing in between. Which door a stretch came through, and how an alert found its scan, is not known here.

use std::sync::Arc;
use std::time::Duration;

use lanner_core::evidence::{Gap, GapKind};
use lanner_core::fold::{Fold, Folded};
use lanner_core::text::bounded;
use lanner_core::{Alert, Priority, ScanId, SensorReport};
use tokio::sync::{SetOnce, mpsc};

use super::ingest::Ingest;
use super::ports::Report;
use super::{Scans, now};

/// Under this name the witness stands in a scan's evidence.
pub const WITNESS: &str = "falco";
/// The rule of the alert that says that a sensor fell silent.
const SILENCED: &str = "Sensor silenced during scan";
/// Deliveries on their way to a scan.
const DELIVERIES: usize = 1024;
const BATCH: usize = 256;
const MAX_WHY: usize = 200;

/// How long a scan waits for its witness; without it (`None` in the settings) Falco only adds alerts.
#[derive(Clone, Copy, Debug)]
pub struct WitnessPatience {
    pub start: Duration,
    pub end: Duration,
}

/// A part of a sensor's stream without a break in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The sensor's name, as alerts show it.
    pub sensor: String,
    /// Never the same for two stretches of one life of the host.
    pub number: u64,
    /// Alerts arrive in order and none is left out; otherwise it only adds alerts.
    pub vouches: bool,
}

/// An alert for a running scan, and whom to tell when it is stored (or a gap says that it could not be).
pub struct Delivery {
    pub alert: Alert,
    pub stored: Option<Stored>,
}

pub type Stored = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    Start,
    End,
}

/// The fence of one scan, in the hands of its runner.
#[derive(Clone)]
pub struct Fence {
    scans: Scans,
    scan: ScanId,
}

pub(super) enum Parcel {
    Alert(Box<Delivery>),
    Report(Report),
}

pub(super) type Parcels = mpsc::Receiver<Parcel>;

/// What the flow knows of the witnesses of one running scan.
pub(super) struct Watch {
    parcels: mpsc::Sender<Parcel>,
    start: Option<String>,
    end: Option<String>,
    bound: Option<Stretch>,
    broken: bool,
    started: Arc<SetOnce<()>>,
    /// The end mark came, or nothing is left to wait for.
    ended: Arc<SetOnce<()>>,
}

impl Watch {
    pub(super) fn new() -> (Self, Parcels) {
        let (parcels, received) = mpsc::channel(DELIVERIES);
        let (start, end, bound, started, ended) = Default::default();
        (Self { parcels, start, end, bound, broken: false, started, ended }, received)
    }

    /// Nothing can close the evidence any more, so nobody need wait for it.
    fn break_off(&mut self) {
        self.broken = true;
        let _ = self.ended.set(());
    }
}

impl Fence {
    pub(super) fn new(scans: Scans, scan: ScanId) -> Self {
        Self { scans, scan }
    }

    /// From now on this nonce is a mark of the scan. Only the last one given for an edge counts.
    pub fn expect(&self, edge: Edge, nonce: &[u8]) {
        let hex = nonce.iter().map(|b| format!("{b:02x}")).collect();
        if let Some(running) = self.scans.state().running.get_mut(&self.scan) {
            match edge {
                Edge::Start => running.watch.start = Some(hex),
                Edge::End => running.watch.end = Some(hex),
            }
        }
    }

    /// Waits until every witness that must watch has reported the start mark; false if one has not in time, and then
    /// nothing of the package may run.
    pub async fn start_seen(&self) -> bool {
        let Some(patience) = self.scans.inner.settings.witness else { return true };
        let started = self.scans.state().running.get(&self.scan).map(|r| r.watch.started.clone());
        let Some(started) = started else { return false };
        tokio::time::timeout(patience.start, started.wait()).await.is_ok()
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence").field("scan", &self.scan).finish_non_exhaustive()
    }
}

impl Scans {
    pub fn running(&self) -> Vec<ScanId> {
        self.state().running.keys().cloned().collect()
    }

    /// The running scan that this nonce was given out for; a mark that nobody gave out is an alert like any other.
    pub fn expects(&self, nonce: &str) -> Option<ScanId> {
        let state = self.state();
        let mut running = state.running.iter();
        running.find(|(_, r)| r.watch.edge(nonce).is_some()).map(|(id, _)| id.clone())
    }

    /// A mark was seen. One that comes twice, or on a stretch that cannot vouch, changes nothing.
    pub async fn mark(&self, scan: &ScanId, nonce: &str, stretch: &Stretch) {
        let (report, told, parcels) = {
            let mut state = self.state();
            let Some(running) = state.running.get_mut(scan) else { return };
            let watch = &mut running.watch;
            let Some(edge) = watch.edge(nonce).filter(|_| stretch.vouches) else { return };
            let Some((report, told)) = watch.pass(edge, stretch) else { return };
            (report, told, watch.parcels.clone())
        };
        // A closed channel means that the scan has its end already.
        let _ = parcels.send(Parcel::Report(report)).await;
        let _ = told.set(());
    }

    /// Hands an alert to a running scan; gives it back if the scan does not run.
    pub async fn deliver(&self, scan: &ScanId, delivery: Delivery) -> Result<(), Delivery> {
        let parcels = self.state().running.get(scan).map(|r| r.watch.parcels.clone());
        let Some(parcels) = parcels else { return Err(delivery) };
        // A place first: a refused alert is then still in our hands.
        match parcels.reserve().await {
            Ok(place) => place.send(Parcel::Alert(Box::new(delivery))),
            Err(_) => return Err(delivery),
        }
        Ok(())
    }

    /// A stretch broke: whatever the sensor saw from then on is lost. Every scan that it vouched for has a gap, and an
    /// alert, because a package may have done it on purpose.
    pub async fn broken(&self, stretch: &Stretch, why: &str) {
        let detail = format!("{}: {}", stretch.sensor, bounded(why, MAX_WHY));
        let parcels = self.break_off(|bound| bound == stretch);
        for channel in parcels {
            let gap = Gap { kind: GapKind::SensorLost, detail: detail.clone() };
            let alert = silenced(&format!("falco:{}", stretch.sensor), &detail);
            let _ = channel.send(Parcel::Report(Report::Gap(gap))).await;
            let delivery = Box::new(Delivery { alert, stored: None });
            let _ = channel.send(Parcel::Alert(delivery)).await;
        }
    }

    /// A sensor says that it did not see everything, or something of it could not be read. From a door that does not
    /// name its sensor it may be anybody's witness.
    pub async fn blind(&self, stretch: &Stretch, why: &str) {
        let detail = format!("{}: {}", stretch.sensor, bounded(why, MAX_WHY));
        let hit = |bound: &Stretch| !stretch.vouches || bound.sensor == stretch.sensor;
        for channel in self.break_off(hit) {
            let gap = Gap { kind: GapKind::SensorLost, detail: detail.clone() };
            let _ = channel.send(Parcel::Report(Report::Gap(gap))).await;
        }
    }

    /// Alerts were thrown away unread: of this scan, or (`None`) of whichever.
    pub async fn overflowed(&self, scan: Option<&ScanId>, detail: &str) {
        let hit: Vec<_> = {
            let state = self.state();
            let concerned = state.running.iter().filter(|(id, _)| scan.is_none_or(|s| s == *id));
            concerned.map(|(_, r)| r.watch.parcels.clone()).collect()
        };
        for channel in hit {
            let gap = Gap { kind: GapKind::Limit, detail: bounded(detail, MAX_WHY) };
            let _ = channel.send(Parcel::Report(Report::Gap(gap))).await;
        }
    }

    /// Marks every scan bound to such a stretch as broken; where to tell it.
    fn break_off(&self, hit: impl Fn(&Stretch) -> bool) -> Vec<mpsc::Sender<Parcel>> {
        let mut state = self.state();
        let bound = state.running.values_mut().map(|r| &mut r.watch);
        let concerned = bound.filter(|w| w.bound.as_ref().is_some_and(&hit) && !w.is_over());
        concerned
            .map(|watch| {
                watch.break_off();
                watch.parcels.clone()
            })
            .collect()
    }

    /// After the run: waits for the end mark of the witness, then takes what is still on its way.
    pub(super) async fn await_witness(&self, id: &ScanId, ingest: &mut Ingest, desk: &mut Desk) {
        let waits = {
            let state = self.state();
            let watch = state.running.get(id).map(|r| &r.watch);
            // Without an end nonce the run did not come so far, and no mark can come.
            watch.filter(|w| w.bound.is_some() && w.end.is_some()).map(|w| w.ended.clone())
        };
        if let (Some(patience), Some(ended)) = (self.inner.settings.witness, waits) {
            let until_ended = async {
                loop {
                    tokio::select! {
                        biased;
                        () = async { ended.wait().await; } => return,
                        parcel = desk.parcels.recv() => match parcel {
                            Some(parcel) => desk.take(parcel, ingest).await,
                            None => return,
                        }
                    }
                }
            };
            // A mark that misses its time is a gap by name: `Evidence::close` finds it missing.
            let _ = tokio::time::timeout(patience.end, until_ended).await;
        }
        desk.parcels.close();
        while let Some(parcel) = desk.parcels.recv().await {
            desk.take(parcel, ingest).await;
        }
    }
}

impl Watch {
    fn edge(&self, nonce: &str) -> Option<Edge> {
        let is = |expected: &Option<String>| expected.as_deref() == Some(nonce);
        if is(&self.start) {
            Some(Edge::Start)
        } else if is(&self.end) {
            Some(Edge::End)
        } else {
            None
        }
    }

    fn is_over(&self) -> bool {
        self.broken || self.ended.initialized()
    }

    /// What a mark on this stretch means, and the wait that it ends.
    fn pass(&mut self, edge: Edge, stretch: &Stretch) -> Option<(Report, Arc<SetOnce<()>>)> {
        let sensor = WITNESS.to_owned();
        match (edge, &self.bound) {
            (Edge::Start, None) => {
                self.bound = Some(stretch.clone());
                Some((Report::StartMark { sensor }, self.started.clone()))
            }
            (Edge::End, Some(bound)) if bound == stretch && !self.is_over() => {
                Some((Report::EndMark { sensor }, self.ended.clone()))
            }
            // The same sensor, but its stream broke since the start mark.
            (Edge::End, Some(bound)) if bound.sensor == stretch.sensor && !self.is_over() => {
                let detail = format!("{}: its stream broke between the marks", bound.sensor);
                self.broken = true;
                let gap = Gap { kind: GapKind::SensorLost, detail };
                Some((Report::Gap(gap), self.ended.clone()))
            }
            _ => None,
        }
    }
}

/// Where the deliveries of one scan arrive: folds them, and hands them to its ingest in batches.
pub(super) struct Desk {
    pub(super) parcels: Parcels,
    fold: Fold,
    next: u64,
}

impl Desk {
    pub(super) fn new(parcels: Parcels) -> Self {
        Self { parcels, fold: Fold::default(), next: 0 }
    }

    /// Takes one parcel and what already waits behind it. When this returns, all of it is stored, or a gap says that it
    /// could not be.
    pub(super) async fn take(&mut self, first: Parcel, ingest: &mut Ingest) {
        let (forward, mut reports) = mpsc::channel(BATCH);
        let mut told = Vec::new();
        let mut parcel = first;
        for round in 1..=BATCH {
            let report = match parcel {
                Parcel::Report(report) => Some(report),
                Parcel::Alert(delivery) => {
                    let Delivery { alert, stored } = *delivery;
                    told.extend(stored);
                    self.fold(alert)
                }
            };
            if let Some(report) = report {
                // There is a place for each of the rounds.
                let _ = forward.try_send(report);
            }
            // What is taken from the channel is handled: none is taken after the last round.
            let more = (round < BATCH).then(|| self.parcels.try_recv().ok()).flatten();
            let Some(more) = more else { break };
            parcel = more;
        }
        drop(forward);
        if let Some(first) = reports.recv().await {
            ingest.take(first, &mut reports).await;
        }
        told.into_iter().for_each(|tell| tell());
    }

    fn fold(&mut self, mut alert: Alert) -> Option<Report> {
        alert.id = self.next + 1;
        match self.fold.take(&alert) {
            Folded::First => {
                self.next += 1;
                Some(Report::Alert(Box::new(alert)))
            }
            Folded::Again { id, count, last_time } => {
                Some(Report::AlertRepeated { sensor: alert.sensor, id, count, last_time })
            }
            Folded::Duplicate => None,
        }
    }
}

/// The witness of a scan that must have one: in the evidence from the start, so that its silence is told by name.
pub(super) fn required() -> SensorReport {
    SensorReport { name: WITNESS.to_owned(), ..SensorReport::default() }
}

fn silenced(sensor: &str, detail: &str) -> Alert {
    let time = now();
    Alert {
        id: 0,
        time,
        last_time: time,
        count: 1,
        rule: SILENCED.into(),
        priority: Priority::Critical,
        output: format!("The sensor fell silent while the scan ran | {}", lanner_core::text::escaped(detail)),
        output_fields: std::collections::BTreeMap::new(),
        tags: vec!["sensor".into()],
        source: "internal".into(),
        hostname: String::new(),
        sensor: sensor.to_owned(),
        also_seen_by: vec![],
        ancestry: Vec::new(),
        package: None,
    }
}
