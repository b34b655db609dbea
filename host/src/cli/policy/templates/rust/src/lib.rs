//! An alert filter: suppresses one rule where it is ordinary, with a reason, and keeps everything else.

mod bindings {
    wit_bindgen::generate!({ world: "alert-filter", path: "wit" });
}
mod batch;

use batch::{AlertView, ProcessView};
use bindings::exports::lanner::platform::filter::{Action, Batch, Decision, Description, Guest};

struct Filter;

impl Guest for Filter {
    fn evaluate(batch: Batch, _settings: String) -> Vec<Decision> {
        batch.views().map(decide).collect()
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

fn decide(view: AlertView<'_>) -> Decision {
    // The process that did it; its ancestors follow.
    let reason = reason(view.rule(), view.ancestry().next().map_or("", ProcessView::name));
    Decision {
        id: view.alert.id,
        action: if reason.is_some() { Action::Suppress } else { Action::Keep },
        pin: false,
        reason: reason.unwrap_or_default().to_owned(),
        tags: Vec::new(),
    }
}

/// Why an alert is suppressed; nothing keeps it.
fn reason(rule: &str, process: &str) -> Option<&'static str> {
    (rule == "File in memory" && process == "node").then_some("Node.js compiles while it runs, in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use batch::Plain;

    #[test]
    fn only_node_may_make_files_in_memory() {
        let suppressed = |rule, process| {
            let alert = Plain { rule, ancestry: &[(process, "/usr/bin/x", "x")], ..Plain::default() };
            let decisions = Filter::evaluate(Batch::of(&[alert]), "{}".into());
            matches!(decisions[0].action, Action::Suppress)
        };
        assert!(suppressed("File in memory", "node"));
        assert!(!suppressed("File in memory", "sh"));
        assert!(!suppressed("Read credentials", "node"));
    }

    #[test]
    fn settings_are_refused() {
        assert!(Filter::validate_settings("{}".into()).is_ok());
        assert!(Filter::validate_settings("{\"x\":1}".into()).is_err());
    }
}
