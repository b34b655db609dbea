//! `lanner policy activate`, `rollback`, `retire` and `rejudge`: one request each.

use clap::Args;
use serde_json::Value;

use super::super::Exit;
use super::super::remote::Remote;

#[derive(Debug, Args)]
pub(in crate::cli) struct MoveArgs {
    name: String,
    /// Which revision; the shadow for `activate`, the one before for `rollback` if left out
    #[arg(long)]
    revision: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetireArgs {
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RejudgeArgs {
    /// Scans that ended then or later, as 2026-01-31T12:00:00Z; all if left out
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn move_to(args: &MoveArgs, verb: &str) -> anyhow::Result<Exit> {
    args.remote.move_to("policies", &args.name, args.revision, verb)
}

pub(super) fn retire(args: &RetireArgs) -> anyhow::Result<Exit> {
    args.remote.ask("DELETE", &format!("/v1/policies/{}", args.name), "", &[])?;
    println!("{}: judges no more; its revisions are kept", args.name);
    Ok(Exit::Clean)
}

pub(super) fn rejudge(args: &RejudgeArgs) -> anyhow::Result<Exit> {
    let query = args.since.as_ref().map(|s| format!("?since={}", s.replace('+', "%2B"))).unwrap_or_default();
    let mut progress = args.remote.ask("POST", &format!("/v1/policies/rejudge{query}"), "", &[])?;
    while progress.get("ended").is_none_or(Value::is_null) {
        std::thread::sleep(std::time::Duration::from_millis(300));
        progress = args.remote.get("/v1/policies/rejudge")?;
    }
    let number = |key: &str| progress.get(key).and_then(Value::as_u64).unwrap_or_default();
    println!(
        "{} alerts of {} scans were judged again: {} count otherwise, filters failed on {} scans",
        number("alerts"),
        number("scans"),
        number("changed"),
        number("failed")
    );
    match progress.get("reason").and_then(Value::as_str).filter(|r| !r.is_empty()) {
        Some(reason) => anyhow::bail!("it broke off: {reason}"),
        None => Ok(Exit::Clean),
    }
}
