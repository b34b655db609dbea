//! Folding: the same alert twice is one alert seen twice, and the same delivery twice is one delivery.
//!
//! Falco tells each event on its own, and a door may deliver one twice (a sender that timed out, two doors of one
//! Falco). Two alerts fold if they have the same rule, priority and fields, what differs with each event left out.
//! Pure and bounded; beyond the bound alerts are taken as new, never as known.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Nanos;
use crate::alert::{Alert, Priority};

/// Distinct alerts, and deliveries, remembered a scan.
const MAX_DISTINCT: usize = 20_000;
const MAX_DELIVERIES: usize = 200_000;

/// What an alert is to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    First,
    Again {
        id: u64,
        count: u64,
        last_time: Nanos,
    },
    /// This very event was delivered before.
    Duplicate,
}

/// Of one scan.
#[derive(Debug, Default)]
pub struct Fold {
    distinct: HashMap<Key, Seen>,
    deliveries: HashSet<(Nanos, u64)>,
}

/// The hash alone could be made to collide by whoever chooses the texts; an alert could then hide only among its own
/// rule's.
type Key = (Priority, String, String, u64);

#[derive(Debug)]
struct Seen {
    id: u64,
    count: u64,
    last_time: Nanos,
}

impl Fold {
    /// Takes an alert whose `id` would be its number if it is the first.
    pub fn take(&mut self, alert: &Alert) -> Folded {
        let delivery = (alert.time, hash(&(&alert.rule, &alert.output, &alert.hostname)));
        if self.deliveries.contains(&delivery) {
            return Folded::Duplicate;
        }
        if self.deliveries.len() < MAX_DELIVERIES {
            self.deliveries.insert(delivery);
        }
        let key = key(alert);
        if let Some(seen) = self.distinct.get_mut(&key) {
            seen.count += alert.count;
            seen.last_time = seen.last_time.max(alert.last_time);
            return Folded::Again { id: seen.id, count: seen.count, last_time: seen.last_time };
        }
        if self.distinct.len() < MAX_DISTINCT {
            self.distinct.insert(key, Seen { id: alert.id, count: alert.count, last_time: alert.last_time });
        }
        Folded::First
    }
}

fn key(alert: &Alert) -> Key {
    let mut hasher = DefaultHasher::new();
    alert.output_fields.iter().filter(|(name, _)| tells_apart(name)).for_each(|(name, value)| {
        name.hash(&mut hasher);
        value.to_string().hash(&mut hasher);
    });
    if alert.output_fields.is_empty() {
        alert.output.hash(&mut hasher);
    }
    (alert.priority, alert.rule.clone(), alert.sensor.clone(), hasher.finish())
}

/// Every event has its own time, number and latency; names of containers arrive late.
fn tells_apart(field: &str) -> bool {
    let of_the_event = field.starts_with("evt.") && !matches!(field, "evt.type" | "evt.res" | "evt.args");
    !of_the_event && !field.starts_with("container.") && !field.starts_with("k8s.")
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::falco::decode;

    fn alert(id: u64, time: i64, rule: &str, file: &str) -> Alert {
        let body = json!({
            "rule": rule, "priority": "Warning", "output": format!("{time}: {file}"),
            "output_fields": { "evt.time": time, "evt.num": time, "fd.name": file, "container.name": null },
        });
        let mut alert = decode(body.to_string().as_bytes(), 0).sightings.remove(0).alert;
        alert.id = id;
        alert
    }

    #[test]
    fn repeats_are_counted_and_duplicates_are_not() {
        let mut fold = Fold::default();
        assert_eq!(fold.take(&alert(1, 10, "r", "/a")), Folded::First);
        assert_eq!(fold.take(&alert(2, 10, "r", "/a")), Folded::Duplicate);
        assert_eq!(fold.take(&alert(3, 30, "r", "/a")), Folded::Again { id: 1, count: 2, last_time: 30 });
        // Out of order: the last time is still the latest.
        assert_eq!(fold.take(&alert(4, 20, "r", "/a")), Folded::Again { id: 1, count: 3, last_time: 30 });
        assert_eq!(fold.take(&alert(5, 40, "r", "/b")), Folded::First);
        assert_eq!(fold.take(&alert(6, 50, "other", "/a")), Folded::First);
    }

    #[test]
    fn a_more_urgent_alert_never_hides_in_a_lesser_one() {
        let mut fold = Fold::default();
        assert_eq!(fold.take(&alert(1, 1, "r", "/a")), Folded::First);
        let mut urgent = alert(2, 2, "r", "/a");
        urgent.priority = Priority::Critical;
        assert_eq!(fold.take(&urgent), Folded::First);
    }
}
