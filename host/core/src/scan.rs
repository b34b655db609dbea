//! A scan: its life cycle, what it keeps, and how it is settled.
//!
//! `ScanState` is the one place that says which state may follow which, and `settle` the one place that turns what
//! was seen into a final state. Only the host's `scan` module calls them.

use serde::{Deserialize, Serialize};

use crate::Nanos;
use crate::alert::Priority;
use crate::evidence::Evidence;
use crate::id::{Owner, ScanId};
use crate::job::JobSpec;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanState {
    Queued,
    Running,
    /// The installation ended by itself and succeeded, and the evidence is complete.
    Finished,
    /// The installation itself failed, and the evidence is complete.
    Failed,
    /// We cannot vouch for what we saw.
    Incomplete,
    Cancelled,
}

/// What was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Subject {
    /// A project that was sent to us.
    Project { name: Option<String> },
    /// A published package.
    Package { name: String, version: Option<String> },
}

/// Which walls stood between the package and the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces of our own: user, mount, pid, net, ipc, uts.
    Namespaces,
    /// The container that we were started in, with Landlock, limits and the system call filter.
    Container,
}

/// A source in the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// `sha256:…` of the compressed bytes.
    pub digest: String,
    pub bytes: u64,
    /// Key in the blob store.
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseResult {
    pub name: String,
    pub started: Nanos,
    pub ended: Option<Nanos>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The end of what it printed: bounded, control characters escaped.
    pub output_tail: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub kept: u64,
    pub suppressed: u64,
    /// Calls that the sensor saw.
    pub events: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    pub id: ScanId,
    pub owner: Owner,
    pub state: ScanState,
    pub created: Nanos,
    pub started: Option<Nanos>,
    pub ended: Option<Nanos>,
    pub spec: JobSpec,
    pub source: Option<SourceRef>,
    pub isolation: Option<Isolation>,
    pub phases: Vec<PhaseResult>,
    pub evidence: Evidence,
    pub counts: Counts,
    /// Why it ended as it did, or what it waits for while it is queued, in one sentence; empty otherwise.
    pub reason: String,
    /// The filters that judged it, in their order.
    #[serde(default)]
    pub filters: Vec<crate::revision::FilterRef>,
    #[serde(default)]
    pub filter_failures: Vec<crate::decision::FilterFailure>,
    /// Hosts that the installation asked the proxy for, and what became of it.
    #[serde(default)]
    pub network: Vec<HostAttempt>,
    /// Of a running scan alone, and only if its runner could go on with it after a restart of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage: Option<Passage>,
}

/// What a runner needs to go on with a scan that an earlier life of the host began. Stored with the scan, so that neither is
/// ahead of the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// The runner's own words.
    pub note: serde_json::Value,
    /// Everything up to this number of the agent's stream is part of the scan.
    pub taken: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAttempt {
    pub host: String,
    pub port: u16,
    pub allowed: bool,
    pub count: u64,
}

/// The answer to "is it safe to install this?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Watched from the first to the last instruction, and nothing at or above the threshold was kept.
    Clean,
    /// Kept alerts at or above the threshold, whatever the state.
    Alerts,
    /// No answer: not over, not complete, the installation failed, or a filter did.
    Unknown,
}

impl ScanState {
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// A final state is never left; a running scan is not queued again, since the package has already acted.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Incomplete | Self::Cancelled),
            Self::Running => next.is_final(),
            Self::Finished | Self::Failed | Self::Incomplete | Self::Cancelled => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::Cancelled => "cancelled",
        }
    }
}

impl PhaseResult {
    pub fn succeeded(&self) -> bool {
        self.exit_code == Some(0)
    }
}

impl Subject {
    /// What scans of the same thing have in common, whatever the version; `None` for a project that has no name.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Project { name } => name.as_ref().map(|n| format!("project:{n}")),
            Self::Package { name, .. } => Some(format!("package:{name}")),
        }
    }

    /// A project's name, or `NAME@VERSION`; empty if unknown.
    pub fn label(&self) -> String {
        match self {
            Self::Project { name } => name.clone().unwrap_or_default(),
            Self::Package { name, version: Some(version) } => format!("{name}@{version}"),
            Self::Package { name, version: None } => name.clone(),
        }
    }
}

/// The final state and its sentence, from closed evidence and the phases. `expected` is how many phases there are.
pub fn settle(evidence: &Evidence, phases: &[PhaseResult], expected: usize) -> (ScanState, String) {
    if let Some(gap) = evidence.gaps.first() {
        return (ScanState::Incomplete, gap.to_string());
    }
    if let Some(failed) = phases.iter().find(|p| !p.succeeded()) {
        let how = match (failed.exit_code, failed.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => return (ScanState::Incomplete, format!("the phase {} did not end", failed.name)),
        };
        return (ScanState::Failed, format!("the phase {} failed with {how}", failed.name));
    }
    if phases.len() != expected {
        return (ScanState::Incomplete, format!("{} of {expected} phases ran", phases.len()));
    }
    (ScanState::Finished, String::new())
}

impl Scan {
    /// One of which nothing is known but what it asks for.
    pub fn queued(id: ScanId, owner: Owner, created: Nanos, spec: JobSpec) -> Self {
        Self {
            id,
            owner,
            state: ScanState::Queued,
            created,
            started: None,
            ended: None,
            spec,
            source: None,
            isolation: None,
            phases: Vec::new(),
            evidence: Evidence::default(),
            counts: Counts::default(),
            reason: String::new(),
            filters: Vec::new(),
            filter_failures: Vec::new(),
            network: Vec::new(),
            passage: None,
        }
    }

    /// The verdict at a threshold; `worst` is the most urgent priority among the kept alerts.
    pub fn verdict(&self, worst: Option<Priority>, threshold: Priority) -> Verdict {
        if worst.is_some_and(|w| w <= threshold) {
            return Verdict::Alerts;
        }
        // A filter that failed might have found one of its alerts more urgent than the rule did.
        if self.state == ScanState::Finished && self.evidence.complete() && self.filter_failures.is_empty() {
            Verdict::Clean
        } else {
            Verdict::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::{GapKind, SensorReport};

    fn phase(exit_code: Option<i32>, signal: Option<i32>) -> PhaseResult {
        let name = "install".into();
        PhaseResult { name, started: 1, ended: Some(2), exit_code, signal, output_tail: String::new() }
    }

    fn complete() -> Evidence {
        let sensor = SensorReport {
            name: "builtin".into(),
            start_mark: true,
            end_mark: true,
            events: 1,
            processes: 1,
            ..SensorReport::default()
        };
        let mut evidence = Evidence { sensors: vec![sensor], gaps: vec![] };
        evidence.close();
        evidence
    }

    #[test]
    fn finished_needs_complete_evidence_and_every_phase() {
        assert_eq!(settle(&complete(), &[phase(Some(0), None)], 1).0, ScanState::Finished);
        assert_eq!(settle(&complete(), &[phase(Some(1), None)], 1).0, ScanState::Failed);
        assert_eq!(settle(&complete(), &[phase(None, Some(9))], 1).0, ScanState::Failed);
        assert_eq!(settle(&complete(), &[phase(None, None)], 1).0, ScanState::Incomplete);
        assert_eq!(settle(&complete(), &[phase(Some(0), None)], 2).0, ScanState::Incomplete);
        assert_eq!(settle(&complete(), &[], 0).0, ScanState::Finished);
        let mut gap = complete();
        gap.gap(GapKind::AgentLost, "");
        assert_eq!(settle(&gap, &[phase(Some(0), None)], 1).0, ScanState::Incomplete);
    }

    fn any_state() -> impl Strategy<Value = ScanState> {
        use ScanState::*;
        prop::sample::select(vec![Queued, Running, Finished, Failed, Incomplete, Cancelled])
    }

    proptest! {
        #[test]
        fn a_final_state_is_never_left_and_nothing_goes_back(from in any_state(), to in any_state()) {
            if from.may_become(to) {
                prop_assert!(!from.is_final());
                prop_assert!(to > from);
            }
        }

        #[test]
        fn a_gap_never_settles_as_finished_or_failed(code in prop::option::of(-1i32..3), n in 0usize..3, kinds in 1usize..5) {
            let mut evidence = complete();
            for i in 0..kinds {
                evidence.gap(GapKind::Limit, format!("{i}"));
            }
            let phases = vec![phase(code, None); n];
            prop_assert_eq!(settle(&evidence, &phases, n).0, ScanState::Incomplete);
        }
    }
}
