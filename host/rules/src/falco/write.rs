//! The file: a head that says what it is and what is not in it, then lists, macros and rules.
//!
//! Long texts are folded between words that are not within quotes, where a line's end means no more than a space.

use std::fmt::Write;

use super::walk::Walk;
use super::{Absent, PREFIX, Translated};
use crate::Priority;

const WIDTH: usize = 118;

const HEAD: &str = "\
# Written by `cargo xtask falco-rules` out of host/rules/lanner_rules.yaml and host/rules/falco_dialect.yaml: change those.
#
# For Falco 0.43 and later, beside its own rules: what a package may not do while Lanner installs it in a pod, and the
# mark by which Lanner knows that Falco watches. Without the mark a scan that needs Falco as a witness does not start.
# Every other rule keeps to containers in which Lanner's agent runs, so other pods of the node raise nothing. Add the file
# to `rules_files` in falco.yaml, and set there:
#
#   json_output: true
#   syscall_event_drops: { threshold: 0, actions: [log, alert], rate: 1, max_burst: 100 }
#
# The mark's priority is low on purpose: a mark is no finding. Falco's own `priority` must let it through (debug).
";

pub(super) fn file(absent: &[Absent<'_>], walk: &Walk<'_>, rules: &[Translated<'_>]) -> String {
    let mut text = HEAD.to_owned();
    if !absent.is_empty() {
        text.push_str("#\n# Not here, for Falco cannot see it; the built-in sensor does:\n#\n");
    }
    for Absent { name, reason } in absent {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        folded(&mut text, "# - ", "#   ", &format!("{name}: {reason}"));
    }
    text.push_str("\n- required_engine_version: 0.57.0\n");
    for (name, items) in &walk.lists {
        let items = items.iter().map(|item| scalar(item)).collect::<Vec<_>>().join(", ");
        _ = writeln!(text, "\n- list: {PREFIX}{name}\n  items:");
        folded(&mut text, "    ", "    ", &format!("[{items}]"));
    }
    for (name, condition) in &walk.macros {
        _ = writeln!(text, "\n- macro: {PREFIX}{name}\n  condition: >");
        folded(&mut text, "    ", "    ", condition);
    }
    for rule in rules {
        one(&mut text, rule);
    }
    text
}

fn one(text: &mut String, rule: &Translated<'_>) {
    let raw = rule.raw;
    let tags = raw.tags.iter().map(|tag| scalar(tag)).collect::<Vec<_>>().join(", ");
    _ = writeln!(text, "\n- rule: {}\n  desc: >", scalar(&raw.name));
    folded(text, "    ", "    ", &raw.description);
    text.push_str("  condition: >\n");
    folded(text, "    ", "    ", &rule.condition);
    let priority = priority(raw.priority);
    _ = writeln!(text, "  output: {}\n  priority: {priority}\n  tags: [{tags}]", quoted(&rule.output));
}

/// Plain where it can be misread by nobody, else quoted.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '.' | '/' | '_'));
    if begins && text.chars().all(plain) && !text.ends_with(' ') {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Lines of at most `WIDTH` where the words allow it, the first after `first`, the others after `next`.
fn folded(text: &mut String, first: &str, next: &str, long: &str) {
    let mut line = first.to_owned();
    let mut begun = false;
    for word in words(long) {
        if begun && line.len() + 1 + word.len() > WIDTH {
            _ = writeln!(text, "{line}");
            next.clone_into(&mut line);
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    _ = writeln!(text, "{line}");
}

/// Split at white space outside of double quotes, in which a space counts.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut begin, mut within) = (0, false);
    for (at, c) in text.char_indices() {
        within ^= c == '"';
        if c.is_whitespace() && !within {
            words.extend(text.get(begin..at).filter(|word| !word.is_empty()));
            begin = at + c.len_utf8();
        }
    }
    words.extend(text.get(begin..).filter(|word| !word.is_empty()));
    words
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Emergency => "EMERGENCY",
        Priority::Alert => "ALERT",
        Priority::Critical => "CRITICAL",
        Priority::Error => "ERROR",
        Priority::Warning => "WARNING",
        Priority::Notice => "NOTICE",
        Priority::Informational => "INFORMATIONAL",
        Priority::Debug => "DEBUG",
    }
}
