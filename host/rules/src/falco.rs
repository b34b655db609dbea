//! Our rules for Falco: the same behaviour, asked for in what Falco can answer.
//!
//! Lays a dialect over the rules and writes what comes of it as a rules file of Falco's: each rule kept to our own
//! containers, macros and lists under names that replace none of Falco's, outputs without what only we know. A rule that
//! still asks for more than Falco has is refused with the sentence that says what to write. Where the file goes is not
//! known here.

mod known;
mod walk;
mod write;

use crate::diagnostics::Diagnostics;
use crate::document::{Document, RawRule};
use crate::{Diagnostic, FieldName, RuleSet, Source};

use walk::Walk;

/// What Falco has in place of what only the built-in sensor knows.
pub const DIALECT: &str = include_str!("../falco_dialect.yaml");

/// Whether stock Falco answers this field: engine 0.57, which Falco 0.43 and later have.
pub fn has_field(field: &FieldName) -> bool {
    known::FIELDS.contains(&field.name.as_str())
}

/// What we define must not replace what the files beside ours define: Falco has one name space.
const PREFIX: &str = "lanner_";

/// The macro that keeps a rule to our own containers.
const SCOPE: &str = "in_scan";

/// Put behind each output: by these an alert finds its scan.
const WHOSE: &str = " pid=%proc.pid exepath=%proc.exepath container_id=%container.id container_name=%container.name pod=%k8s.pod.name";

/// A rule that Falco does not get, and why.
struct Absent<'d> {
    name: &'d str,
    reason: &'d str,
}

/// A rule as Falco gets it.
struct Translated<'d> {
    raw: &'d RawRule,
    condition: String,
    output: String,
}

/// Writes the rules for Falco.
pub fn translate(rules: Source<'_>, dialect: Source<'_>) -> Result<String, Vec<Diagnostic>> {
    let mut diagnostics = Diagnostics::default();
    let ours = Document::read(&[rules], &mut diagnostics);
    let both = Document::read(&[rules, dialect], &mut diagnostics);
    // On its own it switches off rules that it does not have; what is wrong in it has been said above.
    let theirs = Document::read(&[dialect], &mut Diagnostics::default());
    let mut walk = Walk::new(&both, dialect.name);
    let mut absent = Vec::new();
    let mut translated = Vec::new();
    for raw in &both.rules {
        let known = ours.rules.iter().find(|rule| rule.name == raw.name);
        match known {
            Some(known) if !raw.enabled => {
                if known.description == raw.description {
                    let message = format!("rule `{}` is left out: say why in its `desc`", raw.name);
                    diagnostics.add(dialect.name, 0, message);
                }
                absent.push(Absent { name: &raw.name, reason: &raw.description });
            }
            _ => translated.push(walk.rule(raw, known.is_some(), &mut diagnostics)),
        }
    }
    for name in theirs.macros.keys().filter(|name| !walk.reached(name)) {
        let message = format!("no rule uses the macro `{name}`: it replaces nothing");
        diagnostics.add(dialect.name, 0, message);
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics.into_found());
    }
    let text = write::file(&absent, &walk, &translated);
    // What we wrote must say what we meant: read it as anyone's rules.
    RuleSet::compile(&[Source { name: "the rules for Falco", text: &text }], &has_field)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
