//! `lanner function list` and `show`.

use lanner_core::text::escaped;
use serde_json::Value;

use super::super::Exit;
use super::super::answer::{ListArgs, ShowArgs, items, number, short, text};
use super::super::refresh::print_source;

pub(super) fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let answer = args.remote.get("/v1/functions")?;
    println!("{:<12} {:>4}  {:<20} {:<9} SOURCE", "FUNCTION", "REV", "DIGEST", "NEXT");
    for function in items(&answer, "functions") {
        let active = function.get("active").cloned().unwrap_or_default();
        let next = function.pointer("/next/state").and_then(Value::as_str).unwrap_or("-");
        println!(
            "{:<12} {:>4}  {:<20} {:<9} {}",
            text(function, "name"),
            number(&active, "number"),
            short(&active, "digest"),
            escaped(next),
            text(function, "source")
        );
    }
    Ok(Exit::Clean)
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let answer = args.remote.get(&format!("/v1/functions/{}", args.name))?;
    if args.json {
        println!("{answer:#}");
        return Ok(Exit::Clean);
    }
    print_source(&answer);
    println!("{:>4}  {:<9} {:<20} {:<20} {:<16} CHECKS", "REV", "STATE", "DIGEST", "RESOLVED", "BY");
    for revision in items(&answer, "revisions") {
        let resolved = short(revision, "resolved");
        println!(
            "{:>4}  {:<9} {:<20} {resolved:<20} {:<16} {}",
            number(revision, "number"),
            text(revision, "state"),
            short(revision, "digest"),
            text(revision, "by"),
            checks(revision)
        );
    }
    Ok(Exit::Clean)
}

/// Those that were passed, and why the last one was not.
fn checks(revision: &Value) -> String {
    let passed: Vec<String> = items(revision, "passed").iter().map(|p| text(p, "check")).collect();
    match (text(revision, "failed"), text(revision, "reason")) {
        (_, reason) if reason.is_empty() => passed.join(" "),
        (check, reason) if check.is_empty() => reason,
        (check, reason) => format!("{check}: {reason}"),
    }
}
