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
