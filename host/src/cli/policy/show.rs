//! `lanner policy list`, `show` and `diff`; and how revisions and differences read on a terminal.

use clap::Args;
use lanner_core::text::escaped;
use serde_json::Value;

use super::super::Exit;
use super::super::answer::{ListArgs, ShowArgs, items, number, short, text};
use super::super::refresh::print_source;
use super::super::remote::Remote;

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    name: String,
    /// The shadow if left out
    #[arg(long)]
    revision: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let answer = args.remote.get("/v1/policies")?;
    println!("{:<24} {:>5}  {:<28} SHADOW", "FILTER", "ORDER", "ACTIVE");
    for policy in items(&answer, "policies") {
        let of = |key: &str| policy.get(key).filter(|r| !r.is_null()).map_or("-".to_owned(), brief);
        let order = policy.get("order").and_then(Value::as_i64).unwrap_or(0);
        println!("{:<24} {order:>5}  {:<28} {}", text(policy, "name"), of("active"), of("shadow"));
    }
    Ok(Exit::Clean)
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let answer = args.remote.get(&format!("/v1/policies/{}", args.name))?;
    if args.json {
        println!("{answer:#}");
        return Ok(Exit::Clean);
    }
    print_source(&answer);
    println!("{:>4}  {:<9} {:<10} {:<20} {:<16} NOTE", "REV", "STATE", "VERSION", "DIGEST", "BY");
    for revision in items(&answer, "revisions") {
        let version = revision.pointer("/description/version").and_then(Value::as_str).unwrap_or("-");
        let note = match (text(revision, "reason"), text(revision, "note")) {
            (reason, note) if reason.is_empty() => note,
            (reason, _) => reason,
        };
        let digest = short(revision, "digest");
        let number = number(revision, "number");
        println!(
            "{number:>4}  {:<9} {:<10} {digest:<20} {:<16} {note}",
            text(revision, "state"),
            escaped(version),
            text(revision, "by")
        );
    }
    Ok(Exit::Clean)
}

pub(super) fn diff(args: &DiffArgs) -> anyhow::Result<Exit> {
    let query = args.revision.map(|r| format!("?revision={r}")).unwrap_or_default();
    let answer = args.remote.get(&format!("/v1/policies/{}/diff{query}", args.name))?;
    println!(
        "revision {} would have changed {} alerts",
        number(&answer, "revision"),
        number(&answer, "total")
    );
    differences(items(&answer, "latest"));
    Ok(Exit::Clean)
}

/// The answer to an upload.
pub(super) fn pushed(answer: &Value) {
    let Some(revision) = answer.get("revision") else { return };
    if answer.get("dry_run").and_then(Value::as_bool) == Some(true) {
        println!("{}: would be taken ({})", text(revision, "name"), text(revision, "digest"));
    } else {
        println!("{}: {} ({})", text(revision, "name"), brief(revision), text(revision, "digest"));
    }
    if let Some(trial) = answer.get("trial") {
        println!(
            "trial: {} of {} alerts in {} scans would count otherwise",
            number(trial, "changed"),
            number(trial, "alerts"),
            number(trial, "scans")
        );
        differences(items(trial, "changes"));
    }
}

/// One line each.
pub(super) fn differences(all: &[Value]) {
    for difference in all {
        let outcome = |key: &str| {
            let suppressed = difference.pointer(&format!("/{key}/suppressed")).and_then(Value::as_bool);
            let priority = difference.pointer(&format!("/{key}/priority")).and_then(Value::as_str);
            match suppressed {
                Some(true) => "suppressed".to_owned(),
                _ => priority.unwrap_or("?").to_owned(),
            }
        };
        println!(
            "  {} #{} {}: {} -> {}{}",
            text(difference, "scan"),
            number(difference, "alert"),
            text(difference, "rule"),
            outcome("now"),
            outcome("then"),
            Some(text(difference, "reason"))
                .filter(|r| !r.is_empty())
                .map_or(String::new(), |r| format!(": {r}"))
        );
    }
}

fn brief(revision: &Value) -> String {
    let version = revision.pointer("/description/version").and_then(Value::as_str).unwrap_or("-");
    format!("revision {} ({}) {}", number(revision, "number"), escaped(version), text(revision, "state"))
}
