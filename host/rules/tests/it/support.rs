//! Events as tables, and rules from one condition.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lanner_rules::{Diagnostic, Event, FieldName, Match, RuleSet, Source, Value};

/// An event as a table of fields by full name, bound to a rule set's indices.
pub(crate) struct Table<'t> {
    pub(crate) event_type: &'t str,
    pub(crate) names: Vec<String>,
    pub(crate) values: BTreeMap<String, Value<'static>>,
}

impl Event for Table<'_> {
    fn event_type(&self) -> &str {
        self.event_type
    }

    fn field(&self, index: usize) -> Value<'_> {
        self.values.get(self.names[index].as_str()).cloned().unwrap_or(Value::Missing)
    }
}

pub(crate) fn text(value: &str) -> Value<'static> {
    Value::Text(Cow::Owned(value.as_bytes().to_vec()))
}

pub(crate) fn list(values: &[&str]) -> Value<'static> {
    Value::List(values.iter().map(|value| Cow::Owned(value.as_bytes().to_vec())).collect())
}

pub(crate) fn address(value: &str) -> Value<'static> {
    Value::Address(value.parse().unwrap())
}

/// Reads `type field=value field=value …`; a value ends where the next ` word.word=` begins.
pub(crate) fn written(line: &str) -> (&str, BTreeMap<String, String>) {
    let (event_type, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some((name, value)) if name.contains('.') && !name.contains(['/', '-']) => {
                last = name.to_owned();
                given.insert(last.clone(), value.to_owned());
            }
            _ => given.get_mut(&last).expect("a value belongs to a field").extend([" ", word]),
        }
    }
    (event_type, given)
}

/// A value of the kind that sensors give this field.
pub(crate) fn typed(name: &str, value: &str) -> Value<'static> {
    let flag = name.starts_with("lanner.") || name.starts_with("proc.is_") || name.starts_with("evt.is_");
    match name {
        "fd.sip" | "fd.snet" => address(value),
        "fd.sport" | "fd.num" => Value::Number(value.parse().unwrap()),
        "proc.aname" => list(&value.split(',').collect::<Vec<_>>()),
        _ if flag && matches!(value, "true" | "false") => Value::Flag(value == "true"),
        _ => text(value),
    }
}

/// A rule `R` with this condition and output, as YAML.
pub(crate) fn rule(condition: &str, output: &str) -> String {
    let quote = |text: &str| text.replace('\'', "''");
    let (condition, output) = (quote(condition), quote(output));
    format!("- rule: R\n  desc: d\n  condition: '{condition}'\n  output: '{output}'\n  priority: NOTICE\n")
}

pub(crate) fn try_compile(yaml: &str) -> Result<RuleSet, Vec<Diagnostic>> {
    let unknown = |field: &FieldName| !field.name.starts_with("unknown.");
    RuleSet::compile(&[Source { name: "rules.yaml", text: yaml }], &unknown)
}

pub(crate) fn compile(yaml: &str) -> RuleSet {
    try_compile(yaml).unwrap_or_else(|found| panic!("{}", lines(&found)))
}

pub(crate) fn lines(found: &[Diagnostic]) -> String {
    found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

pub(crate) fn evaluate<'r>(
    rules: &'r RuleSet,
    event_type: &str,
    values: &[(&str, Value<'static>)],
) -> Vec<Match<'r>> {
    let names = rules.fields().iter().map(ToString::to_string).collect();
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    rules.evaluate(&Table { event_type, names, values })
}

/// Whether a single condition holds.
pub(crate) fn holds(condition: &str, event_type: &str, values: &[(&str, Value<'static>)]) -> bool {
    !evaluate(&compile(&rule(condition, "o")), event_type, values).is_empty()
}
