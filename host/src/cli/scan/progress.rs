//! How far a scan is, on one line that moves, and a line for what stays; only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lanner_core::text::escaped;
use serde_json::Value;

use super::super::render::Seconds;
use crate::scan::ScanEvent;

pub(super) struct Progress {
    bar: ProgressBar,
}

/// What a terminal is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Runs,
    PhaseBegan { name: String },
    PhaseEnded { name: String, exit_code: Option<i32>, nanos: i64 },
    Alert { priority: String, rule: String },
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message("building the sandbox");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    pub(super) fn show(&self, step: &Step) {
        match step {
            Step::Runs => self.bar.set_message("starting the sandbox"),
            Step::PhaseBegan { name } => self.bar.set_message(format!("{}: running", escaped(name))),
            Step::PhaseEnded { name, exit_code, nanos } => {
                let how = exit_code.map_or("killed".into(), |c| format!("exit code {c}"));
                self.bar.println(format!("phase {}: {how}, {}", escaped(name), Seconds(*nanos)));
                self.bar.set_message("waiting for the last process");
            }
            Step::Alert { priority, rule } => {
                self.bar.println(format!("alert {}: {}", escaped(priority), escaped(rule)));
            }
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Step {
    /// Nothing for what a terminal need not know.
    pub(super) fn of_event(event: &ScanEvent) -> Option<Self> {
        Some(match event {
            ScanEvent::State { state, .. } => {
                (*state == lanner_core::ScanState::Running).then_some(Self::Runs)?
            }
            ScanEvent::Phase { name, ended: None, .. } => Self::PhaseBegan { name: name.clone() },
            ScanEvent::Phase { name, started, ended: Some(ended), exit_code, .. } => Self::PhaseEnded {
                name: name.clone(),
                exit_code: *exit_code,
                nanos: ended.saturating_sub(*started),
            },
            ScanEvent::Alert { alert, .. } => {
                Self::Alert { priority: alert.priority().to_string(), rule: alert.alert.rule.clone() }
            }
        })
    }

    /// The same from one of the host's server-sent events: its name and its data.
    pub(super) fn of_text(event: &str, data: &Value) -> Option<Self> {
        let text = |path: &str| data.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let number = |path: &str| data.pointer(path).and_then(Value::as_i64);
        Some(match event {
            "state" => (text("/state")? == "running").then_some(Self::Runs)?,
            "phase" => match number("/ended_ns") {
                None => Self::PhaseBegan { name: text("/name")? },
                Some(ended) => Self::PhaseEnded {
                    name: text("/name")?,
                    exit_code: number("/exit_code").and_then(|code| code.try_into().ok()),
                    nanos: ended.saturating_sub(number("/started_ns").unwrap_or(ended)),
                },
            },
            "alert" => Self::Alert { priority: text("/alert/priority")?, rule: text("/alert/rule")? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_host_sends_says_the_same_as_what_happens_here() {
        let phase = json!({ "name": "install", "started_ns": 5, "ended_ns": 9, "exit_code": 1 });
        let ended = Step::PhaseEnded { name: "install".into(), exit_code: Some(1), nanos: 4 };
        assert_eq!(Step::of_text("phase", &phase), Some(ended));
        let begun = json!({ "name": "install", "started_ns": 5, "ended_ns": null });
        assert_eq!(Step::of_text("phase", &begun), Some(Step::PhaseBegan { name: "install".into() }));
        assert_eq!(Step::of_text("state", &json!({ "state": "running" })), Some(Step::Runs));
        let alert = json!({ "alert": { "priority": "WARNING", "rule": "r" } });
        let shown = Step::Alert { priority: "WARNING".into(), rule: "r".into() };
        assert_eq!(Step::of_text("alert", &alert), Some(shown));
        for (event, data) in [("state", json!({ "state": "queued" })), ("phase", json!({})), ("x", json!(1))]
        {
            assert_eq!(Step::of_text(event, &data), None);
        }
    }
}
