//! Intake: what Falco reports, through whichever door, into one bounded queue, and from there to the scans.
//!
//! A door (`webhook`, `relay`, `grpc`) decodes and calls [`Intake::accept`]; it never waits for what comes behind. The
//! pump (`pump`) finds out whose each alert is and hands it to the flow. What does not fit, cannot be read or cannot be
//! matched is counted and shown (`board`), and the scans concerned are told. It changes no scan and knows no filter.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lanner_core::Nanos;
use lanner_core::falco::Decoded;

use crate::scan::witness::Stretch;

mod board;
mod count;
pub mod grpc;
mod ledger;
pub mod pods;
mod pump;
mod queue;
pub mod relay;
pub mod webhook;

pub use board::{SensorView, Unmatched};
use count::Counts;
pub use count::Door;
use ledger::Ticket;
use queue::{Arrival, Entry, Queue};

/// Whether a text may be a sensor's name.
pub fn is_name(text: &str) -> bool {
    board::name(text).is_some()
}

/// A handle: clones are the same intake.
#[derive(Clone)]
pub struct Intake {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    board: Mutex<board::Board>,
    unmatched: Mutex<VecDeque<Unmatched>>,
    counts: Counts,
    stretches: AtomicU64,
}

/// Bounds of what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub alerts: usize,
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { alerts: 65_536, bytes: 64 << 20 }
    }
}

impl Intake {
    pub fn new(bounds: Bounds) -> Self {
        let inner = Inner {
            queue: Queue::new(bounds),
            board: Mutex::default(),
            unmatched: Mutex::default(),
            counts: Counts::default(),
            stretches: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A new stretch of a sensor's stream.
    pub(crate) fn stretch(&self, door: Door, sensor: String, vouches: bool) -> Arc<Stretch> {
        let number = self.inner.stretches.fetch_add(1, Ordering::Relaxed) + 1;
        self.board().connected(&sensor, door, vouches);
        Arc::new(Stretch { sensor, number, vouches })
    }

    /// Takes what a body or a message held; returns at once.
    pub(crate) fn accept(&self, door: Door, stretch: &Arc<Stretch>, decoded: Decoded, received: Nanos) {
        let newest = decoded.sightings.iter().map(|s| s.alert.time).max();
        self.count(door, stretch, &decoded, newest.map(|time| received.saturating_sub(time)));
        for sighting in decoded.sightings {
            self.put(door, Entry::Arrival(Box::new(Arrival::new(stretch.clone(), sighting, None))));
        }
        if decoded.refused > 0 {
            let why = decoded.why.map(|w| w.to_string()).unwrap_or_default();
            self.put(door, Entry::Unreadable { stretch: stretch.clone(), why });
        }
    }

    /// The same for one line of a relay, with whom to tell when it is dealt with.
    pub(crate) fn accept_line(
        &self,
        stretch: &Arc<Stretch>,
        decoded: Decoded,
        received: Nanos,
        ticket: Ticket,
    ) {
        let newest = decoded.sightings.iter().map(|s| s.alert.time).max();
        self.count(Door::Relay, stretch, &decoded, newest.map(|time| received.saturating_sub(time)));
        let mut sightings = decoded.sightings.into_iter();
        match sightings.next() {
            Some(first) => {
                let arrival = Arrival::new(stretch.clone(), first, Some(ticket));
                self.put(Door::Relay, Entry::Arrival(Box::new(arrival)));
            }
            None => ticket.done(),
        }
        for more in sightings {
            self.put(Door::Relay, Entry::Arrival(Box::new(Arrival::new(stretch.clone(), more, None))));
        }
        if decoded.refused > 0 {
            let why = decoded.why.map(|w| w.to_string()).unwrap_or_default();
            self.put(Door::Relay, Entry::Unreadable { stretch: stretch.clone(), why });
        }
    }

    /// Something that may have been an alert did not come whole.
    pub(crate) fn unreadable(&self, door: Door, stretch: &Arc<Stretch>, why: &str) {
        self.inner.counts.received(door, 0, 1);
        self.board().heard(&stretch.sensor, 0, 1, None, Some(why.to_owned()));
        self.put(door, Entry::Unreadable { stretch: stretch.clone(), why: why.to_owned() });
    }

    /// A stretch has come to its end.
    pub(crate) fn broken(&self, door: Door, stretch: &Arc<Stretch>, why: &str) {
        self.board().broken(&stretch.sensor, why);
        self.put(door, Entry::Broken { stretch: stretch.clone(), why: why.to_owned() });
    }

    /// Whether a door that can wait should: nothing is thrown away as long as it does.
    pub(crate) fn is_crowded(&self) -> bool {
        self.inner.queue.is_crowded()
    }

    /// Every sensor that has been heard of, by name.
    pub fn sensors(&self) -> Vec<SensorView> {
        self.board().views()
    }

    /// The last alerts that were nobody's, the newest first, and how many there were in all.
    pub fn unmatched(&self) -> (u64, Vec<Unmatched>) {
        let samples = self.samples();
        (self.inner.counts.unmatched.get(), samples.iter().rev().cloned().collect())
    }

    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.inner.counts.register(registry);
    }

    fn put(&self, door: Door, entry: Entry) {
        let evicted = self.inner.queue.put(entry);
        self.inner.counts.overflowed(door, evicted);
    }

    fn count(&self, door: Door, stretch: &Stretch, decoded: &Decoded, lag: Option<Nanos>) {
        let alerts = u64::try_from(decoded.sightings.len()).unwrap_or(u64::MAX);
        self.inner.counts.received(door, alerts, decoded.refused);
        let why = decoded.why.as_ref().map(ToString::to_string);
        self.board().heard(&stretch.sensor, alerts, decoded.refused, lag, why);
    }

    fn board(&self) -> MutexGuard<'_, board::Board> {
        // A poisoned lock means a panic between two plain assignments; the data is still whole.
        self.inner.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Unmatched>> {
        self.inner.unmatched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
