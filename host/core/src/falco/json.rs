//! Falco's JSON: one object, an array of them, or one a line. Falcosidekick's differs by a `uuid` and sorted tags.
//!
//! A part that cannot be read costs that part and no other; it is counted, because it may have been an alert.

use serde_json::{Map, Value};

use super::{Kind, Sighting, fields, priority};
use crate::Nanos;
use crate::alert::Alert;
use crate::text::{bounded, escaped};

/// Alerts in one body.
pub const MAX_ALERTS: usize = 10_000;
const MAX_OUTPUT: usize = 8 * 1024;
const MAX_WORD: usize = 512;
const MAX_TAGS: usize = 64;

/// What a body held.
#[derive(Debug, Default)]
pub struct Decoded {
    pub sightings: Vec<Sighting>,
    /// Parts that were no alert that can be read, and why the first of them was not.
    pub refused: u64,
    pub why: Option<DecodeError>,
}

/// Why a part holds no alert of Falco's; the text is for the operator of that Falco.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("this is Falco's text output: set json_output: true in falco.yaml")]
    TextOutput,
    #[error("the body is empty")]
    Empty,
    #[error("this is no JSON of Falco's: {0}")]
    NotJson(String),
    #[error("this JSON is no alert of Falco's: it has no rule")]
    NoRule,
    #[error("the body holds more than {MAX_ALERTS} alerts: send fewer at once")]
    TooMany,
}

/// All alerts of a body. `received` stands in for a time that an alert does not tell.
pub fn decode(body: &[u8], received: Nanos) -> Decoded {
    let mut decoded = Decoded::default();
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.as_bytes().first() {
        None => decoded.refuse(DecodeError::Empty),
        Some(b'{' | b'[') => decoded.read(text, received),
        Some(_) => decoded.refuse(DecodeError::TextOutput),
    }
    decoded
}

impl Decoded {
    fn read(&mut self, text: &str, received: Nanos) {
        for part in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let items = match part {
                Ok(Value::Array(items)) => items,
                Ok(item) => vec![item],
                // The reader cannot find its way back into the text behind a mistake.
                Err(error) => {
                    return self
                        .refuse(DecodeError::NotJson(bounded(&escaped(&error.to_string()), MAX_WORD)));
                }
            };
            for item in items {
                if self.sightings.len() >= MAX_ALERTS {
                    return self.refuse(DecodeError::TooMany);
                }
                match item {
                    Value::Object(object) => match sighting(object, received) {
                        Some(sighting) => self.sightings.push(sighting),
                        None => self.refuse(DecodeError::NoRule),
                    },
                    _ => self.refuse(DecodeError::NoRule),
                }
            }
        }
    }

    fn refuse(&mut self, why: DecodeError) {
        self.refused += 1;
        self.why.get_or_insert(why);
    }
}

/// Everything but the rule may be left out by Falco's configuration.
fn sighting(mut object: Map<String, Value>, received: Nanos) -> Option<Sighting> {
    let raw = match object.remove("output_fields") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let rule = text("rule").filter(|r| !r.is_empty())?;
    let time = raw.get("evt.time").and_then(nanos).or_else(|| timestamp(text("time")?)).unwrap_or(received);
    let (output_fields, origin) = fields::from_json(raw);
    let tags = object.get("tags").and_then(Value::as_array).into_iter().flatten();
    let alert = Alert {
        id: 0,
        time,
        last_time: time,
        count: 1,
        rule: bounded(rule, MAX_WORD),
        priority: priority(text("priority").unwrap_or_default()),
        output: bounded(text("output").unwrap_or_default(), MAX_OUTPUT),
        also_seen_by: vec![],
        ancestry: fields::ancestry(&output_fields),
        output_fields,
        tags: bounded_tags(tags.filter_map(Value::as_str)),
        source: bounded(text("source").unwrap_or("syscall"), MAX_WORD),
        hostname: bounded(text("hostname").unwrap_or_default(), MAX_WORD),
        sensor: String::new(),
        package: None,
    };
    Some(Sighting { kind: Kind::of(&alert), alert, origin })
}

/// The document that gRPC carries in `output` when json_output is on; the envelope around it names the same rule.
pub(super) fn embedded(output: &str, rule: &str, received: Nanos) -> Option<Sighting> {
    let Ok(Value::Object(object)) = serde_json::from_str(output) else { return None };
    sighting(object, received).filter(|s| s.alert.rule == bounded(rule, MAX_WORD))
}

pub(super) fn bounded_tags<'t>(tags: impl Iterator<Item = &'t str>) -> Vec<String> {
    tags.take(MAX_TAGS).map(|t| bounded(t, MAX_WORD)).collect()
}

/// Nanoseconds as an integer, as a float (what passed through JavaScript or Go maps), or in digits.
fn nanos(value: &Value) -> Option<Nanos> {
    #[expect(clippy::cast_possible_truncation, reason = "a float saturates, and only late years could")]
    let from_float = |f: f64| (f.is_finite() && f > 0.0).then_some(f as Nanos);
    value.as_i64().or_else(|| value.as_f64().and_then(from_float)).or_else(|| value.as_str()?.parse().ok())
}

fn timestamp(text: &str) -> Option<Nanos> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Nanos::try_from(time.as_nanosecond()).ok()
}
