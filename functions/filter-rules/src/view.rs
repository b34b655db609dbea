//! An alert as an expression sees it: a flat table of texts, whole numbers and lists of texts.
//!
//! `NAMES` is the one list of what there is; `check` reads the types from it. Nothing here knows rules or decisions.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, IdedExpr as Expression, ResolveResult, Value};

use crate::bindings::exports::lanner::platform::filter::{Alert, Batch};
use crate::check::{Type, fields_asked};
use crate::settings::PRIORITIES;

/// What `alert` has.
pub(crate) const NAMES: [(&str, Type); 22] = [
    ("id", Type::Int),
    ("time", Type::Int),
    ("last_time", Type::Int),
    ("rule", Type::Text),
    ("priority", Type::Text),
    ("urgency", Type::Int),
    ("output", Type::Text),
    ("fields", Type::Fields),
    ("tags", Type::Texts),
    ("source", Type::Text),
    ("sensor", Type::Text),
    ("count", Type::Int),
    ("package", Type::Text),
    ("folder", Type::Text),
    ("process", Type::Text),
    ("exe", Type::Text),
    ("cmdline", Type::Text),
    ("ancestors", Type::Texts),
    ("fingerprint", Type::Text),
    ("seen_before", Type::Int),
    ("manager", Type::Text),
    ("subject", Type::Text),
];

/// The value of an expression for an alert.
pub(crate) fn resolve(when: &Expression, batch: &Batch, alert: &Alert, env: &Arc<Env>) -> ResolveResult {
    let mut context = Context::with_env(env.clone());
    for (urgency, (word, _)) in (0i64..).zip(PRIORITIES) {
        context.add_variable_from_value(word.to_ascii_uppercase(), urgency);
    }
    context.add_variable_from_value("alert", values(when, batch, alert));
    Value::resolve(when, &context)
}

fn values(when: &Expression, batch: &Batch, alert: &Alert) -> HashMap<String, Value> {
    let mut ancestry = alert.ancestry.iter().filter_map(|i| batch.processes.get(usize::try_from(*i).ok()?));
    let process = ancestry.next();
    let of_process = |part: fn(&crate::bindings::exports::lanner::platform::filter::Process) -> &String| {
        Value::from(process.map(part).cloned().unwrap_or_default())
    };
    let of_package =
        |part: fn(&crate::bindings::exports::lanner::platform::filter::Responsible) -> &String| {
            Value::from(alert.package.as_ref().map(part).cloned().unwrap_or_default())
        };
    let word = PRIORITIES.iter().find(|(_, p)| *p == alert.priority).map(|(w, _)| *w).unwrap_or_default();
    let value = |name: &str| match name {
        "id" => whole(alert.id),
        "time" => Value::from(alert.time),
        "last_time" => Value::from(alert.last_time),
        "rule" => Value::from(alert.rule.as_str()),
        "priority" => Value::from(word),
        "urgency" => Value::from(i64::from(alert.priority as u8)),
        "output" => Value::from(alert.output.as_str()),
        "fields" => fields(when, alert),
        "tags" => Value::from(alert.tags.clone()),
        "source" => Value::from(alert.source.as_str()),
        "sensor" => Value::from(alert.sensor.as_str()),
        "count" => whole(alert.count),
        "package" => of_package(|p| &p.name),
        "folder" => of_package(|p| &p.folder),
        "process" => of_process(|p| &p.name),
        "exe" => of_process(|p| &p.exe),
        "cmdline" => of_process(|p| &p.cmdline),
        "fingerprint" => Value::from(alert.fingerprint.as_str()),
        "seen_before" => Value::from(i64::from(alert.seen_before)),
        "manager" => Value::from(batch.manager.as_str()),
        "subject" => Value::from(batch.subject.as_str()),
        _ => Value::Null,
    };
    let mut values: HashMap<String, Value> = NAMES.iter().map(|(n, _)| ((*n).to_owned(), value(n))).collect();
    values.insert("ancestors".into(), Value::from(ancestry.map(|p| p.name.clone()).collect::<Vec<_>>()));
    values
}

/// The fields that the expression asks for, as text; one that the alert does not have is the empty text.
fn fields(when: &Expression, alert: &Alert) -> Value {
    let text = |asked: &str| {
        let (_, json) = alert.fields.iter().find(|(name, _)| name == asked)?;
        Some(serde_json::from_str::<String>(json).unwrap_or_else(|_| json.clone()))
    };
    let pair = |name: String| {
        let value = text(&name).unwrap_or_default();
        (name, value)
    };
    Value::from(fields_asked(when).into_iter().map(pair).collect::<HashMap<String, String>>())
}

fn whole(number: u64) -> Value {
    Value::from(i64::try_from(number).unwrap_or(i64::MAX))
}
