//! The table that `lanner scan` prints. Everything in it may come from the package: escaped and bounded here, at the
//! last moment before a terminal.

use std::fmt::Write;

use lanner_core::text::{bounded, escaped};
use lanner_core::{Isolation, JudgedAlert, Priority, Scan, ScanState, Verdict};

/// Rows shown; `--format json` has them all.
const MAX_ROWS: usize = 50;

pub(super) fn table(
    title: &str,
    scan: &Scan,
    alerts: &[JudgedAlert],
    threshold: Priority,
    width: usize,
) -> String {
    let mut out = String::new();
    head(&mut out, title, scan);
    let mut kept: Vec<&JudgedAlert> = alerts.iter().filter(|a| !a.suppressed()).collect();
    kept.sort_by_key(|a| (a.priority(), a.alert.id));
    if !kept.is_empty() {
        rows(&mut out, &kept, width);
    }
    for suppressed in alerts.iter().filter(|a| a.suppressed()).take(MAX_ROWS) {
        let why = suppressed.decisions.iter().find(|d| d.action == lanner_core::Action::Suppress);
        let (filter, reason) = why.map_or(("", ""), |d| (d.filter.as_str(), d.reason.as_str()));
        let _ = writeln!(
            out,
            "  suppressed: {} ({}): {}",
            shown(&suppressed.alert.rule, 80),
            shown(filter, 40),
            shown(reason, 160)
        );
    }
    network(&mut out, scan);
    let _ = writeln!(out, "{}", verdict_line(scan, &kept, threshold));
    out
}

fn head(out: &mut String, title: &str, scan: &Scan) {
    let isolation = match scan.isolation {
        Some(Isolation::Namespaces) => "isolation: namespaces",
        Some(Isolation::Container) => "isolation: container",
        None => "isolation: none was set up",
    };
    let events = scan.counts.events;
    let _ = writeln!(
        out,
        "{}  ·  {}  ·  {isolation}  ·  {events} calls watched",
        shown(title, 120),
        scan.spec.manager
    );
    for phase in &scan.phases {
        let seconds = phase.ended.map(|e| Seconds(e.saturating_sub(phase.started)));
        let how = match (phase.exit_code, phase.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "did not end".to_owned(),
        };
        let time = seconds.map(|s| format!(", {s}")).unwrap_or_default();
        let _ = writeln!(out, "  phase {}: {how}{time}", shown(&phase.name, 40));
    }
    if scan.state == ScanState::Failed {
        for line in scan.phases.iter().flat_map(|p| last_lines(&p.output_tail)) {
            let _ = writeln!(out, "    | {}", shown(line, 200));
        }
    }
}

fn last_lines(tail: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = tail.lines().filter(|l| !l.trim().is_empty()).collect();
    let skip = lines.len().saturating_sub(8);
    lines.into_iter().skip(skip)
}

/// Priority, rule, what happened, the package responsible, how often.
fn rows(out: &mut String, kept: &[&JudgedAlert], width: usize) {
    let cells = |a: &JudgedAlert| {
        let package = a.alert.package.as_ref().map_or("-", |p| p.name.as_str());
        (a.priority().as_str(), shown(&a.alert.rule, 60), shown(package, 40), format!("{}x", a.alert.count))
    };
    let shown_rows: Vec<_> = kept.iter().take(MAX_ROWS).map(|a| (cells(a), &a.alert.output)).collect();
    let widest = |f: &dyn Fn(&(&str, String, String, String)) -> usize, least: usize| {
        shown_rows.iter().map(|(c, _)| f(c)).max().unwrap_or(0).max(least)
    };
    let (p, r) = (widest(&|c| c.0.chars().count(), 8), widest(&|c| c.1.chars().count(), 4));
    let (k, n) = (widest(&|c| c.2.chars().count(), 7), widest(&|c| c.3.chars().count(), 5));
    let used = p + r + k + n + 8;
    let room = width.saturating_sub(used).max(24);
    let _ =
        writeln!(out, "{:p$}  {:r$}  {:k$}  {:>n$}  WHAT HAPPENED", "PRIORITY", "RULE", "PACKAGE", "TIMES");
    for ((priority, rule, package, times), output) in &shown_rows {
        let _ = writeln!(out, "{priority:p$}  {rule:r$}  {package:k$}  {times:>n$}  {}", shown(output, room));
    }
    if kept.len() > MAX_ROWS {
        let _ = writeln!(out, "  … and {} more: --format json shows all", kept.len() - MAX_ROWS);
    }
}

fn network(out: &mut String, scan: &Scan) {
    for attempt in scan.network.iter().filter(|a| !a.allowed).take(MAX_ROWS) {
        let _ = writeln!(
            out,
            "  refused by the proxy: {}:{} ({}x); --allow-host lets it through",
            shown(&attempt.host, 120),
            attempt.port,
            attempt.count
        );
    }
}

fn verdict_line(scan: &Scan, kept: &[&JudgedAlert], threshold: Priority) -> String {
    let worst = kept.iter().map(|a| a.priority()).min();
    let state = scan.state.as_str();
    let reason =
        if scan.reason.is_empty() { String::new() } else { format!(": {}", shown(&scan.reason, 400)) };
    match scan.verdict(worst, threshold) {
        Verdict::Clean => {
            format!("CLEAN: watched from the first to the last instruction, nothing at {threshold} or above")
        }
        Verdict::Alerts => {
            let count = kept.iter().filter(|a| a.counts_at(threshold)).count();
            let plural = if count == 1 { "alert" } else { "alerts" };
            format!("ALERTS: {count} {plural} at {threshold} or above ({state}{reason})")
        }
        Verdict::Unknown => format!("NO ANSWER: {state}{reason}"),
    }
}

/// Bounded by characters, since this is about the width of a terminal.
fn shown(text: &str, max: usize) -> String {
    let safe = escaped(&bounded(text, 8 * 1024));
    if safe.chars().count() <= max {
        return safe;
    }
    safe.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

pub(super) struct Seconds(pub(super) i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.max(0) / 1_000_000;
        write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}
