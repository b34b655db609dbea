//! Evidence: what a "clean" must be able to show, and every way in which it can fall short.
//!
//! A gap is a named reason why we cannot vouch for what we saw. One gap is enough to make a scan `incomplete`; no
//! code outside this module may turn a gap into silence.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agree::family;
use crate::alert::Alert;

/// The sensor that watches from inside the sandbox, as evidence and alerts name it.
pub const BUILTIN: &str = "builtin";
/// The longest detail a gap carries, in bytes.
const MAX_DETAIL: usize = 300;
/// More gaps than this say nothing new.
const MAX_GAPS: usize = 64;

/// All that a scan can show for its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub sensors: Vec<SensorReport>,
    pub gaps: Vec<Gap>,
}

/// One sensor's account of one scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorReport {
    pub name: String,
    /// The secret start nonce came back before the package's first instruction.
    pub start_mark: bool,
    /// The end nonce came back after the last process was gone.
    pub end_mark: bool,
    /// Events seen, and processes watched.
    pub events: u64,
    pub processes: u64,
    /// Distinct alerts that it raised, and how many of them no other sensor raised too.
    #[serde(default)]
    pub alerts: u64,
    #[serde(default)]
    pub alone: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub kind: GapKind,
    /// One line that names the sensor, limit or argument; empty when the kind says all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// No sensor watched at all.
    NoSensor,
    NoStartMark,
    NoEndMark,
    /// A sensor disconnected, restarted or reported drops.
    SensorLost,
    /// The agent died, was killed, or fell silent.
    AgentLost,
    /// An argument could not be read; the call was refused.
    Unreadable,
    /// A limit was hit: time, memory, processes, disk, alerts.
    Limit,
    /// The host restarted while the scan ran.
    HostRestarted,
    /// The sandbox could not be set up as asked.
    Sandbox,
    /// What arrived from the agent did not make sense.
    Protocol,
    /// The store could not keep what was seen.
    Store,
}

impl Evidence {
    pub fn complete(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Notes a gap; the same gap twice says nothing new.
    pub fn gap(&mut self, kind: GapKind, detail: impl AsRef<str>) {
        let detail = crate::text::escaped(&crate::text::bounded(detail.as_ref(), MAX_DETAIL));
        let gap = Gap { kind, detail };
        if self.gaps.len() < MAX_GAPS && !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    /// Counts what each sensor raised, and what it alone did. A sensor that only adds alerts gets its report here, after the
    /// evidence is closed: it has no marks and needs none.
    pub fn compare<'a>(&mut self, alerts: impl IntoIterator<Item = &'a Alert>) {
        for alert in alerts {
            let first = self.report(family(&alert.sensor));
            first.alerts += 1;
            if alert.also_seen_by.is_empty() {
                first.alone += 1;
            }
            // Two of Falco's instances are one sensor.
            let others: BTreeSet<&str> = alert.also_seen_by.iter().map(|w| family(&w.sensor)).collect();
            for other in others {
                self.report(other).alerts += 1;
            }
        }
    }

    fn report(&mut self, name: &str) -> &mut SensorReport {
        let at = self.sensors.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.sensors.push(SensorReport { name: name.to_owned(), ..SensorReport::default() });
            self.sensors.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found or pushed one line above")]
        &mut self.sensors[at]
    }

    /// Adds the gaps that follow from the reports: called once, when the scan ends.
    pub fn close(&mut self) {
        if self.sensors.is_empty() {
            self.gap(GapKind::NoSensor, "");
        }
        for sensor in self.sensors.clone() {
            if !sensor.start_mark {
                self.gap(GapKind::NoStartMark, &sensor.name);
            }
            if !sensor.end_mark {
                self.gap(GapKind::NoEndMark, &sensor.name);
            }
        }
    }
}

impl GapKind {
    fn sentence(self) -> &'static str {
        match self {
            Self::NoSensor => "no sensor watched the installation",
            Self::NoStartMark => "a sensor did not report the start mark",
            Self::NoEndMark => "a sensor did not report the end mark",
            Self::SensorLost => "a sensor was lost while the scan ran",
            Self::AgentLost => "the agent died or fell silent",
            Self::Unreadable => "the sensor could not read an argument of a call and refused it",
            Self::Limit => "a limit was hit",
            Self::HostRestarted => "the host restarted while the scan ran",
            Self::Sandbox => "the sandbox could not be set up",
            Self::Protocol => "the agent's stream did not make sense",
            Self::Store => "what was seen could not be stored",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.sentence())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_marks_or_sensors_nothing_is_complete() {
        let mut none = Evidence::default();
        none.close();
        assert!(!none.complete());

        let mut half = Evidence::default();
        half.sensors.push(SensorReport { name: "builtin".into(), start_mark: true, ..Default::default() });
        half.close();
        assert_eq!(half.gaps, [Gap { kind: GapKind::NoEndMark, detail: "builtin".into() }]);
    }

    #[test]
    fn what_two_sensors_saw_is_told_from_what_one_saw_alone() {
        let alert = |sensor: &str, others: &[&str]| {
            let mut alert = crate::falco::decode(br#"{"rule":"r"}"#, 1).sightings.remove(0).alert;
            alert.sensor = sensor.into();
            others.iter().for_each(|other| alert.seen_by(other, 1, 1));
            alert
        };
        let mut evidence = Evidence::default();
        evidence.sensors.push(SensorReport { name: "builtin".into(), ..Default::default() });
        let alerts = [alert("builtin", &["falco:a", "falco:b"]), alert("falco:a", &[])];
        evidence.compare(&alerts);
        let counts: Vec<_> = evidence.sensors.iter().map(|s| (s.name.as_str(), s.alerts, s.alone)).collect();
        assert_eq!(counts, [("builtin", 1, 0), ("falco", 2, 1)]);
        assert!(evidence.complete());
    }

    #[test]
    fn gaps_are_bounded_and_escaped() {
        let mut evidence = Evidence::default();
        for i in 0..1000 {
            evidence.gap(GapKind::Unreadable, format!("\x1b[2J{i}{}", "x".repeat(1000)));
        }
        assert_eq!(evidence.gaps.len(), MAX_GAPS);
        assert!(evidence.gaps.iter().all(|g| !g.detail.contains('\x1b') && g.detail.len() < 400));
    }
}
