//! Agreement: two sensors that tell of the same thing.
//!
//! They agree if rule, priority, process and target are the same. An alert without a target agrees with none, and one
//! sensor never with itself: what it repeats is for `fold`. Judging what an agreement is worth is not done here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Nanos;
use crate::alert::{Alert, Priority};

/// As much of a process's name as the kernel keeps, in bytes.
const COMM: usize = 15;

/// Another sensor that raised the same alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    pub sensor: String,
    pub count: u64,
    pub last_time: Nanos,
}

/// What two alerts have in common if they tell of the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    rule: String,
    priority: Priority,
    process: String,
    target: String,
}

/// Nothing for an alert without a target.
pub fn key(alert: &Alert) -> Option<Key> {
    let text = |name: &str| alert.output_fields.get(name).and_then(Value::as_str).filter(|t| *t != "<NA>");
    let process =
        text("proc.name").or_else(|| Some(alert.ancestry.first()?.name.as_str())).unwrap_or_default();
    Some(Key {
        rule: alert.rule.clone(),
        priority: alert.priority,
        process: process.get(..process.floor_char_boundary(COMM)).unwrap_or_default().to_owned(),
        target: address(alert).or_else(|| {
            ["dns.name", "fs.path.target", "fs.path.name", "fd.name", "proc.cmdline"]
                .iter()
                .find_map(|name| text(name))
                .map(str::to_owned)
        })?,
    })
}

/// Falco's instances are one sensor as far as a scan is concerned.
pub fn family(sensor: &str) -> &str {
    sensor.split(':').next().unwrap_or(sensor)
}

impl Alert {
    /// Whether this sensor's kind has raised it.
    pub fn is_seen_by(&self, sensor: &str) -> bool {
        let mut names = self.also_seen_by.iter().map(|w| w.sensor.as_str()).chain([self.sensor.as_str()]);
        names.any(|name| family(name) == family(sensor))
    }

    /// Notes that another sensor raised the same, `count` times by now.
    pub fn seen_by(&mut self, sensor: &str, count: u64, last_time: Nanos) {
        match self.also_seen_by.iter_mut().find(|w| w.sensor == sensor) {
            Some(witness) => {
                witness.count = count;
                witness.last_time = witness.last_time.max(last_time);
            }
            None => self.also_seen_by.push(Witness { sensor: sensor.to_owned(), count, last_time }),
        }
    }
}

/// Falco's `fd.name` of a connection has both ends and a port that is new each time.
fn address(alert: &Alert) -> Option<String> {
    let field = |name: &str| alert.output_fields.get(name);
    let (ip, port) = (field("fd.sip")?.as_str()?, field("fd.sport")?);
    let port = port.as_u64().or_else(|| port.as_str()?.parse().ok())?;
    Some(format!("{ip} {port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(rule: &str, priority: &str, fields: Value) -> Alert {
        let body = json!({ "rule": rule, "priority": priority, "output": "o", "output_fields": fields });
        crate::falco::decode(body.to_string().as_bytes(), 1).sightings.remove(0).alert
    }

    #[test]
    fn rule_priority_process_and_target_must_be_the_same() {
        let one = alert("r", "Warning", json!({ "proc.name": "node", "fd.name": "/a", "evt.time": 1 }));
        let same = alert("r", "Warning", json!({ "proc.name": "node", "fd.name": "/a", "evt.time": 2 }));
        assert_eq!(key(&one), key(&same));
        for (rule, priority, process, file) in [
            ("s", "Warning", "node", "/a"),
            ("r", "Error", "node", "/a"),
            ("r", "Warning", "sh", "/a"),
            ("r", "Warning", "node", "/b"),
        ] {
            let other = alert(rule, priority, json!({ "proc.name": process, "fd.name": file }));
            assert_ne!(key(&one), key(&other), "{rule} {priority} {process} {file}");
        }
    }

    #[test]
    fn names_are_cut_as_the_kernel_does_and_ports_of_ones_own_do_not_count() {
        let long = |name: &str| key(&alert("r", "Error", json!({ "proc.name": name, "proc.cmdline": "x" })));
        assert_eq!(long("a-very-long-program"), long("a-very-long-pro"));
        let to = |name: &str, port: Value| {
            let fields = json!({ "proc.name": "n", "fd.name": name, "fd.sip": "10.0.0.1", "fd.sport": port });
            key(&alert("r", "Error", fields))
        };
        assert_eq!(to("10.0.0.2:4711->10.0.0.1:80", json!(80)), to("10.0.0.1:80", json!("80")));
        assert_ne!(to("", json!(80)), to("", json!(81)));
    }

    #[test]
    fn without_a_target_there_is_no_agreement() {
        assert_eq!(key(&alert("r", "Error", json!({ "proc.name": "n", "fd.name": "<NA>" }))), None);
    }

    #[test]
    fn instances_of_falco_are_one_sensor() {
        let mut alert = alert("r", "Error", json!({}));
        alert.sensor = "builtin".into();
        assert!(alert.is_seen_by("builtin") && !alert.is_seen_by("falco:a"));
        alert.seen_by("falco:a", 1, 5);
        alert.seen_by("falco:a", 3, 4);
        assert!(alert.is_seen_by("falco:b"));
        assert_eq!(alert.also_seen_by, [Witness { sensor: "falco:a".into(), count: 3, last_time: 5 }]);
    }
}
