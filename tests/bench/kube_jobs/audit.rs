//! What one identity asked of the API server, from the server's own audit log: each request once, refused ones too.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) all: usize,
    /// Watches that were open at the same time, at most.
    pub(super) watches: usize,
    /// By verb and status.
    pub(super) by: BTreeMap<String, usize>,
}

/// Nobody but this identity is written down. A watch is when it begins, and again when it ends; all else when it ends.
pub(super) fn policy(user: &str) -> Value {
    serde_json::json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata", "users": [user] }, { "level": "None" }],
    })
}

pub(super) fn calls(log: &str) -> Result<Calls> {
    let (mut calls, mut known, mut open) = (Calls::default(), BTreeSet::new(), BTreeSet::new());
    // What is behind the last line's end is still being written.
    let (whole, _) = log.rsplit_once('\n').context("the audit log is empty")?;
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line).context("a line of the audit log is no event")?;
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let (id, verb) = (text("auditID").to_owned(), text("verb"));
        let status = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        if verb == "watch" && text("stage") == "ResponseStarted" {
            open.insert(id.clone());
        } else {
            open.remove(&id);
        }
        calls.watches = calls.watches.max(open.len());
        if known.insert(id) {
            *calls.by.entry(format!("{verb}:{status}")).or_default() += 1;
        }
    }
    calls.all = known.len();
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, id: &str, verb: &str, code: u64) -> String {
        serde_json::json!({ "stage": stage, "auditID": id, "verb": verb, "responseStatus": { "code": code } })
            .to_string()
    }

    #[test]
    fn each_request_counts_once_and_a_watch_that_is_opened_anew_is_not_another() {
        let log = [
            line("ResponseStarted", "w1", "watch", 200),
            line("ResponseStarted", "w2", "watch", 200),
            line("ResponseComplete", "c1", "create", 429),
            line("ResponseComplete", "c2", "create", 201),
            line("ResponseComplete", "w1", "watch", 200),
            line("ResponseStarted", "w3", "watch", 200),
        ];
        let calls = calls(&(log.join("\n") + "\n{\"stage\":")).unwrap();
        assert_eq!((calls.all, calls.watches), (5, 2));
        let by = [("create:201", 1), ("create:429", 1), ("watch:200", 3)];
        assert_eq!(calls.by, by.map(|(name, count)| (name.to_owned(), count)).into());
        assert!(super::calls("no event\n").is_err());
    }
}
