//! What a filter may decide about an alert, and how decisions combine.
//!
//! A filter annotates; nothing is deleted. Whatever a filter answers that is not a well-formed decision counts as a
//! failure of the filter, and the alert is kept.

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Priority};

/// The longest reason and tag a filter may give, in bytes.
pub const MAX_REASON: usize = 1024;
pub const MAX_TAG: usize = 64;
pub const MAX_TAGS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Keep,
    Suppress,
    /// The alert counts with this priority instead of its rule's.
    Reprioritise(Priority),
}

/// One filter's decision about one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub filter: String,
    /// `sha256:…` of the component that decided.
    pub digest: String,
    pub action: Action,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A filter trapped, stalled or answered nonsense: its alerts were kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterFailure {
    pub filter: String,
    pub digest: String,
    pub reason: String,
    /// How many alerts it was asked about in the batch that failed.
    pub alerts: u64,
}

/// An alert with all that was decided about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedAlert {
    #[serde(flatten)]
    pub alert: Alert,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

/// Why a decision is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDecision {
    #[error("the filter suppressed an alert without a reason")]
    NoReason,
    #[error("the filter gave a reason of {0} bytes, more than {MAX_REASON}")]
    LongReason(usize),
    #[error("the filter gave {0} tags, more than {MAX_TAGS}")]
    ManyTags(usize),
    #[error("the filter gave a tag of {0} bytes, more than {MAX_TAG}")]
    LongTag(usize),
}

impl Decision {
    pub fn check(&self) -> Result<(), BadDecision> {
        if self.action == Action::Suppress && self.reason.trim().is_empty() {
            return Err(BadDecision::NoReason);
        }
        if self.reason.len() > MAX_REASON {
            return Err(BadDecision::LongReason(self.reason.len()));
        }
        if self.tags.len() > MAX_TAGS {
            return Err(BadDecision::ManyTags(self.tags.len()));
        }
        match self.tags.iter().find(|t| t.len() > MAX_TAG) {
            Some(tag) => Err(BadDecision::LongTag(tag.len())),
            None => Ok(()),
        }
    }
}

impl JudgedAlert {
    pub fn unjudged(alert: Alert) -> Self {
        Self { alert, decisions: Vec::new() }
    }

    /// Suppressed when any filter suppressed it.
    pub fn suppressed(&self) -> bool {
        self.decisions.iter().any(|d| d.action == Action::Suppress)
    }

    /// The most urgent priority that a filter named, else the rule's.
    pub fn priority(&self) -> Priority {
        let named = |d: &Decision| match d.action {
            Action::Reprioritise(p) => Some(p),
            Action::Keep | Action::Suppress => None,
        };
        self.decisions.iter().filter_map(named).min().unwrap_or(self.alert.priority)
    }

    /// Kept, and at least as urgent as `threshold`.
    pub fn counts_at(&self, threshold: Priority) -> bool {
        !self.suppressed() && self.priority() <= threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(action: Action, reason: &str) -> Decision {
        Decision {
            filter: "f".into(),
            digest: "sha256:0".into(),
            action,
            reason: reason.into(),
            tags: vec![],
        }
    }

    fn alert() -> JudgedAlert {
        JudgedAlert::unjudged(Alert {
            id: 1,
            time: 1,
            last_time: 1,
            count: 1,
            rule: "r".into(),
            priority: Priority::Warning,
            output: String::new(),
            output_fields: Default::default(),
            tags: vec![],
            source: "syscall".into(),
            hostname: "h".into(),
            sensor: "builtin".into(),
            ancestry: vec![],
            package: None,
        })
    }

    #[test]
    fn suppression_needs_a_reason() {
        assert_eq!(decision(Action::Suppress, "  ").check(), Err(BadDecision::NoReason));
        assert_eq!(decision(Action::Suppress, "native build").check(), Ok(()));
        assert_eq!(decision(Action::Keep, "").check(), Ok(()));
        assert_eq!(decision(Action::Keep, &"x".repeat(2000)).check(), Err(BadDecision::LongReason(2000)));
    }

    #[test]
    fn the_most_urgent_priority_named_wins() {
        let mut judged = alert();
        assert!(judged.counts_at(Priority::Notice));
        judged.decisions.push(decision(Action::Reprioritise(Priority::Informational), "known"));
        assert!(!judged.counts_at(Priority::Notice));
        judged.decisions.push(decision(Action::Reprioritise(Priority::Critical), "worse"));
        assert_eq!(judged.priority(), Priority::Critical);
        judged.decisions.push(decision(Action::Suppress, "known"));
        assert!(!judged.counts_at(Priority::Debug));
    }
}
