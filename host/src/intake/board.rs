//! The board: which sensors there are, how they do, and the last alerts that were nobody's. For operators to read.
//!
//! Names and errors on it came from the network and are bounded; the sensors heard of longest ago make room.

use std::collections::BTreeMap;

use lanner_core::text::{bounded, escaped};
use lanner_core::{Alert, Nanos, Priority};
use serde::Serialize;

use super::Door;
use crate::scan;

const MAX_SENSORS: usize = 256;
const MAX_NAME: usize = 100;
const MAX_ERROR: usize = 300;
/// Samples of unmatched alerts that are kept.
pub(super) const MAX_SAMPLES: usize = 100;
const MAX_FIELDS: usize = 32;
const MAX_TEXT: usize = 512;

/// One sensor as `GET /v1/sensors` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SensorView {
    pub name: String,
    pub door: Door,
    pub connected: bool,
    /// Whether its marks can close a scan's evidence.
    pub vouches: bool,
    pub since_ns: Nanos,
    pub last_heard_ns: Option<Nanos>,
    pub alerts: u64,
    pub refused: u64,
    /// Times its stream broke.
    pub broken: u64,
    /// From the event to its arrival here, of the last that arrived; clocks of two machines may differ.
    pub lag_ns: Option<Nanos>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A sample of an alert that no scan was found for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmatched {
    pub sensor: String,
    pub time_ns: Nanos,
    pub received_ns: Nanos,
    pub rule: String,
    pub priority: Priority,
    pub output: String,
    pub output_fields: BTreeMap<String, serde_json::Value>,
}

#[derive(Default)]
pub(super) struct Board {
    sensors: BTreeMap<String, SensorView>,
}

impl Board {
    pub(super) fn connected(&mut self, name: &str, door: Door, vouches: bool) {
        let view = self.view(name, door);
        view.connected = true;
        view.vouches = vouches;
        view.door = door;
        view.since_ns = scan::now();
    }

    pub(super) fn broken(&mut self, name: &str, why: &str) {
        if let Some(view) = self.sensors.get_mut(name) {
            view.connected = false;
            view.broken += 1;
            view.last_error = Some(shown(why));
        }
    }

    /// It cannot be reached, and was not before.
    pub(super) fn failed(&mut self, name: &str, door: Door, why: &str) {
        let view = self.view(name, door);
        view.connected = false;
        view.last_error = Some(shown(why));
    }

    pub(super) fn version(&mut self, name: &str, version: &str) {
        if let Some(view) = self.sensors.get_mut(name) {
            view.version = Some(shown(version));
        }
    }

    pub(super) fn heard(
        &mut self,
        name: &str,
        alerts: u64,
        refused: u64,
        lag: Option<Nanos>,
        why: Option<String>,
    ) {
        if let Some(view) = self.sensors.get_mut(name) {
            view.alerts += alerts;
            view.refused += refused;
            view.last_heard_ns = Some(scan::now());
            view.lag_ns = lag.or(view.lag_ns);
            view.last_error = why.map(|w| shown(&w)).or(view.last_error.take());
        }
    }

    pub(super) fn views(&self) -> Vec<SensorView> {
        self.sensors.values().cloned().collect()
    }

    fn view(&mut self, name: &str, door: Door) -> &mut SensorView {
        if self.sensors.len() >= MAX_SENSORS && !self.sensors.contains_key(name) {
            let oldest = self.sensors.iter().min_by_key(|(_, v)| (v.connected, v.last_heard_ns));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.sensors.remove(&oldest);
            }
        }
        self.sensors.entry(name.to_owned()).or_insert_with(|| SensorView {
            name: name.to_owned(),
            door,
            connected: false,
            vouches: false,
            since_ns: 0,
            last_heard_ns: None,
            alerts: 0,
            refused: 0,
            broken: 0,
            lag_ns: None,
            version: None,
            last_error: None,
        })
    }
}

impl Unmatched {
    pub(super) fn new(alert: Alert) -> Self {
        let value = |value| match value {
            serde_json::Value::String(text) => serde_json::Value::String(bounded(&text, MAX_TEXT)),
            serde_json::Value::Array(_) => serde_json::Value::String(bounded(&value.to_string(), MAX_TEXT)),
            other => other,
        };
        let fields = alert.output_fields.into_iter().take(MAX_FIELDS).map(|(name, v)| (name, value(v)));
        Self {
            sensor: alert.sensor,
            time_ns: alert.time,
            received_ns: scan::now(),
            rule: alert.rule,
            priority: alert.priority,
            output: bounded(&alert.output, MAX_TEXT),
            output_fields: fields.collect(),
        }
    }
}

/// A sensor's name, if it is one: it stands in alerts, in logs and in reasons.
pub(super) fn name(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    ((1..=MAX_NAME).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

fn shown(text: &str) -> String {
    escaped(&bounded(text, MAX_ERROR))
}
