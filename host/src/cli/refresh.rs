//! `lanner function refresh` and `lanner policy refresh`: lets a host look at its sources now, and waits for what comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::answer::{items, text};
use super::remote::{JSON, Remote};

#[derive(Debug, Args)]
pub(in crate::cli) struct RefreshArgs {
    /// Which one; all if left out
    name: Option<String>,
    /// Also try what was refused before
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    remote: Remote,
}

const EVERY: Duration = Duration::from_millis(300);

impl RefreshArgs {
    /// 1 if a new revision was refused. `kind` is the last part of `/v1/…`, and the list's name in what it answers.
    pub(in crate::cli) fn run(&self, kind: &str) -> anyhow::Result<Exit> {
        let before = self.looked(kind)?;
        let body = json!({ "name": self.name, "again": self.again }).to_string();
        let answer = self.remote.ask("POST", &format!("/v1/{kind}/refresh"), JSON, body.as_bytes())?;
        let mut exit = Exit::Clean;
        for name in items(&answer, kind).iter().filter_map(Value::as_str) {
            let came = loop {
                std::thread::sleep(EVERY);
                let now = self.looked(kind)?.remove(name).unwrap_or_default();
                if !now.is_null() && before.get(name) != Some(&now) {
                    break now;
                }
            };
            println!("{name}: {}", brief(&came));
            if text(&came, "outcome") == "failed" {
                exit = Exit::Alerts;
            }
        }
        Ok(exit)
    }

    /// The last look at each source.
    fn looked(&self, kind: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let answer = self.remote.get(&format!("/v1/{kind}"))?;
        let named = |f: &Value| Some((f.get("name")?.as_str()?.to_owned(), f.get("looked")?.clone()));
        Ok(items(&answer, kind).iter().filter_map(named).collect())
    }
}

/// `failed: revision 3: canary: …`
pub(in crate::cli) fn brief(looked: &Value) -> String {
    match text(looked, "detail") {
        detail if detail.is_empty() => text(looked, "outcome"),
        detail => format!("{}: {detail}", text(looked, "outcome")),
    }
}

/// Where something comes from, and what came of the last look there, if it has a source.
pub(in crate::cli) fn print_source(answer: &Value) {
    if answer.get("source").is_some_and(|s| !s.is_null()) {
        println!("source: {}", text(answer, "source"));
    }
    if let Some(looked) = answer.get("looked").filter(|l| !l.is_null()) {
        println!("last look: {}", brief(looked));
    }
}
