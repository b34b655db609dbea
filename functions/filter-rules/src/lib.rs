//! A filter for people who write no code: its settings are rules, `when` an expression of the Common Expression Language
//! over `alert`, `then` what to do, `because` the reason.
//!
//! The first rule that applies decides. Expressions are parsed and type-checked when the settings are validated
//! (`check`), so that little is left that can fail later; what does fail never hides an alert (`decide`).

mod check;
mod settings;
mod view;

use std::sync::Arc;

use cel::{Env, Value};
use settings::{Rule, Settings, Then};
use shared_filter::AlertView;
use shared_filter::api::{Action, Batch, Decision, Description, Guest};

/// The component.
pub struct Rules;

impl Guest for Rules {
    fn evaluate(batch: Batch, settings: String) -> Vec<Decision> {
        evaluate(&batch, &settings)
    }

    fn describe() -> Description {
        Description {
            name: "rules".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            author: "Lanner".into(),
            summary: "decides by rules that are written as expressions in its settings".into(),
            settings_schema: include_str!("../settings.schema.json").into(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        validate(&settings)
    }
}

// The names of the exports have colons in them, which no linker of native libraries takes.
#[cfg(target_arch = "wasm32")]
shared_filter::bindings::export!(Rules);

/// The filter's whole logic.
pub fn evaluate(batch: &Batch, settings: &str) -> Vec<Decision> {
    // The host has had the settings validated; an empty answer is nonsense to it, so it keeps every alert.
    let Ok(settings) = Settings::read(settings) else { return Vec::new() };
    let env = Arc::new(Env::stdlib());
    batch.views().map(|view| decide(view, &settings.rules, &env)).collect()
}

/// Whether `evaluate` could use the settings, and if not, why.
pub fn validate(settings: &str) -> Result<(), String> {
    Settings::read(settings).map(drop)
}

fn decide(view: AlertView<'_>, rules: &[Rule], env: &Arc<Env>) -> Decision {
    let decision = |action, pin, reason: &str| Decision {
        id: view.alert.id,
        action,
        pin,
        reason: reason.to_owned(),
        tags: Vec::new(),
    };
    for (place, rule) in rules.iter().enumerate() {
        match view::resolve(&rule.when, view, env) {
            Ok(Value::Bool(true)) => {
                return match rule.then {
                    Then::Suppress => decision(Action::Suppress, false, &rule.because),
                    Then::Keep => decision(Action::Keep, false, &rule.because),
                    Then::Pin => decision(Action::Keep, true, &rule.because),
                    Then::Priority(p) => decision(Action::Reprioritise(p), false, &rule.because),
                };
            }
            Ok(Value::Bool(false)) => {}
            // A rule that hides an alert is passed over. One that protects an alert may not be: a later one could hide it.
            _ if matches!(rule.then, Then::Suppress) => {}
            _ => {
                return decision(
                    Action::Keep,
                    false,
                    &format!("rules[{place}].when cannot be evaluated here"),
                );
            }
        }
    }
    decision(Action::Keep, false, "")
}

#[cfg(test)]
mod tests {
    use shared_filter::{Plain, Priority};

    use super::*;

    fn batch() -> Batch {
        Batch::of(&[Plain {
            id: 9,
            time: 5,
            last_time: 6,
            rule: "Refused host",
            output: "o",
            fields: &[("fd.sip.name", "\"registry.example\""), ("fd.sport", "443")],
            tags: &["network"],
            count: 3,
            ancestry: &[("node", "/usr/bin/node", "node install.js"), ("npm", "/usr/bin/npm", "npm install")],
            package: Some(("esbuild", "node_modules/esbuild")),
            seen_before: 2,
            ..Plain::default()
        }])
    }

    fn decided(rules: &str) -> Decision {
        let batch = batch();
        let settings = Settings::read(&format!(r#"{{"rules":[{rules}]}}"#)).unwrap();
        decide(batch.views().next().unwrap(), &settings.rules, &Arc::new(Env::stdlib()))
    }

    fn rule(when: &str, then: &str) -> String {
        serde_json::json!({ "when": when, "then": then, "because": then }).to_string()
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let decision =
            decided(&[rule("false", "pin"), rule("true", "suppress"), rule("true", "pin")].join(","));
        assert!(matches!(decision.action, Action::Suppress) && !decision.pin);
        assert_eq!((decision.id, decision.reason.as_str()), (9, "suppress"));
        let decision = decided(&rule("true", "pin"));
        assert!(matches!(decision.action, Action::Keep) && decision.pin);
        assert!(matches!(decided(&rule("true", "keep")).action, Action::Keep));
        assert!(matches!(decided(&rule("false", "suppress")).action, Action::Keep));
        assert!(matches!(
            decided(&rule("true", "critical")).action,
            Action::Reprioritise(Priority::Critical)
        ));
    }

    #[test]
    fn every_part_of_an_alert_can_be_asked() {
        for when in [
            r#"alert.rule == "Refused host" && alert.package.startsWith("esb") && alert.package.endsWith("build")"#,
            r#"alert.priority == "warning" && alert.urgency <= NOTICE && alert.urgency > ERROR"#,
            r#"alert.fields["fd.sip.name"] == "registry.example" && alert.fields["fd.sport"] == "443""#,
            // A field that the alert does not have is the empty text.
            r#"alert.fields["dns.name"] == """#,
            r#""network" in alert.tags && alert.tags.exists(t, t.contains("net")) && size(alert.tags) == 1"#,
            r#"alert.process == "node" && alert.ancestors == ["npm"] && alert.cmdline == "node install.js""#,
            r#"alert.manager == "npm" && alert.subject == "shop" && alert.folder != "" "#,
            r#"alert.count == 3 && alert.seen_before >= 2 && alert.time < alert.last_time && alert.id == 9"#,
            r#"alert.source == "syscall" && alert.sensor == "builtin" && alert.output == "o" && alert.fingerprint != """#,
            r#"alert.exe in ["/usr/bin/node"] && (alert.count > 2 ? true : false) && !(alert.count * 2 == 5)"#,
        ] {
            assert!(matches!(decided(&rule(when, "suppress")).action, Action::Suppress), "{when}");
        }
    }

    #[test]
    fn an_expression_that_fails_never_hides_an_alert() {
        let fails = "1 / (alert.count - 3) == 1";
        let decision = decided(&[rule(fails, "suppress"), rule("true", "debug")].join(","));
        assert!(matches!(decision.action, Action::Reprioritise(Priority::Debug)), "passed over");
        let decision = decided(&[rule(fails, "pin"), rule("true", "suppress")].join(","));
        assert!(matches!(decision.action, Action::Keep));
        assert_eq!(decision.reason, "rules[0].when cannot be evaluated here");
    }
}
