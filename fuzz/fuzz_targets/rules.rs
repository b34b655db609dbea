//! Any text as a rules file, and what it compiles to over a few events: neither may panic, hang or grow without bound.

#![no_main]

use lanner_rules::{Event, MAX_OUTPUT, RuleSet, Source, Value};
use libfuzzer_sys::fuzz_target;

/// The same value for every field.
struct Constant<'v> {
    event_type: &'v str,
    value: Value<'v>,
}

impl Event for Constant<'_> {
    fn event_type(&self) -> &str {
        self.event_type
    }

    fn field(&self, _: usize) -> Value<'_> {
        self.value.clone()
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let source = Source { name: "fuzz.yaml", text };
    let rules = match RuleSet::compile(&[source], &|_| true) {
        Ok(rules) => rules,
        Err(found) => {
            assert!(!found.is_empty(), "refused without a reason");
            for diagnostic in found {
                assert!(!diagnostic.message.contains(char::is_control), "{diagnostic}");
            }
            return;
        }
    };
    let values = [
        Value::Missing,
        Value::Text(data.into()),
        Value::Number(1),
        Value::Flag(true),
        Value::Address([127, 0, 0, 1].into()),
        Value::List(vec![data.into(), b"sh".into()]),
    ];
    for event_type in ["open", "connect", "x"] {
        for value in values.clone() {
            let found = rules.evaluate(&Constant { event_type, value });
            assert!(found.is_empty() || rules.watches(event_type));
            for one in found {
                assert!(one.output.len() <= MAX_OUTPUT);
                assert!(!one.output.contains(&b'\n'));
            }
        }
    }
});
