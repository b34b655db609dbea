//! An alert filter: suppresses one rule where it is ordinary, with a reason, and keeps everything else.

mod bindings {
    wit_bindgen::generate!({ world: "alert-filter", path: "wit" });
}

use bindings::exports::lanner::platform::filter::{Action, Batch, Decision, Description, Guest};

struct Filter;

impl Guest for Filter {
    fn evaluate(batch: Batch, _settings: String) -> Vec<Decision> {
        let decide = |alert: &bindings::exports::lanner::platform::filter::Alert| {
            // The process that did it; its ancestors follow.
            let process = alert.ancestry.first().and_then(|place| batch.processes.get(*place as usize));
            let reason = reason(&alert.rule, process.map_or("", |p| &p.name));
            Decision {
                id: alert.id,
                action: if reason.is_some() { Action::Suppress } else { Action::Keep },
                pin: false,
                reason: reason.unwrap_or_default().to_owned(),
                tags: Vec::new(),
            }
        };
        batch.alerts.iter().map(decide).collect()
    }

    fn describe() -> Description {
        Description {
            name: "{{name}}".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            author: "you".into(),
            summary: "suppresses files in memory that Node.js makes".into(),
            settings_schema: String::new(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        if settings.trim() == "{}" { Ok(()) } else { Err("this filter has no settings: give {}".into()) }
    }
}

// The names of the exports have colons in them, which no linker of native libraries takes.
#[cfg(target_arch = "wasm32")]
bindings::export!(Filter with_types_in bindings);

/// Why an alert is suppressed; nothing keeps it.
fn reason(rule: &str, process: &str) -> Option<&'static str> {
    (rule == "File in memory" && process == "node").then_some("Node.js compiles while it runs, in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_node_may_make_files_in_memory() {
        assert!(reason("File in memory", "node").is_some());
        assert!(reason("File in memory", "sh").is_none());
        assert!(reason("Read credentials", "node").is_none());
    }

    #[test]
    fn settings_are_refused() {
        assert!(Filter::validate_settings("{}".into()).is_ok());
        assert!(Filter::validate_settings("{\"x\":1}".into()).is_err());
    }
}
