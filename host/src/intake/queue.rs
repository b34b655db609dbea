//! The queue between the doors and the pump: bounded in alerts and bytes, never waited for.
//!
//! When it is full, the least urgent alert goes, the newest of them first, and leaves a note of whose it was; marks and
//! notes are the last to go. What is left comes out in the order in which it came in. Should even the notes be too many
//! (somebody floods us with marks or with garbage), the queue has lost count: every batch says so until it was empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lanner_core::falco::{Kind, Origin, Sighting};
use lanner_core::{Alert, Priority};
use tokio::sync::Notify;

use super::Bounds;
use super::ledger::Ticket;
use crate::scan::witness::Stretch;

/// Marks, troubles and notes of evicted alerts that may wait; beyond it the queue has lost count.
const MAX_NOTES: usize = 8192;
/// What an alert takes beside its texts.
const OVERHEAD: usize = 512;

pub(super) enum Entry {
    Arrival(Box<Arrival>),
    /// A stretch broke: nothing more comes on it.
    Broken {
        stretch: Arc<Stretch>,
        why: String,
    },
    /// Something on this stretch could not be read; it may have been an alert.
    Unreadable {
        stretch: Arc<Stretch>,
        why: String,
    },
    /// An alert had to go; this says whose it was.
    Evicted {
        origin: Origin,
    },
}

pub(super) struct Arrival {
    pub(super) stretch: Arc<Stretch>,
    pub(super) sighting: Sighting,
    pub(super) ticket: Option<Ticket>,
}

pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// One line a priority, and one for what is never evicted; each with the number of its arrival.
    alerts: [VecDeque<(u64, Box<Arrival>)>; Priority::ALL.len()],
    notes: VecDeque<(u64, Entry)>,
    next: u64,
    waiting: usize,
    bytes: usize,
    lost_count: bool,
}

/// What the pump gets at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Something was thrown away without a note: it concerns every scan.
    pub(super) lost_count: bool,
}

impl Arrival {
    pub(super) fn new(stretch: Arc<Stretch>, sighting: Sighting, ticket: Option<Ticket>) -> Self {
        Self { stretch, sighting, ticket }
    }

    fn bytes(&self) -> usize {
        bytes(&self.sighting.alert)
    }

    fn is_evictable(&self) -> bool {
        matches!(self.sighting.kind, Kind::Alert | Kind::Metrics)
    }
}

/// What an alert takes, roughly: its texts and a constant.
fn bytes(alert: &Alert) -> usize {
    let fields: usize = alert
        .output_fields
        .iter()
        .map(|(name, value)| {
            name.len()
                + 64
                + match value {
                    serde_json::Value::String(text) => text.len(),
                    serde_json::Value::Array(items) => {
                        items.iter().map(|i| i.as_str().map_or(16, str::len) + 32).sum()
                    }
                    _ => 16,
                }
        })
        .sum();
    OVERHEAD + alert.output.len() + alert.rule.len() + fields
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), filled: Notify::new() }
    }

    /// Puts one in; how many alerts had to go for it (it may be the one).
    pub(super) fn put(&self, entry: Entry) -> u64 {
        let mut state = self.state();
        let mut evicted = 0;
        state.push(entry);
        while state.waiting > self.bounds.alerts || state.bytes > self.bounds.bytes {
            if !state.evict() {
                break;
            }
            evicted += 1;
        }
        drop(state);
        self.filled.notify_one();
        evicted
    }

    /// Half full: time for those who can wait to do so.
    pub(super) fn is_crowded(&self) -> bool {
        let state = self.state();
        state.waiting > self.bounds.alerts / 2 || state.bytes > self.bounds.bytes / 2
    }

    /// The oldest entries, at most `max`; waits for the first.
    pub(super) async fn take(&self, max: usize) -> Batch {
        loop {
            let batch = self.try_take(max);
            if !batch.entries.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    pub(super) fn try_take(&self, max: usize) -> Batch {
        let mut state = self.state();
        let lost_count = state.lost_count;
        let entries: Vec<Entry> = std::iter::from_fn(|| state.pop()).take(max).collect();
        if state.waiting == 0 && state.notes.is_empty() {
            state.lost_count = false;
        }
        Batch { entries, lost_count }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        let number = self.next;
        self.next += 1;
        let room = self.notes.len() < MAX_NOTES;
        match entry {
            Entry::Arrival(arrival) => {
                self.waiting += 1;
                self.bytes += arrival.bytes();
                let line = arrival.sighting.alert.priority as usize;
                match self.alerts.get_mut(line).filter(|_| arrival.is_evictable() || !room) {
                    Some(line) => line.push_back((number, arrival)),
                    None => self.notes.push_back((number, Entry::Arrival(arrival))),
                }
            }
            note if room => self.notes.push_back((number, note)),
            _ => self.lost_count = true,
        }
    }

    /// Throws away the newest of the least urgent; false if there is none that may go.
    fn evict(&mut self) -> bool {
        let Some((_, arrival)) = self.alerts.iter_mut().rev().find_map(VecDeque::pop_back) else {
            return false;
        };
        self.waiting -= 1;
        self.bytes -= arrival.bytes();
        // It is dealt with as far as its sender is concerned: counted, and told to the scans.
        if let Some(ticket) = arrival.ticket {
            ticket.done();
        }
        if arrival.sighting.kind != Kind::Metrics {
            self.push(Entry::Evicted { origin: arrival.sighting.origin });
        }
        true
    }

    fn pop(&mut self) -> Option<Entry> {
        let first = |line: &VecDeque<(u64, Box<Arrival>)>| line.front().map(|(number, _)| *number);
        let oldest = self.alerts.iter_mut().filter(|l| !l.is_empty()).min_by_key(|l| first(l));
        let note = self.notes.front().map(|(number, _)| *number);
        match (oldest, note) {
            (Some(line), note) if note.is_none_or(|note| first(line).is_some_and(|n| n < note)) => {
                let (_, arrival) = line.pop_front()?;
                self.waiting -= 1;
                self.bytes -= arrival.bytes();
                Some(Entry::Arrival(arrival))
            }
            _ => {
                let (_, entry) = self.notes.pop_front()?;
                if let Entry::Arrival(arrival) = &entry {
                    self.waiting -= 1;
                    self.bytes -= arrival.bytes();
                }
                Some(entry)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lanner_core::falco::decode;

    fn arrival(priority: Priority, rule: &str) -> Entry {
        let body = format!(
            "{{\"rule\":\"{rule}\",\"priority\":\"{priority}\",\"output_fields\":{{\"container.id\":\"aaaaaaaaaaaa\"}}}}"
        );
        let sighting = decode(body.as_bytes(), 1).sightings.remove(0);
        let stretch = Arc::new(Stretch { sensor: "s".into(), number: 1, vouches: true });
        Entry::Arrival(Box::new(Arrival::new(stretch, sighting, None)))
    }

    fn names(queue: &Queue) -> Vec<String> {
        let name = |entry| match entry {
            Entry::Arrival(a) => a.sighting.alert.rule.clone(),
            Entry::Broken { .. } => "broken".into(),
            Entry::Unreadable { .. } => "unreadable".into(),
            Entry::Evicted { .. } => "evicted".into(),
        };
        queue.try_take(usize::MAX).entries.into_iter().map(name).collect()
    }

    #[test]
    fn what_stays_keeps_its_order_and_the_least_urgent_goes() {
        let queue = Queue::new(Bounds { alerts: 3, bytes: 1 << 20 });
        assert_eq!(queue.put(arrival(Priority::Debug, "d1")), 0);
        assert_eq!(queue.put(arrival(Priority::Critical, "c1")), 0);
        assert_eq!(queue.put(arrival(Priority::Debug, "d2")), 0);
        assert_eq!(queue.put(arrival(Priority::Notice, "n1")), 1);
        assert_eq!(queue.put(arrival(Priority::Critical, "c2")), 1);
        // Nothing less urgent is left: the newcomer goes.
        assert_eq!(queue.put(arrival(Priority::Debug, "d3")), 1);
        assert_eq!(names(&queue), ["c1", "n1", "evicted", "c2", "evicted", "evicted"]);
        assert!(names(&queue).is_empty());
        let state = queue.state();
        assert_eq!((state.waiting, state.bytes, state.lost_count), (0, 0, false));
    }

    #[test]
    fn marks_and_troubles_are_never_evicted_and_bytes_count_too() {
        let queue = Queue::new(Bounds { alerts: 10, bytes: 1 });
        let stretch = Arc::new(Stretch { sensor: "s".into(), number: 1, vouches: true });
        let mark = serde_json::json!({
            "rule": "Lanner mark", "priority": "Debug",
            "output_fields": { "proc.args": "mark 0123456789abcdef0123456789abcdef" },
        });
        let sighting = decode(mark.to_string().as_bytes(), 1).sightings.remove(0);
        assert_eq!(queue.put(Entry::Arrival(Box::new(Arrival::new(stretch.clone(), sighting, None)))), 0);
        assert_eq!(queue.put(Entry::Broken { stretch, why: String::new() }), 0);
        assert_eq!(queue.put(arrival(Priority::Emergency, "e")), 1);
        assert_eq!(names(&queue), ["Lanner mark", "broken", "evicted"]);
    }

    #[test]
    fn notes_are_bounded_and_then_concern_everybody_until_the_queue_was_empty() {
        let queue = Queue::new(Bounds { alerts: 0, bytes: 1 << 20 });
        for _ in 0..MAX_NOTES + 100 {
            assert_eq!(queue.put(arrival(Priority::Debug, "d")), 1);
        }
        let half = queue.try_take(MAX_NOTES / 2);
        assert_eq!((half.entries.len(), half.lost_count), (MAX_NOTES / 2, true));
        let rest = queue.try_take(usize::MAX);
        assert_eq!((rest.entries.len(), rest.lost_count), (MAX_NOTES / 2, true));
        assert_eq!(queue.put(arrival(Priority::Debug, "d")), 1);
        assert!(!queue.try_take(usize::MAX).lost_count);
    }
}
