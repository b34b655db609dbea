//! Between `spin.toml` and the locked app: the one is locked when an app is pushed, written out when one is pulled that
//! does not carry it, and compared with the other when both are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AppError;
use super::locked::{LockedApp, check_id};
use crate::digest::Digest;

/// `spin.toml`, as far as routes and components go.
#[derive(Debug, Serialize, Deserialize)]
struct Toml {
    spin_manifest_version: u32,
    #[serde(default)]
    application: toml::Table,
    trigger: BTreeMap<String, Vec<Route>>,
    component: BTreeMap<String, toml::Table>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    route: String,
    component: String,
}

/// What a component's table may have. Of the rest, none is served here, so none is pushed.
const SERVED: [&str; 4] = ["source", "build", "description", "tool"];
/// What of `[application]` goes into the locked app.
const DESCRIBED: [&str; 3] = ["name", "version", "description"];

pub(super) fn lock(text: &str, components: &BTreeMap<String, Bytes>) -> Result<LockedApp, AppError> {
    let source = read(text)?;
    let mut digests = Vec::new();
    for id in source.component.keys() {
        let bytes = components.get(id).ok_or_else(|| AppError::NoBytes(id.clone()))?;
        if !crate::wasm::begins_as_wasm(bytes) {
            return Err(AppError::NotWasm(id.clone()));
        }
        digests.push((id.clone(), Digest::of(bytes)));
    }
    LockedApp::new(described(&source.application), routes(&source), digests.into_iter())
}

/// Whether both serve the same components under the same routes.
pub(super) fn agrees(text: &str, locked: &LockedApp) -> Result<(), AppError> {
    let source = read(text)?;
    let mut ids: Vec<_> = locked.components().map(|(id, _)| id).collect();
    ids.sort_unstable();
    let same_ids = ids.iter().copied().eq(source.component.keys().map(String::as_str));
    match same_ids && locked.routes().eq(routes(&source)) {
        true => Ok(()),
        false => Err(AppError::Disagree),
    }
}

pub(super) fn write(locked: &LockedApp) -> Result<String, AppError> {
    let route =
        |(route, component): (&str, &str)| Route { route: route.to_owned(), component: component.to_owned() };
    let component = |(id, _): (&str, Digest)| {
        let source =
            toml::Table::from_iter([("source".to_owned(), toml::Value::String(format!("{id}.wasm")))]);
        (id.to_owned(), source)
    };
    let described = DESCRIBED.iter().filter_map(|key| {
        let text = locked.metadata.get(*key)?.as_str()?;
        Some(((*key).to_owned(), toml::Value::String(text.to_owned())))
    });
    let source = Toml {
        spin_manifest_version: 2,
        application: described.collect(),
        trigger: BTreeMap::from([("http".to_owned(), locked.routes().map(route).collect())]),
        component: locked.components().map(component).collect(),
    };
    toml::to_string(&source).map_err(AppError::WriteToml)
}

fn read(text: &str) -> Result<Toml, AppError> {
    let source: Toml = toml::from_str(text).map_err(|e| AppError::Toml(Box::new(e)))?;
    if source.spin_manifest_version != 2 {
        return Err(AppError::ManifestVersion(source.spin_manifest_version));
    }
    if let Some(strange) = source.trigger.keys().find(|kind| *kind != "http") {
        return Err(AppError::Trigger(strange.clone()));
    }
    for (id, table) in &source.component {
        check_id(id)?;
        if let Some(strange) = table.keys().find(|key| !SERVED.contains(&key.as_str())) {
            return Err(AppError::Unserved(format!("{id}: {strange}")));
        }
    }
    Ok(source)
}

fn routes(source: &Toml) -> impl Iterator<Item = (&str, &str)> {
    source.trigger.values().flatten().map(|route| (route.route.as_str(), route.component.as_str()))
}

fn described(application: &toml::Table) -> Map<String, Value> {
    let text = |key: &&str| {
        let text = application.get(*key)?.as_str()?;
        Some(((*key).to_owned(), Value::String(text.to_owned())))
    };
    DESCRIBED.iter().filter_map(text).collect()
}
