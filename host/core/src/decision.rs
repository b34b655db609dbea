//! What a filter may decide about an alert, and how decisions combine.
//!
//! A filter annotates; nothing is deleted. Whatever a filter answers that is not a well-formed decision counts as a
//! failure of the filter, and the alert is kept.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The filter's revision; 0 for one that has none (a filter tried at the desk).
    #[serde(default)]
    pub revision: u64,
    /// `sha256:…` of the component that decided.
    pub digest: String,
    pub action: Action,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// No later filter may suppress this alert.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pin: bool,
    /// Why the suppression does not count; empty if it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub overruled: String,
}

/// How far a filter may suppress: the operator's word, not the filter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The largest part of a scan's alerts, in percent; [`SMALL`] alerts are within any part.
    pub percent: u8,
    /// The most urgent priority that it may suppress.
    pub priority: Priority,
}

/// So many suppressed alerts of a scan are few, whatever part of it they are.
pub const SMALL: usize = 3;

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

impl Default for Grant {
    fn default() -> Self {
        Self { percent: 50, priority: Priority::Warning }
    }
}

impl Decision {
    /// It is a suppression, and it counts.
    pub fn suppresses(&self) -> bool {
        self.action == Action::Suppress && self.overruled.is_empty()
    }

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

/// At the end of a scan: overrules every suppression of a filter that suppressed a larger part of the scan's alerts
/// than it was granted. Returns the places of the alerts that changed.
pub fn enforce_shares(alerts: &mut [JudgedAlert], grants: &BTreeMap<String, Grant>) -> BTreeSet<usize> {
    let mut changed = BTreeSet::new();
    let all = alerts.len();
    for (filter, grant) in grants {
        let is_its = |d: &Decision| d.filter == *filter && d.suppresses();
        let suppressed = alerts.iter().filter(|a| a.decisions.iter().any(is_its)).count();
        if suppressed <= SMALL || suppressed * 100 <= all * usize::from(grant.percent) {
            continue;
        }
        let why = format!(
            "this filter suppressed {suppressed} of {all} alerts, more than the {} % that it may",
            grant.percent
        );
        for (place, alert) in alerts.iter_mut().enumerate() {
            for decision in alert.decisions.iter_mut().filter(|d| is_its(d)) {
                decision.overruled.clone_from(&why);
                changed.insert(place);
            }
        }
    }
    changed
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl JudgedAlert {
    pub fn unjudged(alert: Alert) -> Self {
        Self { alert, decisions: Vec::new() }
    }

    /// Suppressed when a filter suppressed it and was not overruled.
    pub fn suppressed(&self) -> bool {
        self.decisions.iter().any(Decision::suppresses)
    }

    /// Takes the decisions of all filters, in their order, and overrules suppressions that are not granted: of an alert
    /// that an earlier filter pinned, and of one whose priority, as it stands after all of them, is too urgent.
    pub fn decide(&mut self, decisions: Vec<(Decision, Grant)>) {
        let (decisions, grants): (Vec<_>, Vec<_>) = decisions.into_iter().unzip();
        self.decisions = decisions;
        let priority = self.priority();
        let mut pinned: Option<String> = None;
        for (decision, grant) in self.decisions.iter_mut().zip(grants) {
            if decision.action == Action::Suppress {
                if let Some(by) = &pinned {
                    decision.overruled = format!("the filter {by} pinned the alert");
                } else if priority < grant.priority {
                    decision.overruled = format!(
                        "{priority} is more urgent than {}, the most that this filter may suppress",
                        grant.priority
                    );
                }
            }
            if decision.pin && pinned.is_none() {
                pinned = Some(decision.filter.clone());
            }
        }
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
            revision: 1,
            reason: reason.into(),
            tags: vec![],
            pin: false,
            overruled: String::new(),
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
            also_seen_by: vec![],
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

    fn suppress() -> Decision {
        decision(Action::Suppress, "known")
    }

    #[test]
    fn a_pinned_alert_is_not_suppressed_by_a_later_filter_but_by_an_earlier_one() {
        let pin = Decision { pin: true, filter: "guard".into(), ..decision(Action::Keep, "") };
        let mut judged = alert();
        judged.decide(vec![(pin.clone(), Grant::default()), (suppress(), Grant::default())]);
        assert!(!judged.suppressed());
        assert_eq!(judged.decisions[1].overruled, "the filter guard pinned the alert");
        judged.decide(vec![(suppress(), Grant::default()), (pin, Grant::default())]);
        assert!(judged.suppressed());
    }

    #[test]
    fn what_is_too_urgent_stays_whoever_made_it_so() {
        let mut judged = alert();
        let raise = decision(Action::Reprioritise(Priority::Critical), "worse");
        let granted = Grant { percent: 100, priority: Priority::Critical };
        judged.decide(vec![(suppress(), Grant::default()), (raise.clone(), Grant::default())]);
        assert!(!judged.suppressed());
        assert_eq!(
            judged.decisions[0].overruled,
            "CRITICAL is more urgent than WARNING, the most that this filter may suppress"
        );
        judged.decide(vec![(suppress(), granted), (raise, Grant::default())]);
        assert!(judged.suppressed());
    }

    #[test]
    fn a_filter_that_suppresses_too_much_is_overruled_in_the_whole_scan() {
        let scan = |suppressed: usize, all: usize| -> Vec<JudgedAlert> {
            let mut alerts = vec![alert(); all];
            alerts.iter_mut().take(suppressed).for_each(|a| a.decide(vec![(suppress(), Grant::default())]));
            alerts
        };
        let grants = BTreeMap::from([("f".to_owned(), Grant::default())]);
        for (suppressed, all, overruled) in [(3, 3, 0), (4, 8, 0), (4, 7, 4), (9, 9, 9)] {
            let mut alerts = scan(suppressed, all);
            assert_eq!(enforce_shares(&mut alerts, &grants).len(), overruled, "{suppressed} of {all}");
            assert_eq!(alerts.iter().filter(|a| a.suppressed()).count(), suppressed - overruled);
        }
        let mut alerts = scan(4, 7);
        enforce_shares(&mut alerts, &grants);
        assert_eq!(
            alerts[0].decisions[0].overruled,
            "this filter suppressed 4 of 7 alerts, more than the 50 % that it may"
        );
        let all = BTreeMap::from([("f".to_owned(), Grant { percent: 100, ..Grant::default() })]);
        assert!(enforce_shares(&mut scan(9, 9), &all).is_empty());
    }
}
