//! A response of Falco's gRPC outputs. Strings are bytes that need not be text, and every field is a string.

use std::collections::BTreeMap;

use super::{Kind, Sighting, fields, json};
use crate::Nanos;
use crate::alert::{Alert, Priority};
use crate::text::{bounded, lossy};

const MAX_OUTPUT: usize = 8 * 1024;
const MAX_WORD: usize = 512;
/// More than any rule prints; the rest of a hostile message is not even looked at.
const MAX_RAW_FIELDS: usize = 1024;

/// A `falco.outputs.response`, as it came off the wire.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub time: Option<Nanos>,
    pub priority: i32,
    pub rule: Vec<u8>,
    pub output: Vec<u8>,
    pub output_fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub hostname: Vec<u8>,
    pub tags: Vec<Vec<u8>>,
    pub source: Vec<u8>,
    /// The enum that an older Falco sends instead of `source`: 2 is internal.
    pub source_deprecated: i32,
}

/// Never refuses: whatever can be read of it is an alert. With json_output on, the typed fields of the document in
/// `output` are preferred to the texts around it.
pub fn from_rpc(response: Response, received: Nanos) -> Sighting {
    let rule = lossy(&response.rule);
    let output = lossy(&response.output);
    let time = response.time.filter(|t| *t > 0).unwrap_or(received);
    let source = source(&response);
    let priority = priority(response.priority);
    if output.starts_with('{')
        && let Some(mut sighting) = json::embedded(&output, &rule, time)
    {
        // The envelope was written by Falco alone; the document holds texts of the package.
        sighting.alert.priority = priority;
        sighting.alert.source = source;
        sighting.kind = Kind::of(&sighting.alert);
        return sighting;
    }
    let raw = response.output_fields.iter().take(MAX_RAW_FIELDS);
    let raw: BTreeMap<String, String> = raw.map(|(name, value)| (lossy(name), lossy(value))).collect();
    let (output_fields, origin) = fields::from_text(raw);
    let tags: Vec<String> = response.tags.iter().map(|t| lossy(t)).collect();
    let alert = Alert {
        id: 0,
        time,
        last_time: time,
        count: 1,
        rule: bounded(&rule, MAX_WORD),
        priority,
        output: bounded(&output, MAX_OUTPUT),
        also_seen_by: vec![],
        ancestry: fields::ancestry(&output_fields),
        output_fields,
        tags: json::bounded_tags(tags.iter().map(String::as_str)),
        source,
        hostname: bounded(&lossy(&response.hostname), MAX_WORD),
        sensor: String::new(),
        package: None,
    };
    Sighting { kind: Kind::of(&alert), alert, origin }
}

fn source(response: &Response) -> String {
    match (response.source.as_slice(), response.source_deprecated) {
        (b"", 1) => "k8s_audit".into(),
        (b"", 2) => "internal".into(),
        (b"", 3) => "plugin".into(),
        (b"", _) => "syscall".into(),
        (named, _) => bounded(&lossy(named), MAX_WORD),
    }
}

/// A number that is no priority counts as the most urgent.
fn priority(number: i32) -> Priority {
    let index = usize::try_from(number).ok();
    index.and_then(|i| Priority::ALL.get(i)).copied().unwrap_or(Priority::Emergency)
}
