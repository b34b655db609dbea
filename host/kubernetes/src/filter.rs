//! `AlertFilter`: a filter as an object. Only its shape; what it means is `reconcile`'s.

#![expect(clippy::duplicated_attributes, reason = "two printed columns of one type are not the same")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use lanner_core::Grant;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A filter that judges alerts, under the name of the object.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "lanner.dev",
    version = "v1alpha1",
    kind = "AlertFilter",
    plural = "alertfilters",
    shortname = "af",
    category = "lanner",
    namespaced,
    status = "AlertFilterStatus",
    derive = "PartialEq",
    doc = "A filter that judges the alerts of Lanner's scans, under the name of the object.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Order", type_ = "integer", json_path = ".spec.order"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].reason"
    ),
    printcolumn(name = "Module", type_ = "string", json_path = ".spec.module", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AlertFilterSpec {
    /// The component: `oci://REGISTRY/REPOSITORY@sha256:DIGEST`. A tag may stand before the digest; the digest counts.
    #[schemars(length(max = 400), regex(pattern = r"^oci://.+@sha256:[0-9a-f]{64}$"))]
    pub module: String,
    /// What the filter is given with each batch.
    #[serde(default)]
    #[schemars(schema_with = "free")]
    pub settings: Map<String, Value>,
    /// Whether it judges, or judges beside the active ones and changes nothing.
    #[serde(default)]
    pub mode: Mode,
    /// Filters are asked in ascending order, those of the same order by name.
    #[serde(default)]
    pub order: i32,
    /// How far it may suppress; what the host grants to any filter if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "grant")]
    pub may_suppress_up_to: Option<Grant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Active,
    Shadow,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertFilterStatus {
    /// `Accepted`: the object can be acted on. `Tried`: its component compiled, took its settings and passed the trial.
    /// `Active`: it judges.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Of the object's generation this is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The host's revision that the object became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub revision: Option<u64>,
    /// `sha256:…` of its component: what stands in the decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Any object: what is in it, the filter says.
fn free(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "default": {}, "x-kubernetes-preserve-unknown-fields": true })
}

/// As Kubernetes has whole numbers.
fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 1, "nullable": true })
}

/// In the words that the API over HTTP has for it.
fn grant(_: &mut SchemaGenerator) -> Schema {
    let words = lanner_core::Priority::ALL.map(lanner_core::Priority::as_str);
    json_schema!({
        "type": "object",
        "nullable": true,
        "required": ["percent", "priority"],
        "properties": {
            "percent": {
                "description": "The largest part of a scan's alerts.",
                "type": "integer",
                "minimum": 0,
                "maximum": 100,
            },
            "priority": {
                "description": "The most urgent priority that it may suppress.",
                "type": "string",
                "enum": words,
            },
        },
    })
}

/// A condition of Kubernetes; one of each type, so that two writers do not undo each other.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
            },
        },
    })
}
