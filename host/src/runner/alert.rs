//! An alert of the agent's stream as an alert of ours: bytes become text, and everything gets its bound.

use std::collections::BTreeMap;

use lanner_core::text::{bounded, lossy};
use lanner_core::{Alert, Priority, Process, Responsible};
use lanner_proto::agent::{self, field};
use serde_json::Value;

const MAX_OUTPUT: usize = 8 * 1024;
const MAX_TEXT: usize = 4 * 1024;
const MAX_FIELDS: usize = 64;
const MAX_ITEMS: usize = 64;
const MAX_ANCESTORS: usize = 32;
const MAX_TAIL: usize = 16 * 1024;

/// What every alert of one scan has in common.
pub(super) struct Context {
    hostname: String,
    sensor: &'static str,
}

impl Context {
    pub(super) fn new(start: &agent::Start, sensor: &'static str) -> Self {
        let hostname = start.persona.as_ref().map(|p| p.hostname.clone()).unwrap_or_default();
        Self { hostname, sensor }
    }

    pub(super) fn alert(&self, alert: agent::Alert) -> Alert {
        let package = (!alert.package_name.is_empty())
            .then(|| Responsible { name: text(&alert.package_name), folder: text(&alert.package_folder) });
        Alert {
            id: alert.id,
            time: alert.time_ns,
            last_time: alert.time_ns,
            count: 1,
            rule: bounded(&alert.rule, MAX_TEXT),
            priority: priority(alert.priority),
            output: bounded(&lossy(&alert.output), MAX_OUTPUT),
            output_fields: fields(alert.fields),
            tags: alert.tags.iter().take(MAX_ITEMS).map(|t| bounded(t, MAX_TEXT)).collect(),
            source: "syscall".into(),
            hostname: self.hostname.clone(),
            sensor: self.sensor.into(),
            also_seen_by: vec![],
            ancestry: alert.ancestry.into_iter().take(MAX_ANCESTORS).map(process).collect(),
            package,
        }
    }
}

/// The end of a phase's output, safe to show: lines stay lines, nothing else a terminal obeys stays.
pub(super) fn printable(tail: &[u8]) -> String {
    let text = lossy(tail);
    let lines: Vec<String> = text.lines().map(lanner_core::text::escaped).collect();
    bounded(&lines.join("\n"), MAX_TAIL)
}

fn text(bytes: &[u8]) -> String {
    bounded(&lossy(bytes), MAX_TEXT)
}

/// A number that is no priority counts as the most urgent: better a false alarm than a quiet one.
fn priority(number: u32) -> Priority {
    let index = usize::try_from(number).unwrap_or(0);
    Priority::ALL.get(index).copied().unwrap_or(Priority::Emergency)
}

fn process(process: agent::Process) -> Process {
    Process {
        pid: process.pid,
        name: text(&process.name),
        exe: text(&process.exe),
        cmdline: text(&process.cmdline),
        cwd: text(&process.cwd),
    }
}

fn fields(fields: Vec<agent::Field>) -> BTreeMap<String, Value> {
    let value = |value: Option<field::Value>| match value {
        None => Value::Null,
        Some(field::Value::Text(bytes)) => Value::String(text(&bytes)),
        Some(field::Value::Number(number)) => Value::from(number),
        Some(field::Value::Flag(flag)) => Value::Bool(flag),
        Some(field::Value::List(list)) => {
            list.items.iter().take(MAX_ITEMS).map(|i| Value::String(text(i))).collect()
        }
    };
    fields.into_iter().take(MAX_FIELDS).map(|f| (bounded(&f.name, 128), value(f.value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_bounded_and_made_utf8() {
        let context = Context { hostname: "h".into(), sensor: "builtin" };
        let alert = context.alert(agent::Alert {
            id: 1,
            rule: "r".into(),
            priority: 99,
            output: [b"\xff\xfe".as_slice(), &vec![b'x'; 100_000]].concat(),
            fields: vec![
                agent::Field { name: "n".into(), value: Some(field::Value::Text(vec![0xff; 9000])) };
                200
            ],
            ancestry: vec![agent::Process::default(); 500],
            ..Default::default()
        });
        assert_eq!(alert.priority, Priority::Emergency);
        assert!(alert.output.len() <= MAX_OUTPUT && alert.output.starts_with('\u{fffd}'));
        assert_eq!((alert.output_fields.len(), alert.ancestry.len()), (1, MAX_ANCESTORS));
        assert_eq!(printable(b"one\n\x1b[2Jtwo\xff"), "one\n\\u{1b}[2Jtwo\u{fffd}");
    }
}
