//! Output fields: typed and bounded, and what they say about the process and its container.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Origin;
use crate::alert::Process;
use crate::text::bounded;

const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 4 * 1024;
const MAX_FIELDS: usize = 256;
const MAX_ITEMS: usize = 64;
const MAX_ANCESTORS: usize = 32;

/// Falco's names for "not known": its gRPC and its text say `<NA>`, its JSON says null.
const UNSET: &str = "<NA>";

/// Fields whose value is a list; in gRPC a list arrives as `(a,b)`, which a file name may look like too.
const LISTS: [&str; 6] =
    ["fd.types", "proc.aname", "proc.aexe", "proc.aexepath", "proc.acmdline", "proc.apid"];

/// The fields of Falco's JSON. What tells the container apart is read before anything is cut.
pub(super) fn from_json(raw: Map<String, Value>) -> (BTreeMap<String, Value>, Origin) {
    let origin = origin(&|name| raw.get(name).and_then(Value::as_str));
    let fields = raw.into_iter().take(MAX_FIELDS).map(|(n, v)| (bounded(&n, MAX_NAME), value(v))).collect();
    (fields, origin)
}

/// The fields of a gRPC response: all of them texts.
pub(super) fn from_text(raw: BTreeMap<String, String>) -> (BTreeMap<String, Value>, Origin) {
    let origin = origin(&|name| raw.get(name).map(String::as_str));
    let fields = raw.into_iter().take(MAX_FIELDS).map(|(name, text)| {
        let value = match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
            _ if text == UNSET => Value::Null,
            Some(list) if LISTS.contains(&name.as_str()) => {
                list.split(',').take(MAX_ITEMS).map(|item| bounded(item, MAX_TEXT)).collect()
            }
            _ => Value::String(bounded(&text, MAX_TEXT)),
        };
        (bounded(&name, MAX_NAME), value)
    });
    (fields.collect(), origin)
}

fn value(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) if text == UNSET => Value::Null,
        Value::String(text) => Value::String(bounded(&text, MAX_TEXT)),
        Value::Array(items) => items.into_iter().take(MAX_ITEMS).map(item).collect(),
        Value::Object(_) => Value::String(bounded(&value.to_string(), MAX_TEXT)),
    }
}

/// An item of a list: a list in a list is nothing that Falco writes.
fn item(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) => Value::String(bounded(&text, MAX_TEXT)),
        Value::Array(_) | Value::Object(_) => Value::String(bounded(&value.to_string(), MAX_TEXT)),
    }
}

fn origin<'r>(field: &dyn Fn(&str) -> Option<&'r str>) -> Origin {
    let known = |name: &str| field(name).filter(|t| !t.is_empty() && *t != UNSET && *t != "host");
    let owned = |name: &str| known(name).map(|t| bounded(t, MAX_NAME * 2));
    Origin {
        pod: owned("k8s.pod.name"),
        pod_uid: owned("k8s.pod.uid"),
        container: owned("container.name"),
        container_id: known("container.id").and_then(container_id),
    }
}

/// Runtimes show 12 or 64 digits of the same id.
pub(super) fn container_id(text: &str) -> Option<String> {
    let short = text.get(..12)?;
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| short.to_ascii_lowercase())
}

/// The process and its ancestors, as far as the rule's output names them.
pub(super) fn ancestry(fields: &BTreeMap<String, Value>) -> Vec<Process> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| {
        let value = fields.get(name);
        let number = value.and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
        number.and_then(|n| u32::try_from(n).ok()).unwrap_or_default()
    };
    let mut line = vec![
        Process {
            pid: number("proc.pid"),
            name: text("proc.name"),
            exe: text("proc.exepath"),
            cmdline: text("proc.cmdline"),
            cwd: text("proc.cwd"),
        },
        Process {
            pid: number("proc.ppid"),
            name: text("proc.pname"),
            exe: text("proc.pexepath"),
            cmdline: text("proc.pcmdline"),
            cwd: String::new(),
        },
    ];
    line.extend((2..MAX_ANCESTORS).map(|n| Process {
        pid: number(&format!("proc.apid[{n}]")),
        name: text(&format!("proc.aname[{n}]")),
        exe: text(&format!("proc.aexepath[{n}]")),
        cmdline: text(&format!("proc.acmdline[{n}]")),
        cwd: String::new(),
    }));
    let known = line.iter().rposition(|p| *p != Process::default()).map_or(0, |last| last + 1);
    line.truncate(known);
    line
}
