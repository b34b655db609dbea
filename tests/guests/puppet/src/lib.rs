//! A filter that does what its settings say: the tests' hand inside a component.
//!
//! `{"on": "RULE", "do": "suppress"}`: for alerts of the rule (all if left out) it suppresses, pins, names a priority
//! (`"raise"`), or misbehaves: `trap`, `loop`, `memory`, `twice`, `none`, `unknown`, `reason`, `copies`.

use serde_json::Value;
use shared_filter::api::{Action, Batch, Decision, Description, Guest};
use shared_filter::{AlertView, Priority};

struct Puppet;

shared_filter::bindings::export!(Puppet);

impl Guest for Puppet {
    fn evaluate(batch: Batch, settings: String) -> Vec<Decision> {
        let settings: Value = serde_json::from_str(&settings).unwrap();
        let text = |key: &str| settings[key].as_str().unwrap_or_default();
        let meant = |view: AlertView<'_>| text("on").is_empty() || text("on") == view.rule();
        if batch.views().any(meant) {
            misbehave(text("do"));
        }
        let mut decisions: Vec<Decision> =
            batch.views().map(|view| decide(view, if meant(view) { text("do") } else { "" })).collect();
        match text("do") {
            "none" => decisions.clear(),
            "twice" => decisions.iter_mut().for_each(|d| d.id = 1),
            "unknown" => decisions.iter_mut().for_each(|d| d.id += 1000),
            "copies" => decisions = vec![decide(batch.views().next().unwrap(), "reason"); 100_000],
            _ => {}
        }
        decisions
    }

    fn describe() -> Description {
        Description {
            name: "puppet".into(),
            version: "1.2.3".into(),
            author: "the tests".into(),
            summary: "does what its settings say".into(),
            settings_schema: r#"{"type":"object"}"#.into(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        let settings: Value = serde_json::from_str(&settings).map_err(|e| e.to_string())?;
        match settings["do"].as_str() {
            Some("refuse") => Err("do: \"refuse\" is refused".into()),
            _ => Ok(()),
        }
    }
}

fn misbehave(what: &str) {
    match what {
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => loop {
            core::hint::black_box(());
        },
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 1 << 20]);
            }
        }
        _ => {}
    }
}

fn decide(view: AlertView<'_>, what: &str) -> Decision {
    let action = match what {
        "suppress" => Action::Suppress,
        "raise" => Action::Reprioritise(Priority::Critical),
        _ => Action::Keep,
    };
    let reason = match what {
        "reason" => "x".repeat(2000),
        _ => format!("seen before {} times, by {}", view.alert.seen_before, view.ancestry().count()),
    };
    Decision { id: view.alert.id, action, pin: what == "pin", reason, tags: vec!["puppet".into()] }
}
