//! The rule language, from the outside: what rules say and which events they match.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lanner_rules::{Event, FieldName, Match, RuleSet, Source, Value};

/// An event as a table of fields by full name.
struct Table<'t> {
    event_type: &'t str,
    names: Vec<String>,
    values: BTreeMap<&'t str, Value<'static>>,
}

impl Event for Table<'_> {
    fn event_type(&self) -> &str {
        self.event_type
    }

    fn field(&self, index: usize) -> Value<'_> {
        self.values.get(self.names[index].as_str()).cloned().unwrap_or(Value::Missing)
    }
}

fn text(value: &str) -> Value<'static> {
    Value::Text(Cow::Owned(value.as_bytes().to_vec()))
}

fn list(values: &[&str]) -> Value<'static> {
    Value::List(values.iter().map(|value| Cow::Owned(value.as_bytes().to_vec())).collect())
}

fn compile(yaml: &str) -> RuleSet {
    let source = Source { name: "rules.yaml", text: yaml };
    RuleSet::compile(&[source], &|_: &FieldName| true)
        .unwrap_or_else(|found| panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>()))
}

fn evaluate<'r>(rules: &'r RuleSet, event_type: &str, values: &[(&'static str, Value<'static>)]) -> Vec<Match<'r>> {
    let names = rules.fields().iter().map(ToString::to_string).collect();
    rules.evaluate(&Table { event_type, names, values: values.iter().cloned().collect() })
}

/// Whether a single condition holds.
fn holds(condition: &str, event_type: &str, values: &[(&'static str, Value<'static>)]) -> bool {
    let condition = condition.replace('\'', "''");
    let yaml = format!("- rule: R\n  desc: d\n  condition: '{condition}'\n  output: o\n  priority: NOTICE\n");
    !evaluate(&compile(&yaml), event_type, values).is_empty()
}

#[test]
fn not_binds_tighter_than_and_and_and_tighter_than_or() {
    let values = [("proc.name", text("sh"))];
    assert!(holds("proc.name = sh or proc.name = x and proc.name = y", "open", &values));
    assert!(!holds("(proc.name = sh or proc.name = x) and proc.name = y", "open", &values));
    assert!(holds("not proc.name = x and proc.name = sh", "open", &values));
    assert!(!holds("not (proc.name = x or proc.name = sh)", "open", &values));
    assert!(holds("not not proc.name = sh", "open", &values));
}
