//! Between the words of core and those of the world `alert-filter`; and what makes an answer nonsense.

use std::collections::HashSet;

use lanner_core::text::{bounded, escaped};
use lanner_core::{Action, Alert, Decision, JudgedAlert, Priority};

use super::generated as wit;
use super::generated::lanner::platform::types::Priority as WitPriority;

const MAX_SHOWN: usize = 300;

pub(super) fn shown(text: &str) -> String {
    escaped(&bounded(text, MAX_SHOWN))
}

pub(super) fn alert(alert: &Alert) -> wit::Alert {
    wit::Alert {
        id: alert.id,
        rule: alert.rule.clone(),
        priority: to_wit(alert.priority),
        output: alert.output.clone(),
        fields: alert.output_fields.iter().map(|(n, v)| (n.clone(), v.to_string())).collect(),
        tags: alert.tags.clone(),
        source: alert.source.clone(),
        sensor: alert.sensor.clone(),
        count: alert.count,
        ancestry: alert
            .ancestry
            .iter()
            .map(|p| wit::Process {
                pid: p.pid,
                name: p.name.clone(),
                exe: p.exe.clone(),
                cmdline: p.cmdline.clone(),
                cwd: p.cwd.clone(),
            })
            .collect(),
        package: alert
            .package
            .as_ref()
            .map(|p| wit::Responsible { name: p.name.clone(), folder: p.folder.clone() }),
    }
}

pub(super) fn decision(decision: wit::Decision, filter: &str, digest: &str) -> Decision {
    Decision {
        filter: filter.to_owned(),
        digest: digest.to_owned(),
        action: action(decision.action),
        reason: escaped(&decision.reason),
        tags: decision.tags.iter().map(|t| escaped(t)).collect(),
    }
}

/// One well-formed decision for each alert of the batch, no more and no less.
pub(super) fn check(batch: &[JudgedAlert], decisions: &[wit::Decision]) -> Result<(), String> {
    if decisions.len() != batch.len() {
        return Err(format!("the filter answered {} decisions for {} alerts", decisions.len(), batch.len()));
    }
    let mut open: HashSet<u64> = batch.iter().map(|j| j.alert.id).collect();
    for decision in decisions {
        if !open.remove(&decision.id) {
            return Err(format!(
                "the filter decided twice, or on alert {}, which it was not asked about",
                decision.id
            ));
        }
        let action = action(decision.action);
        let checked = Decision {
            filter: String::new(),
            digest: String::new(),
            action,
            reason: decision.reason.clone(),
            tags: decision.tags.clone(),
        };
        checked.check().map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn action(action: wit::Action) -> Action {
    match action {
        wit::Action::Keep => Action::Keep,
        wit::Action::Suppress => Action::Suppress,
        wit::Action::Reprioritise(priority) => Action::Reprioritise(of_wit(priority)),
    }
}

fn to_wit(priority: Priority) -> WitPriority {
    match priority {
        Priority::Emergency => WitPriority::Emergency,
        Priority::Alert => WitPriority::Alert,
        Priority::Critical => WitPriority::Critical,
        Priority::Error => WitPriority::Error,
        Priority::Warning => WitPriority::Warning,
        Priority::Notice => WitPriority::Notice,
        Priority::Informational => WitPriority::Informational,
        Priority::Debug => WitPriority::Debug,
    }
}

fn of_wit(priority: WitPriority) -> Priority {
    match priority {
        WitPriority::Emergency => Priority::Emergency,
        WitPriority::Alert => Priority::Alert,
        WitPriority::Critical => Priority::Critical,
        WitPriority::Error => Priority::Error,
        WitPriority::Warning => Priority::Warning,
        WitPriority::Notice => Priority::Notice,
        WitPriority::Informational => Priority::Informational,
        WitPriority::Debug => Priority::Debug,
    }
}
