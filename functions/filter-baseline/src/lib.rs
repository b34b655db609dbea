//! The baseline filter: suppresses what native builds and known installers legitimately do, each with its reason.
//!
//! It is conservative: what touches credentials, the network beyond the allowed registry, persistence or the watcher
//! itself is never suppressed, whoever does it.

mod bindings {
    wit_bindgen::generate!({ world: "alert-filter", path: "../../proto/wit" });
}

use bindings::exports::lanner::platform::filter::{
    Action, Alert, Batch, Decision, Description, Guest, Process,
};

struct Baseline;

impl Guest for Baseline {
    fn evaluate(batch: Batch, _settings: String) -> Vec<Decision> {
        batch.alerts.iter().map(|alert| decide(alert, &batch.processes)).collect()
    }

    fn describe() -> Description {
        Description {
            name: "baseline".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            author: "the Lanner authors".into(),
            summary: "suppresses what native builds and known installers do".into(),
            settings_schema: String::new(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        match serde_json::from_str::<serde_json::Value>(&settings) {
            Ok(serde_json::Value::Object(map)) if map.is_empty() => Ok(()),
            Ok(_) => Err("the baseline filter has no settings: give {}".into()),
            Err(_) => Err("the settings are not JSON".into()),
        }
    }
}

bindings::export!(Baseline with_types_in bindings);

fn decide(alert: &Alert, processes: &[Process]) -> Decision {
    let (action, reason) = match reason(alert, processes) {
        Some(reason) => (Action::Suppress, reason.to_owned()),
        None => (Action::Keep, String::new()),
    };
    Decision { id: alert.id, action, pin: false, reason, tags: Vec::new() }
}

/// Rules tagged with one of these are never suppressed here.
const NEVER: [&str; 5] = ["credentials", "persistence", "exfiltration", "watcher", "evasion"];

fn reason(alert: &Alert, processes: &[Process]) -> Option<&'static str> {
    if alert.tags.iter().any(|t| NEVER.iter().any(|n| t.contains(n))) {
        return None;
    }
    let dropped = alert.tags.iter().any(|t| t == "dropped_execution");
    if dropped && in_own_build(alert, processes) {
        return Some("a native build runs what it has just built in its own build folder");
    }
    if dropped
        && field(alert, "fd.name").or(field(alert, "proc.exepath")).is_some_and(|p| is_compiler_temporary(&p))
    {
        return Some("a compiler driver runs its own temporary file");
    }
    None
}

/// The program lies in a `build` folder of the package, and a build tool is among the ancestors.
fn in_own_build(alert: &Alert, processes: &[Process]) -> bool {
    let Some(package) = &alert.package else { return false };
    let path = field(alert, "proc.exepath").or(field(alert, "fd.name")).unwrap_or_default();
    let inside = path.contains(&format!("/{}/build/", package.folder))
        || (package.folder == "." && path.contains("/build/"));
    let mut ancestry = alert.ancestry.iter().filter_map(|place| processes.get(usize::try_from(*place).ok()?));
    inside && ancestry.any(|p| matches!(p.name.as_str(), "make" | "ninja" | "cmake" | "node-gyp"))
}

fn is_compiler_temporary(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("cc") && (name.ends_with(".o") || name.ends_with(".s")))
}

/// A field's text; its value is JSON.
fn field(alert: &Alert, name: &str) -> Option<String> {
    let (_, value) = alert.fields.iter().find(|(n, _)| n == name)?;
    serde_json::from_str::<String>(value).ok()
}
