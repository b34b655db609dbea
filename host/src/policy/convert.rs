//! Between the words of core and those of the world `alert-filter`; and what makes an answer nonsense.

use std::collections::HashMap;

use lanner_core::text::{bounded, escaped};
use lanner_core::{Action, Alert, Decision, Priority, Process, Revision};

use super::generated::exports::lanner::platform::filter as wit;
use super::generated::lanner::platform::types::Priority as WitPriority;
use crate::scan::ports::About;

const MAX_SHOWN: usize = 300;

pub(super) fn shown(text: &str) -> String {
    escaped(&bounded(text, MAX_SHOWN))
}

/// A batch with each process once: ancestors are mostly shared.
pub(super) fn batch(about: &About, alerts: &[Alert]) -> wit::Batch {
    let mut places: HashMap<&Process, u32> = HashMap::new();
    let mut processes = Vec::new();
    let mut converted = Vec::with_capacity(alerts.len());
    for alert in alerts {
        let place = |process| {
            *places.entry(process).or_insert_with(|| {
                processes.push(of_process(process));
                u32::try_from(processes.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let ancestry = alert.ancestry.iter().map(place).collect();
        converted.push(of_alert(about, alert, ancestry));
    }
    wit::Batch {
        scan: about.scan.to_string(),
        manager: about.manager.clone(),
        subject: about.subject.clone(),
        processes,
        alerts: converted,
    }
}

fn of_process(process: &Process) -> wit::Process {
    wit::Process {
        pid: process.pid,
        name: process.name.clone(),
        exe: process.exe.clone(),
        cmdline: process.cmdline.clone(),
        cwd: process.cwd.clone(),
    }
}

fn of_alert(about: &About, alert: &Alert, ancestry: Vec<u32>) -> wit::Alert {
    let fingerprint = alert.fingerprint();
    wit::Alert {
        id: alert.id,
        time: alert.time,
        last_time: alert.last_time,
        rule: alert.rule.clone(),
        priority: to_wit(alert.priority),
        output: alert.output.clone(),
        fields: alert.output_fields.iter().map(|(n, v)| (n.clone(), v.to_string())).collect(),
        tags: alert.tags.clone(),
        source: alert.source.clone(),
        sensor: alert.sensor.clone(),
        count: alert.count,
        ancestry,
        package: alert
            .package
            .as_ref()
            .map(|p| wit::Responsible { name: p.name.clone(), folder: p.folder.clone() }),
        seen_before: about.seen.get(&fingerprint).copied().unwrap_or(0),
        fingerprint,
    }
}

/// One well-formed decision for each alert of the batch, no more and no less, in the batch's order.
pub(super) fn decisions(
    batch: &wit::Batch,
    answered: Vec<wit::Decision>,
    of: &Revision,
) -> Result<Vec<Decision>, String> {
    let asked = batch.alerts.len();
    if answered.len() != asked {
        return Err(format!("the filter answered {} decisions for {asked} alerts", answered.len()));
    }
    let mut open: HashMap<u64, Option<Decision>> = batch.alerts.iter().map(|a| (a.id, None)).collect();
    for answer in answered {
        let id = answer.id;
        match open.get_mut(&id) {
            Some(place @ None) => {
                let mut decision = decision(answer, of);
                // Bounds count what the filter said; escaping makes it longer.
                decision.check().map_err(|e| e.to_string())?;
                decision.reason = escaped(&decision.reason);
                decision.tags.iter_mut().for_each(|t| *t = escaped(t));
                *place = Some(decision);
            }
            _ => {
                return Err(format!("the filter decided twice on alert {id}, or was not asked about it"));
            }
        }
    }
    Ok(batch.alerts.iter().filter_map(|a| open.get_mut(&a.id)?.take()).collect())
}

fn decision(decision: wit::Decision, of: &Revision) -> Decision {
    Decision {
        filter: of.name.to_string(),
        revision: of.number,
        digest: of.digest.clone(),
        action: action(decision.action),
        reason: decision.reason,
        tags: decision.tags,
        pin: decision.pin,
        overruled: String::new(),
    }
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
