//! The settings: team -> its packages, and rule -> priority. Read once a call; every mistake names its key.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared_filter::{PRIORITIES, Priority, priority};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    teams: BTreeMap<String, Team>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Team {
    /// Names, in which `*` stands for any characters.
    packages: Vec<String>,
    /// A rule's name, or `*` for those that are not named.
    #[serde(default)]
    priorities: BTreeMap<String, String>,
}

/// A decision may carry 16 tags, and each team adds one.
const MAX_TEAMS: usize = 16;
/// `team:` and this make 64 bytes, the longest tag.
const MAX_NAME: usize = 59;

impl Settings {
    pub(crate) fn read(json: &str) -> Result<Self, String> {
        let settings: Self =
            serde_json::from_str(json).map_err(|e| format!("the settings do not fit: {e}"))?;
        let count = settings.teams.len();
        if count == 0 || count > MAX_TEAMS {
            return Err(format!("teams names {count} teams: name 1 to {MAX_TEAMS}"));
        }
        for (name, team) in &settings.teams {
            team.check(name)?;
        }
        Ok(settings)
    }

    pub(crate) fn teams_of<'a>(
        &'a self,
        package: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Team)> {
        let owns = move |team: &&Team| package.is_some_and(|p| team.packages.iter().any(|w| matches(w, p)));
        self.teams.iter().map(|(name, team)| (name.as_str(), team)).filter(move |(_, team)| owns(team))
    }
}

impl Team {
    fn check(&self, name: &str) -> Result<(), String> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(format!("teams.{name:?}: a team's name has 1 to {MAX_NAME} bytes"));
        }
        if self.packages.is_empty() || self.packages.iter().any(String::is_empty) {
            return Err(format!(
                "teams.{name}.packages: give at least one name or pattern, none of them empty"
            ));
        }
        for (rule, word) in &self.priorities {
            priority(word).ok_or_else(|| {
                let words: Vec<_> = PRIORITIES.iter().map(|(w, _)| *w).collect();
                format!(
                    "teams.{name}.priorities.{rule:?}: {word:?} is no priority: give {}",
                    words.join(", ")
                )
            })?;
        }
        Ok(())
    }

    /// What this team gives to a rule: by its name, else by `*`.
    pub(crate) fn priority(&self, rule: &str) -> Option<Priority> {
        self.priorities.get(rule).or_else(|| self.priorities.get("*")).and_then(|word| priority(word))
    }
}

/// `*` stands for any characters. Time grows with the product of both lengths, whatever the pattern.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("@pay/*", "@pay/core", true),
            ("@pay/*", "@play/core", false),
            ("*-loader", "css-loader", true),
            ("a*b*c", "a-b-b-c", true),
            ("ab*ba", "aba", false),
            ("a**c", "abc", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused_by_name() {
        let refused = |json: &str| Settings::read(json).unwrap_err();
        assert!(refused("no").starts_with("the settings do not fit: expected"));
        assert!(refused("{}").contains("missing field `teams`"));
        assert!(refused(r#"{"teams":{},"x":1}"#).contains("unknown field `x`"));
        assert_eq!(refused(r#"{"teams":{}}"#), "teams names 0 teams: name 1 to 16");
        let many: Vec<_> = (0..17).map(|i| format!(r#""t{i}":{{"packages":["a"]}}"#)).collect();
        let many = format!(r#"{{"teams":{{{}}}}}"#, many.join(","));
        assert_eq!(refused(&many), "teams names 17 teams: name 1 to 16");
        let long = format!(r#"{{"teams":{{"{}":{{"packages":["a"]}}}}}}"#, "x".repeat(60));
        assert!(refused(&long).ends_with("a team's name has 1 to 59 bytes"));
        assert_eq!(
            refused(r#"{"teams":{"a":{"packages":[]}}}"#),
            "teams.a.packages: give at least one name or pattern, none of them empty"
        );
        assert_eq!(
            refused(r#"{"teams":{"a":{"packages":["x"],"priorities":{"R":"high"}}}}"#),
            "teams.a.priorities.\"R\": \"high\" is no priority: give emergency, alert, critical, error, warning, notice, \
             informational, debug"
        );
    }

    #[test]
    fn the_schema_is_json_and_names_every_key() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../settings.schema.json")).unwrap();
        let team = "/properties/teams/additionalProperties/properties";
        for key in ["packages", "priorities"] {
            assert!(schema.pointer(&format!("{team}/{key}")).is_some(), "{key}");
        }
    }
}
