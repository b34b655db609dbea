//! Correlation: whose alert is this? Our own name first, then the pod's uid and the container's id, which are learned
//! from alerts that carry both; else the alert is parked until its container is known, and at last it is nobody's.
//!
//! Pure: the time is an argument, and what is parked (`T`) is not looked into. Everything is bounded: what no longer
//! fits comes back as unmatched, so that the caller can count it. Nothing is dropped here.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::Nanos;
use crate::falco::Origin;
use crate::id::ScanId;

/// What our pods and containers are called: this and the scan's id, then whatever the runtime adds behind a hyphen.
pub const NAME_PREFIX: &str = "lanner-";

/// By what an alert was matched, for its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The pod or the container has our name.
    Name,
    PodUid,
    ContainerId,
    /// It waited until its container was known.
    Parked,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Name, Self::PodUid, Self::ContainerId, Self::Parked];
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Containers and pods remembered.
    pub learned: usize,
    /// Alerts that wait for their container to be known, and for how long.
    pub parked: usize,
    pub patience: Nanos,
}

impl Default for Limits {
    fn default() -> Self {
        Self { learned: 4096, parked: 10_000, patience: 10_000_000_000 }
    }
}

/// An alert that found its scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<T> {
    pub scan: ScanId,
    pub way: Way,
    pub item: T,
}

/// What became of what was given, and of what waited for it. In order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<T> {
    pub matched: Vec<Match<T>>,
    /// Had to make room.
    pub unmatched: Vec<T>,
}

pub struct Correlator<T> {
    limits: Limits,
    known: HashMap<Key, ScanId>,
    /// In the order in which they were learned, the oldest first.
    order: VecDeque<Key>,
    running: HashSet<ScanId>,
    parked: VecDeque<Parked<T>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pod(String),
    Container(String),
}

struct Parked<T> {
    until: Nanos,
    keys: Vec<Key>,
    item: T,
}

impl<T> Correlator<T> {
    pub fn new(limits: Limits) -> Self {
        let (known, order, running, parked) = Default::default();
        Self { limits, known, order, running, parked }
    }

    /// Which scans run: what was learned of them is the last to be forgotten.
    pub fn running(&mut self, scans: impl IntoIterator<Item = ScanId>) {
        self.running = scans.into_iter().collect();
    }

    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whose it is, if that is known now.
    pub fn find(&self, origin: &Origin) -> Option<(ScanId, Way)> {
        if let Some(scan) = named(origin) {
            return Some((scan, Way::Name));
        }
        keys(origin).into_iter().find_map(|key| {
            let way = match key {
                Key::Pod(_) => Way::PodUid,
                Key::Container(_) => Way::ContainerId,
            };
            self.known.get(&key).map(|scan| (scan.clone(), way))
        })
    }

    /// Takes an alert in.
    pub fn take(&mut self, origin: &Origin, item: T, now: Nanos) -> Taken<T> {
        match self.find(origin) {
            Some((scan, way)) => {
                let mut matched = self.learn(&scan, origin);
                matched.push(Match { scan, way, item });
                Taken { matched, unmatched: Vec::new() }
            }
            None => Taken { matched: Vec::new(), unmatched: self.park(origin, item, now) },
        }
    }

    /// Learns that this pod and container belong to a scan; returns what waited for that. The first lesson holds: an
    /// id is never given to a second scan.
    pub fn learn(&mut self, scan: &ScanId, origin: &Origin) -> Vec<Match<T>> {
        let mut new = Vec::new();
        for key in keys(origin) {
            if !self.known.contains_key(&key) {
                self.known.insert(key.clone(), scan.clone());
                self.order.push_back(key.clone());
                new.push(key);
            }
        }
        self.forget_beyond_limit();
        if new.is_empty() {
            return Vec::new();
        }
        let (waited, parked) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|p| p.keys.iter().any(|k| new.contains(k)));
        self.parked = parked;
        let waited: VecDeque<Parked<T>> = waited;
        waited.into_iter().map(|p| Match { scan: scan.clone(), way: Way::Parked, item: p.item }).collect()
    }

    /// What has waited for too long.
    pub fn expired(&mut self, now: Nanos) -> Vec<T> {
        let late = self.parked.iter().take_while(|p| p.until <= now).count();
        self.parked.drain(..late).map(|p| p.item).collect()
    }

    fn park(&mut self, origin: &Origin, item: T, now: Nanos) -> Vec<T> {
        let keys = keys(origin);
        // Without an id there is nothing to wait for.
        if keys.is_empty() || self.limits.parked == 0 {
            return vec![item];
        }
        let mut crowded_out = Vec::new();
        if self.parked.len() >= self.limits.parked {
            crowded_out.extend(self.parked.pop_front().map(|p| p.item));
        }
        self.parked.push_back(Parked { until: now.saturating_add(self.limits.patience), keys, item });
        crowded_out
    }

    fn forget_beyond_limit(&mut self) {
        for _ in 0..self.order.len() {
            if self.order.len() <= self.limits.learned {
                return;
            }
            let Some(oldest) = self.order.pop_front() else { return };
            if self.known.get(&oldest).is_some_and(|scan| self.running.contains(scan)) {
                self.order.push_back(oldest);
            } else {
                self.known.remove(&oldest);
            }
        }
        // All of them run: then the bound goes before the memory.
        while self.order.len() > self.limits.learned {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// The scan that a pod or a container is named after.
fn named(origin: &Origin) -> Option<ScanId> {
    [&origin.pod, &origin.container].into_iter().flatten().find_map(|name| {
        let rest = name.strip_prefix(NAME_PREFIX)?;
        let (id, more) = rest.split_at_checked(32)?;
        (more.is_empty() || more.starts_with('-')).then(|| id.parse().ok()).flatten()
    })
}

fn keys(origin: &Origin) -> Vec<Key> {
    let pod = origin.pod_uid.clone().map(Key::Pod);
    let container = origin.container_id.clone().map(Key::Container);
    pod.into_iter().chain(container).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn scan(n: u64) -> ScanId {
        ScanId::new(n, [0; 10])
    }

    fn origin(pod: &str, uid: &str, container: &str, id: &str) -> Origin {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Origin { pod: known(pod), pod_uid: known(uid), container: known(container), container_id: known(id) }
    }

    fn correlator(parked: usize) -> Correlator<u32> {
        Correlator::new(Limits { learned: 8, parked, patience: 10 * SECOND })
    }

    fn found(taken: Taken<u32>) -> Vec<(ScanId, Way, u32)> {
        assert!(taken.unmatched.is_empty(), "{taken:?}");
        taken.matched.into_iter().map(|m| (m.scan, m.way, m.item)).collect()
    }

    #[test]
    fn each_way_in_its_order() {
        let one = format!("lanner-{}", scan(1));
        let pod = format!("lanner-{}-x7k2p", scan(1));
        let two = format!("lanner-{}", scan(2));
        let id = "842477b01e66";
        let rows = [
            (origin(&pod, "", "", ""), Some((scan(1), Way::Name))),
            (origin("", "", &one, ""), Some((scan(1), Way::Name))),
            // The name wins over whatever was learned, and the pod's name over the container's.
            (origin(&two, "uid-1", &one, id), Some((scan(2), Way::Name))),
            (origin("", "uid-1", "", id), Some((scan(1), Way::PodUid))),
            (origin("other", "", "app", id), Some((scan(1), Way::ContainerId))),
            (origin("lanner-1234", "", "", ""), None),
            (origin(&format!("{one}evil"), "", "", ""), None),
            (origin(&format!("x{one}"), "", "", ""), None),
            (origin("", "uid-9", "", "000000000000"), None),
            (Origin::default(), None),
        ];
        let mut correlator = correlator(4);
        correlator.learn(&scan(1), &origin("", "uid-1", "", id));
        for (origin, expected) in rows {
            assert_eq!(correlator.find(&origin), expected, "{origin:?}");
        }
    }

    #[test]
    fn what_came_too_early_waits_until_its_container_is_known() {
        let mut correlator = correlator(4);
        let (id, other) = (origin("", "", "", "aaaaaaaaaaaa"), origin("", "", "", "bbbbbbbbbbbb"));
        for n in [1, 2] {
            assert!(found(correlator.take(&id, n, 0)).is_empty());
        }
        assert!(found(correlator.take(&other, 3, 0)).is_empty());
        let both = origin(&format!("lanner-{}", scan(5)), "", "", "aaaaaaaaaaaa");
        let (parked, name) = (Way::Parked, Way::Name);
        // In the order in which they came: what waited was there before what taught us.
        assert_eq!(
            found(correlator.take(&both, 4, SECOND)),
            [(scan(5), parked, 1), (scan(5), parked, 2), (scan(5), name, 4)]
        );
        assert_eq!(found(correlator.take(&id, 5, SECOND)), [(scan(5), Way::ContainerId, 5)]);
        assert!(correlator.expired(9 * SECOND).is_empty());
        assert_eq!(correlator.expired(10 * SECOND), [3]);
        assert_eq!(correlator.parked(), 0);
    }

    #[test]
    fn nothing_is_dropped_when_the_ring_is_full_and_nothing_waits_without_an_id() {
        let mut correlator = correlator(2);
        let id = origin("", "", "", "aaaaaaaaaaaa");
        assert!(correlator.take(&id, 1, 0).unmatched.is_empty());
        assert!(correlator.take(&id, 2, 0).unmatched.is_empty());
        assert_eq!(correlator.take(&id, 3, 0).unmatched, [1]);
        assert_eq!(correlator.take(&Origin::default(), 4, 0).unmatched, [4]);
    }

    #[test]
    fn an_id_stays_with_its_first_scan_and_running_scans_are_forgotten_last() {
        let mut correlator = correlator(2);
        let id = |n: u64| origin("", "", "", &format!("{n:012x}"));
        correlator.learn(&scan(1), &id(1));
        correlator.learn(&scan(2), &id(1));
        assert_eq!(correlator.find(&id(1)), Some((scan(1), Way::ContainerId)));
        correlator.running([scan(1)]);
        for n in 2..100 {
            correlator.learn(&scan(n), &id(n));
        }
        assert_eq!(correlator.find(&id(1)), Some((scan(1), Way::ContainerId)));
        assert_eq!(correlator.find(&id(2)), None);
        assert!(correlator.known.len() <= 8 && correlator.order.len() == correlator.known.len());
    }
}
