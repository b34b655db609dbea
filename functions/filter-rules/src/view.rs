//! An alert as an expression sees it: a flat table of texts, whole numbers and lists of texts.
//!
//! `NAMES` is the one list of what there is; `check` reads the types from it. Nothing here knows rules or decisions.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, IdedExpr as Expression, ResolveResult, Value};
use shared_filter::{AlertView, PRIORITIES, ProcessView, word};

use crate::check::{Type, fields_asked};

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
pub(crate) fn resolve(when: &Expression, view: AlertView<'_>, env: &Arc<Env>) -> ResolveResult {
    let mut context = Context::with_env(env.clone());
    for (urgency, (word, _)) in (0i64..).zip(PRIORITIES) {
        context.add_variable_from_value(word.to_ascii_uppercase(), urgency);
    }
    context.add_variable_from_value("alert", values(when, view));
    Value::resolve(when, &context)
}

fn values(when: &Expression, view: AlertView<'_>) -> HashMap<String, Value> {
    let alert = view.alert;
    let mut ancestry = view.ancestry();
    let process = ancestry.next();
    let (package, folder) = view.package().unwrap_or_default();
    let value = |name: &str| match name {
        "id" => whole(alert.id),
        "time" => Value::from(alert.time),
        "last_time" => Value::from(alert.last_time),
        "rule" => Value::from(view.rule()),
        "priority" => Value::from(word(alert.priority)),
        "urgency" => Value::from(i64::from(alert.priority as u8)),
        "output" => Value::from(view.output()),
        "fields" => fields(when, view),
        "tags" => Value::from(view.tags().map(str::to_owned).collect::<Vec<_>>()),
        "source" => Value::from(view.source()),
        "sensor" => Value::from(view.sensor()),
        "count" => whole(alert.count),
        "package" => Value::from(package),
        "folder" => Value::from(folder),
        "process" => Value::from(process.map(ProcessView::name).unwrap_or_default()),
        "exe" => Value::from(process.map(ProcessView::exe).unwrap_or_default()),
        "cmdline" => Value::from(process.map(ProcessView::cmdline).unwrap_or_default()),
        "fingerprint" => Value::from(view.fingerprint()),
        "seen_before" => Value::from(i64::from(alert.seen_before)),
        "manager" => Value::from(view.batch.manager.as_str()),
        "subject" => Value::from(view.batch.subject.as_str()),
        _ => Value::Null,
    };
    let mut values: HashMap<String, Value> = NAMES.iter().map(|(n, _)| ((*n).to_owned(), value(n))).collect();
    values.insert("ancestors".into(), Value::from(ancestry.map(|p| p.name().to_owned()).collect::<Vec<_>>()));
    values
}

/// The fields that the expression asks for, as text; one that the alert does not have is the empty text.
fn fields(when: &Expression, view: AlertView<'_>) -> Value {
    let text = |asked: &str| {
        let json = view.field(asked)?;
        Some(serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned()))
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
