//! Priorities by team: whose package it is decides how urgent an alert is.
//!
//! It names a priority and tags the alert with the team; it never suppresses anything. If several teams claim a package,
//! the most urgent of their priorities counts and each team's tag is set. What a package's name is, the host says; an alert
//! without a responsible package belongs to no team.

mod settings;

use settings::Settings;
use shared_filter::AlertView;
use shared_filter::api::{Action, Batch, Decision, Description, Guest};

/// The component.
pub struct Severity;

impl Guest for Severity {
    fn evaluate(batch: Batch, settings: String) -> Vec<Decision> {
        evaluate(&batch, &settings)
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
        validate(&settings)
    }
}

// The names of the exports have colons in them, which no linker of native libraries takes.
#[cfg(target_arch = "wasm32")]
shared_filter::bindings::export!(Severity);

/// The filter's whole logic.
pub fn evaluate(batch: &Batch, settings: &str) -> Vec<Decision> {
    // The host has had the settings validated; an empty answer is nonsense to it, so it keeps every alert.
    let Ok(settings) = Settings::read(settings) else { return Vec::new() };
    batch.views().map(|view| decide(view, &settings)).collect()
}

/// Whether `evaluate` could use the settings, and if not, why.
pub fn validate(settings: &str) -> Result<(), String> {
    Settings::read(settings).map(drop)
}

fn decide(view: AlertView<'_>, settings: &Settings) -> Decision {
    let package = view.package().map(|(name, _)| name);
    let owners: Vec<_> = settings.teams_of(package).collect();
    let named = owners.iter().filter_map(|(name, team)| Some((team.priority(view.rule())?, *name)));
    // Falco's order: the first is the most urgent.
    let (action, reason) = match named.min_by_key(|(priority, _)| *priority as u8) {
        Some((priority, team)) if priority != view.alert.priority => {
            (Action::Reprioritise(priority), format!("the team {team} gives this rule this priority"))
        }
        _ => (Action::Keep, String::new()),
    };
    let tags = owners.iter().map(|(name, _)| format!("team:{name}")).collect();
    Decision { id: view.alert.id, action, pin: false, reason, tags }
}

#[cfg(test)]
mod tests {
    use shared_filter::{Plain, Priority};

    use super::*;

    const SETTINGS: &str = r#"{"teams": {
        "payments": {"packages": ["@pay/*", "stripe"], "priorities": {"Name lookup": "critical", "*": "error"}},
        "web": {"packages": ["@pay/ui"], "priorities": {"Name lookup": "notice"}}
    }}"#;

    fn decided(rule: &str, package: Option<&str>) -> (Option<Priority>, Vec<String>) {
        let alert = Plain { id: 7, rule, package: package.map(|name| (name, ".")), ..Plain::default() };
        let batch = Batch::of(&[alert]);
        let decision = decide(batch.views().next().unwrap(), &Settings::read(SETTINGS).unwrap());
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
