//! An alert: what a sensor saw that a rule minds.
//!
//! The shape is Falco's (rule, priority, output, output_fields, tags, source, hostname) with what Falco does not
//! say: which scan, how often, the ancestors of the process, and the package responsible.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Nanos;
use crate::agree::Witness;

/// Falco's priorities, most urgent first; so `a <= Priority::Notice` reads "at least as urgent as NOTICE".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

/// One alert of a scan. Repeats of the same rule, process and target are folded into one by the sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Number within the scan, from 1, in order of first arrival.
    pub id: u64,
    /// First and last time it was seen, and how often.
    pub time: Nanos,
    pub last_time: Nanos,
    pub count: u64,
    pub rule: String,
    pub priority: Priority,
    /// One line, the rule's output with its fields filled in.
    pub output: String,
    /// Field name (Falco's, or `lanner.*`) to value: string, integer, bool, list or null.
    pub output_fields: BTreeMap<String, serde_json::Value>,
    pub tags: Vec<String>,
    /// `syscall`, `internal`, or a Falco plugin's source.
    pub source: String,
    pub hostname: String,
    /// Which sensor saw it first: `builtin`, or a Falco instance by name.
    pub sensor: String,
    /// Sensors of another kind that raised the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_seen_by: Vec<Witness>,
    /// The process that did it, then its ancestors, nearest first.
    pub ancestry: Vec<Process>,
    pub package: Option<Responsible>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    pub exe: String,
    pub cmdline: String,
    pub cwd: String,
}

/// The package whose folder the nearest ancestor ran in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Responsible {
    /// As the package manager names it, e.g. `left-pad` or `@scope/name`; the project's own name for its own scripts.
    pub name: String,
    /// Its folder, relative to the project; `.` for the project itself.
    pub folder: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown priority {0}: use one of emergency, alert, critical, error, warning, notice, informational, debug"
)]
pub struct UnknownPriority(pub String);

impl Priority {
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// Falco's upper-case word, as in its gRPC enum.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "EMERGENCY",
            Self::Alert => "ALERT",
            Self::Critical => "CRITICAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Informational => "INFORMATIONAL",
            Self::Debug => "DEBUG",
        }
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    /// Any case; Falco's rules files say `INFO` where its outputs say `INFORMATIONAL`.
    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        let upper = text.to_ascii_uppercase();
        if upper == "INFO" {
            return Ok(Self::Informational);
        }
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == upper)
            .ok_or_else(|| UnknownPriority(crate::text::escaped(&crate::text::bounded(text, 40))))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Alert {
    /// 16 hex digits, the same in every scan for the same rule, program, target and package. The user's name is chosen
    /// anew for each scan, so a home is `~`.
    pub fn fingerprint(&self) -> String {
        let exe = self.ancestry.first().map(|p| homeless(&p.exe)).unwrap_or_default();
        let target = ["fd.name", "dns.name", "fs.path.target", "fs.path.name", "proc.exepath"]
            .iter()
            .find_map(|field| self.output_fields.get(*field)?.as_str())
            .map(homeless)
            .unwrap_or_default();
        let package = self.package.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
        let mut hash = Sha256::new();
        for (home, rest) in [("", self.rule.as_str()), exe, target, ("", package)] {
            // A length before each part: no two lists of parts make the same bytes.
            hash.update(((home.len() + rest.len()) as u64).to_le_bytes());
            hash.update(home);
            hash.update(rest);
        }
        let digits = hash.finalize().into_iter().take(8).flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
    }
}

/// A path with the home of whatever user as `~`, in two pieces.
fn homeless(path: &str) -> (&'static str, &str) {
    let below = path.strip_prefix("/home/").and_then(|rest| rest.split_once('/'));
    below.map_or(("", path), |(_, rest)| ("~/", rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_same_for_another_user_and_another_for_another_target() {
        let alert = |home: &str, file: &str| Alert {
            id: 1,
            time: 1,
            last_time: 1,
            count: 1,
            rule: "r".into(),
            priority: Priority::Warning,
            output: home.into(),
            output_fields: [("fd.name".to_owned(), format!("/home/{home}/{file}").into())].into(),
            tags: vec![],
            source: "syscall".into(),
            hostname: home.into(),
            sensor: "builtin".into(),
            also_seen_by: vec![],
            ancestry: vec![Process { exe: "/usr/bin/node".into(), ..Process::default() }],
            package: None,
        };
        let one = alert("nina", ".npmrc").fingerprint();
        assert_eq!(one, alert("otto", ".npmrc").fingerprint());
        assert_ne!(one, alert("nina", ".netrc").fingerprint());
        assert!(one.len() == 16 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn priorities_are_read_in_any_case_and_ordered_by_urgency() {
        assert_eq!("Warning".parse(), Ok(Priority::Warning));
        assert_eq!("info".parse(), Ok(Priority::Informational));
        assert!(Priority::Critical < Priority::Notice);
        assert!("loud".parse::<Priority>().is_err());
    }
}
