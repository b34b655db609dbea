//! `lanner function activate`, `rollback` and `refresh`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::Exit;
use super::super::remote::{JSON, Remote};
use super::show::brief;

#[derive(Debug, Args)]
pub(in crate::cli) struct MoveArgs {
    name: String,
    /// Which revision; the newest for `activate`, the one before for `rollback` if left out
    #[arg(long)]
    revision: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RefreshArgs {
    /// Which function; all if left out
    name: Option<String>,
    /// Also try what was refused before
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    remote: Remote,
}

const EVERY: Duration = Duration::from_millis(300);

pub(super) fn move_to(args: &MoveArgs, verb: &str) -> anyhow::Result<Exit> {
    args.remote.move_to("functions", &args.name, args.revision, verb)
}

/// 1 if a new revision was refused.
pub(super) fn refresh(args: &RefreshArgs) -> anyhow::Result<Exit> {
    let before = looked(&args.remote)?;
    let body = json!({ "function": args.name, "again": args.again }).to_string();
    let answer = args.remote.ask("POST", "/v1/functions/refresh", JSON, body.as_bytes())?;
    let asked = answer.get("functions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut exit = Exit::Clean;
    for name in asked.iter().filter_map(Value::as_str) {
        let came = loop {
            std::thread::sleep(EVERY);
            let now = looked(&args.remote)?.remove(name).unwrap_or_default();
            if !now.is_null() && before.get(name) != Some(&now) {
                break now;
            }
        };
        println!("{name}: {}", brief(&came));
        if came.get("outcome").and_then(Value::as_str) == Some("failed") {
            exit = Exit::Alerts;
        }
    }
    Ok(exit)
}

/// The last look at each function's source.
fn looked(remote: &Remote) -> anyhow::Result<BTreeMap<String, Value>> {
    let answer = remote.get("/v1/functions")?;
    let all = answer.get("functions").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |f: &Value| Some((f.get("name")?.as_str()?.to_owned(), f.get("looked")?.clone()));
    Ok(all.iter().filter_map(named).collect())
}
