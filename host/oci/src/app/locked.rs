//! Spin's locked app: the JSON that says which component answers which route. Read as far as we serve it; what we do not
//! serve (mounted files, outbound hosts, stores, variables, dependencies) is refused by name, never left out in silence.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AppError;
use crate::digest::Digest;
use crate::manifest::Manifest;

pub(crate) const LOCKED_APP: &str = "application/vnd.fermyon.spin.application.v1+config";

/// Whether the artifact holds a locked app, as a layer or, as older ones do, as its config.
pub(crate) fn is_app(manifest: &Manifest) -> bool {
    let mut all = manifest.layers.iter().chain([&manifest.config]);
    all.any(|layer| layer.media_type == LOCKED_APP)
}

/// An app that passed: each id is a name, each route leads to a component that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedApp {
    spin_lock_version: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    must_understand: Vec<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    host_requirements: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) metadata: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    variables: Map<String, Value>,
    triggers: Vec<Trigger>,
    components: Vec<LockedComponent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trigger {
    id: String,
    trigger_type: String,
    trigger_config: TriggerConfig,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    trigger_dependencies: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TriggerConfig {
    #[serde(default)]
    component: String,
    /// A text; anything else (a private route) is not served here.
    #[serde(default)]
    route: Value,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LockedComponent {
    id: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
    source: Source,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    env: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    config: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    dependencies: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    trigger_dependencies: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    host_requirements: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    content_type: String,
    digest: Digest,
}

const MAX_ROUTES: usize = 1000;
const MAX_COMPONENTS: usize = 1000;
/// What a component may ask for in its metadata, and we have not.
const UNSERVED: [&str; 6] = [
    "allowed_outbound_hosts",
    "allowed_http_hosts",
    "key_value_stores",
    "databases",
    "sqlite_databases",
    "ai_models",
];

impl LockedApp {
    pub(super) fn new<'a>(
        metadata: Map<String, Value>,
        routes: impl Iterator<Item = (&'a str, &'a str)>,
        components: impl Iterator<Item = (String, Digest)>,
    ) -> Result<Self, AppError> {
        let trigger = |(number, (route, component)): (usize, (&str, &str))| Trigger {
            id: format!("trigger-http-{number}"),
            trigger_type: "http".to_owned(),
            trigger_config: TriggerConfig {
                component: component.to_owned(),
                route: route.into(),
                others: Map::new(),
            },
            trigger_dependencies: Map::new(),
        };
        let component = |(id, digest)| LockedComponent {
            id,
            metadata: Map::new(),
            source: Source { content_type: "application/wasm".to_owned(), digest },
            env: Map::new(),
            files: Vec::new(),
            config: Map::new(),
            dependencies: Map::new(),
            trigger_dependencies: Map::new(),
            host_requirements: Map::new(),
        };
        let app = Self {
            spin_lock_version: 0,
            must_understand: Vec::new(),
            host_requirements: Map::new(),
            metadata,
            variables: Map::new(),
            triggers: routes.enumerate().map(trigger).collect(),
            components: components.map(component).collect(),
        };
        app.check()?;
        Ok(app)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, AppError> {
        let app: Self = serde_json::from_slice(bytes).map_err(AppError::Json)?;
        app.check()?;
        Ok(app)
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, AppError> {
        serde_json::to_vec(self).map_err(AppError::Write)
    }

    pub(crate) fn components(&self) -> impl ExactSizeIterator<Item = (&str, Digest)> {
        self.components.iter().map(|c| (c.id.as_str(), c.source.digest))
    }

    /// Each route and the component that answers it.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.triggers.iter().map(|t| {
            (t.trigger_config.route.as_str().unwrap_or_default(), t.trigger_config.component.as_str())
        })
    }

    fn check(&self) -> Result<(), AppError> {
        if self.spin_lock_version > 1 {
            return Err(AppError::LockVersion(self.spin_lock_version));
        }
        let unserved = |what: &str| Err(AppError::Unserved(what.to_owned()));
        if let Some(requirement) = self.host_requirements.iter().find(|(_, value)| is_required(value)) {
            return unserved(requirement.0);
        }
        // Both known words speak of requirements, which were just checked.
        let known = ["host_requirements", "component_host_requirements"];
        if let Some(strange) = self.must_understand.iter().find(|word| !known.contains(&word.as_str())) {
            return unserved(strange);
        }
        if !self.variables.is_empty() {
            return unserved("variables");
        }
        if self.components.len() > MAX_COMPONENTS {
            return Err(AppError::TooMany(MAX_COMPONENTS, "components"));
        }
        let mut ids = BTreeSet::new();
        for component in &self.components {
            component.check()?;
            if !ids.insert(component.id.as_str()) {
                return Err(AppError::Twice("a component's id"));
            }
        }
        self.check_triggers(&ids)
    }

    fn check_triggers(&self, ids: &BTreeSet<&str>) -> Result<(), AppError> {
        if self.triggers.len() > MAX_ROUTES {
            return Err(AppError::TooMany(MAX_ROUTES, "routes"));
        }
        for trigger in &self.triggers {
            if trigger.trigger_type != "http" {
                return Err(AppError::Trigger(trigger.trigger_type.clone()));
            }
            let config = &trigger.trigger_config;
            // The plain executor is what an http trigger has without saying so.
            let plain = |(key, value): (&String, &Value)| {
                key == "executor" && value.get("type").and_then(Value::as_str) == Some("spin")
                    || is_empty(value)
            };
            if let Some((strange, _)) = config.others.iter().find(|entry| !plain(*entry)) {
                return Err(AppError::Unserved(format!("the trigger's {strange}")));
            }
            if !trigger.trigger_dependencies.is_empty() {
                return Err(AppError::Unserved("trigger_dependencies".to_owned()));
            }
            if !config.route.is_string() {
                return Err(AppError::Unserved("a route that is no text".to_owned()));
            }
            if !ids.contains(config.component.as_str()) {
                return Err(AppError::NoComponent(config.component.clone()));
            }
        }
        Ok(())
    }
}

impl LockedComponent {
    fn check(&self) -> Result<(), AppError> {
        check_id(&self.id)?;
        let asked = [
            ("files", !self.files.is_empty()),
            ("environment", !self.env.is_empty()),
            ("variables", !self.config.is_empty()),
            ("dependencies", !self.dependencies.is_empty()),
            ("trigger_dependencies", !self.trigger_dependencies.is_empty()),
            ("host_requirements", self.host_requirements.values().any(is_required)),
        ];
        let metadata = UNSERVED.map(|key| (key, self.metadata.get(key).is_some_and(|v| !is_empty(v))));
        match asked.into_iter().chain(metadata).find(|(_, asks)| *asks) {
            Some((what, _)) => Err(AppError::ComponentUnserved(self.id.clone(), what)),
            None => Ok(()),
        }
    }
}

/// An id becomes a file's name and part of a URL elsewhere.
pub(super) fn check_id(id: &str) -> Result<(), AppError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let begins = id.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    match begins && id.len() <= 64 && id.bytes().all(inner) {
        true => Ok(()),
        false => Err(AppError::Id(id.to_owned())),
    }
}

fn is_required(value: &Value) -> bool {
    value.as_str() != Some("optional")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
