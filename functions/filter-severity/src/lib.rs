//! Priorities by team: whose package it is decides how urgent an alert is.
//!
//! It names a priority and tags the alert with the team; it never suppresses anything. If several teams claim a package,
//! the most urgent of their priorities counts and each team's tag is set. What a package's name is, the host says; an alert
//! without a responsible package belongs to no team.

mod bindings {
    wit_bindgen::generate!({ world: "alert-filter", path: "../../proto/wit" });
}
mod settings;

use bindings::exports::lanner::platform::filter::{Action, Alert, Batch, Decision, Description, Guest};
use settings::Settings;

struct Severity;

impl Guest for Severity {
    fn evaluate(batch: Batch, settings: String) -> Vec<Decision> {
        // The host has had the settings validated; an empty answer is nonsense to it, so it keeps every alert.
        let Ok(settings) = Settings::read(&settings) else { return Vec::new() };
        batch.alerts.iter().map(|alert| decide(alert, &settings)).collect()
    }

    fn describe() -> Description {
        Description {
            name: "severity".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            author: "Lanner".into(),
            summary: "sets priorities by the team that owns the package, and tags the alert with the team"
                .into(),
            settings_schema: include_str!("../settings.schema.json").into(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        Settings::read(&settings).map(drop)
    }
}

// The names of the exports have colons in them, which no linker of native libraries takes.
#[cfg(target_arch = "wasm32")]
bindings::export!(Severity with_types_in bindings);

fn decide(alert: &Alert, settings: &Settings) -> Decision {
    let package = alert.package.as_ref().map(|p| p.name.as_str());
    let owners: Vec<_> = settings.teams_of(package).collect();
    let named = owners.iter().filter_map(|(name, team)| Some((team.priority(&alert.rule)?, *name)));
    // Falco's order: the first is the most urgent.
    let (action, reason) = match named.min_by_key(|(priority, _)| *priority as u8) {
        Some((priority, team)) if priority != alert.priority => {
            (Action::Reprioritise(priority), format!("the team {team} gives this rule this priority"))
        }
        _ => (Action::Keep, String::new()),
    };
    let tags = owners.iter().map(|(name, _)| format!("team:{name}")).collect();
    Decision { id: alert.id, action, pin: false, reason, tags }
}

#[cfg(test)]
mod tests {
    use bindings::exports::lanner::platform::filter::Responsible;
    use bindings::lanner::platform::types::Priority;

    use super::*;

    const SETTINGS: &str = r#"{"teams": {
        "payments": {"packages": ["@pay/*", "stripe"], "priorities": {"Name lookup": "critical", "*": "error"}},
        "web": {"packages": ["@pay/ui"], "priorities": {"Name lookup": "notice"}}
    }}"#;

    fn alert(rule: &str, package: Option<&str>) -> Alert {
        Alert {
            id: 7,
            time: 1,
            last_time: 1,
            rule: rule.into(),
            priority: Priority::Warning,
            output: String::new(),
            fields: Vec::new(),
            tags: Vec::new(),
            source: "syscall".into(),
            sensor: "builtin".into(),
            count: 1,
            ancestry: Vec::new(),
            package: package.map(|name| Responsible { name: name.into(), folder: ".".into() }),
            fingerprint: "0".repeat(16),
            seen_before: 0,
        }
    }

    fn decided(rule: &str, package: Option<&str>) -> (Option<Priority>, Vec<String>) {
        let decision = decide(&alert(rule, package), &Settings::read(SETTINGS).unwrap());
        assert!(decision.id == 7 && !decision.pin);
        match decision.action {
            Action::Reprioritise(priority) => (Some(priority), decision.tags),
            Action::Keep => (None, decision.tags),
            Action::Suppress => panic!("this filter suppresses nothing"),
        }
    }

    #[test]
    fn a_rule_gets_the_priority_of_the_team_that_owns_the_package() {
        let pay = vec!["team:payments".to_owned()];
        assert_eq!(decided("Name lookup", Some("@pay/core")), (Some(Priority::Critical), pay.clone()));
        assert_eq!(decided("Raw socket", Some("stripe")), (Some(Priority::Error), pay));
    }

    #[test]
    fn of_several_teams_the_most_urgent_priority_counts_and_all_are_named() {
        let (priority, tags) = decided("Name lookup", Some("@pay/ui"));
        assert_eq!((priority, tags.len()), (Some(Priority::Critical), 2));
    }

    #[test]
    fn what_belongs_to_nobody_stays_as_it_is() {
        assert_eq!(decided("Name lookup", Some("left-pad")), (None, Vec::new()));
        assert_eq!(decided("Name lookup", None), (None, Vec::new()));
    }
}
