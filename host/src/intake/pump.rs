//! The pump: takes from the queue in order, finds out whose each alert is, and hands it to the flow.
//!
//! It is the only one that hands over, so that a scan hears of everything in the order of its arrival. It waits for a scan
//! that is slow to store; the doors meanwhile fill the queue, which is bounded.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use lanner_core::correlate::{Correlator, Limits, Match};
use lanner_core::falco::Kind;
use lanner_core::{Nanos, ScanId};
use tokio_util::sync::CancellationToken;

use super::board::{MAX_SAMPLES, Unmatched};
use super::queue::{Arrival, Entry};
use super::{Intake, Ticket};
use crate::scan::witness::{Delivery, Stored};
use crate::scan::{LateError, Scans, now};

const BATCH: usize = 256;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(200);
/// A scan that ends is in the store after this long; an alert for it waits meanwhile.
const LATE_PATIENCE: Nanos = 10_000_000_000;
const MAX_LATE: usize = 10_000;

struct Pump {
    intake: Intake,
    scans: Scans,
    correlator: Correlator<Box<Arrival>>,
    late: VecDeque<Late>,
}

/// An alert for a scan that has just ended.
struct Late {
    scan: ScanId,
    arrival: Box<Arrival>,
    stored: Option<Stored>,
    until: Nanos,
}

impl Intake {
    /// Pumps until `stop`, and then until the queue is empty.
    pub async fn run(self, scans: Scans, stop: CancellationToken) -> Result<(), Infallible> {
        let correlator = Correlator::new(Limits::default());
        let mut pump = Pump { intake: self, scans, correlator, late: VecDeque::new() };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let queue = &pump.intake.inner.queue;
            tokio::select! {
                batch = queue.take(BATCH) => {
                    pump.correlator.running(pump.scans.running());
                    if batch.lost_count {
                        pump.scans.overflowed(None, "more came from Falco than could be taken in").await;
                    }
                    for entry in batch.entries {
                        pump.take(entry).await;
                    }
                }
                _ = tick.tick() => pump.tick().await,
                () = stop.cancelled() => break,
            }
        }
        for entry in pump.intake.inner.queue.try_take(usize::MAX).entries {
            pump.take(entry).await;
        }
        pump.tick().await;
        Ok(())
    }
}

impl Pump {
    async fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Arrival(arrival) => self.arrival(arrival).await,
            Entry::Broken { stretch, why } => {
                self.intake.inner.counts.broken.inc();
                tracing::info!(sensor = stretch.sensor, why, "a sensor's stream ended");
                self.scans.broken(&stretch, &why).await;
            }
            Entry::Unreadable { stretch, why } => {
                tracing::warn!(sensor = stretch.sensor, why, "an alert could not be read");
                self.scans.blind(&stretch, &format!("an alert could not be read: {why}")).await;
            }
            Entry::Evicted { origin } => {
                let scan = self.correlator.find(&origin).map(|(scan, _)| scan);
                let why = "alerts of Falco's were thrown away because too many waited";
                self.scans.overflowed(scan.as_ref(), why).await;
            }
        }
    }

    async fn arrival(&mut self, mut arrival: Box<Arrival>) {
        arrival.sighting.alert.sensor = format!("falco:{}", arrival.stretch.sensor);
        match arrival.sighting.kind.clone() {
            Kind::Metrics => done(arrival.ticket),
            Kind::Blind => {
                self.intake.inner.counts.blind.inc();
                let why = format!("{}: {}", arrival.sighting.alert.rule, arrival.sighting.alert.output);
                self.scans.blind(&arrival.stretch, &why).await;
                done(arrival.ticket);
            }
            Kind::Mark(nonce) => match self.scans.expects(&nonce) {
                Some(scan) => self.mark(&scan, &nonce, arrival).await,
                None => {
                    self.intake.inner.counts.forged.inc();
                    self.alert(arrival).await;
                }
            },
            Kind::Alert => self.alert(arrival).await,
        }
    }

    /// A mark says whose its container is; what waited for that goes first, since it came first.
    async fn mark(&mut self, scan: &ScanId, nonce: &str, arrival: Box<Arrival>) {
        self.intake.inner.counts.marks.inc();
        for found in self.correlator.learn(scan, &arrival.sighting.origin) {
            self.matched(found).await;
        }
        self.scans.mark(scan, nonce, &arrival.stretch).await;
        done(arrival.ticket);
    }

    async fn alert(&mut self, arrival: Box<Arrival>) {
        let origin = arrival.sighting.origin.clone();
        let taken = self.correlator.take(&origin, arrival, now());
        for found in taken.matched {
            self.matched(found).await;
        }
        for arrival in taken.unmatched {
            self.unmatched(arrival);
        }
    }

    async fn matched(&mut self, found: Match<Box<Arrival>>) {
        self.intake.inner.counts.correlated(found.way);
        let mut arrival = found.item;
        let stored = arrival.ticket.take().map(|ticket| Box::new(move || ticket.done()) as Stored);
        let delivery = Delivery { alert: arrival.sighting.alert.clone(), stored };
        if let Err(refused) = self.scans.deliver(&found.scan, delivery).await {
            self.ended(found.scan, arrival, refused.stored).await;
        }
    }

    /// The scan runs no more: its alert goes to the store directly.
    async fn ended(&mut self, scan: ScanId, arrival: Box<Arrival>, stored: Option<Stored>) {
        let until = now().saturating_add(LATE_PATIENCE);
        self.late(Late { scan, arrival, stored, until }).await;
    }

    async fn late(&mut self, mut late: Late) {
        let told = late.stored.take();
        match self.scans.late(&late.scan, late.arrival.sighting.alert.clone()).await {
            Ok(()) => self.intake.inner.counts.late.inc(),
            Err(LateError::NotYet) if late.until > now() && self.late.len() < MAX_LATE => {
                return self.late.push_back(Late { stored: told, ..late });
            }
            Err(LateError::NotYet | LateError::Unknown) => {
                self.unmatched(late.arrival);
                0
            }
            // Counted and shown, but not acknowledged: a relay sends it again when the store can keep it.
            Err(LateError::Store(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a late alert could not be stored");
                return self.unmatched(late.arrival);
            }
        };
        if let Some(told) = told {
            told();
        }
    }

    async fn tick(&mut self) {
        for arrival in self.correlator.expired(now()) {
            self.unmatched(arrival);
        }
        for late in std::mem::take(&mut self.late) {
            self.late(late).await;
        }
    }

    fn unmatched(&self, arrival: Box<Arrival>) {
        self.intake.inner.counts.unmatched.inc();
        done(arrival.ticket);
        let mut samples = self.intake.samples();
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Unmatched::new(arrival.sighting.alert));
    }
}

fn done(ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        ticket.done();
    }
}
