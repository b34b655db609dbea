//! The Falco rules files in force: ours, or the operator's.

use std::path::Path;

use lanner_rules::{Diagnostic, RuleSet, Source};

/// Name and text of each file; without `own` the built-in one.
pub fn read(own: Option<&Path>) -> std::io::Result<Vec<(String, String)>> {
    match own {
        Some(path) => Ok(vec![(path.display().to_string(), std::fs::read_to_string(path)?)]),
        None => Ok(vec![("lanner_rules.yaml".into(), lanner_rules::LANNER_RULES.to_owned())]),
    }
}

/// Compiles the files as the agent will, so that a mistake is found before a scan is.
pub fn compile(files: &[(String, String)]) -> Result<RuleSet, Vec<Diagnostic>> {
    let sources: Vec<Source<'_>> = files.iter().map(|(name, text)| Source { name, text }).collect();
    RuleSet::compile(&sources, &lanner_agent::watch::known_field)
}
