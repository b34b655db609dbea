//! Every sample through the real sandbox, in both isolations where it can be shown.

use lanner_tests::samples::Sample;
use lanner_tests::{Scanned, scan, skipped};

/// What falls short of a sample's expectation.
fn shortfalls(sample: &Sample, scanned: &Scanned) -> Vec<String> {
    let expect = &sample.expect;
    let kept = scanned.kept();
    let mut short = Vec::new();
    if scanned.exit != Some(expect.exit) {
        short.push(format!("exit {:?}, expected {}", scanned.exit, expect.exit));
    }
    if expect.state.as_deref().is_some_and(|s| s != scanned.state()) {
        short.push(format!("state {}, expected {:?}", scanned.state(), expect.state));
    }
    for must in &expect.must {
        let fits = |rule: &str, package: &str| {
            rule == must.rule && must.package.as_deref().is_none_or(|p| p == package)
        };
        if !kept.iter().any(|(rule, package, _)| fits(rule, package)) {
            short.push(format!("no alert {must:?}"));
        }
    }
    for rule in &expect.must_not {
        if kept.iter().any(|(r, _, _)| r == rule) {
            short.push(format!("an alert {rule}"));
        }
    }
    if expect.exit == 0 {
        let loud =
            kept.iter().filter(|(_, _, priority)| !matches!(priority.as_str(), "INFORMATIONAL" | "DEBUG"));
        short.extend(
            loud.map(|(rule, package, priority)| format!("benign, but {priority} {rule} by {package:?}")),
        );
    }
    if !short.is_empty() {
        short.push(format!("kept: {kept:?}; reason: {}; {}", scanned.json["scan"]["reason"], scanned.stderr));
    }
    short
}

fn check(samples: &[Sample], args: &[&str]) {
    let mut failed = Vec::new();
    for sample in samples {
        let project = sample.project().unwrap();
        let mut all: Vec<&str> = args.to_vec();
        let path = project.path().to_str().unwrap();
        all.push(path);
        let short = shortfalls(sample, &scan(all).unwrap());
        let word = if short.is_empty() { "ok" } else { "FAILED" };
        eprintln!("sample {} {}: {word}", sample.name, args.join(" "));
        if !short.is_empty() {
            failed.push(format!("{}: {}", sample.name, short.join("; ")));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} samples fell short:\n{}",
        failed.len(),
        samples.len(),
        failed.join("\n")
    );
}

#[test]
fn every_sample_meets_its_expectation() {
    check(&Sample::all().unwrap(), &[]);
}

#[test]
fn samples_meet_it_in_a_container_too() {
    let names = [
        "npmrc-token",
        "ssh-keys",
        "steals-then-fails",
        "non-dumpable",
        "hardlink-shadow",
        "funding-message",
        "esbuild-like",
    ];
    let samples: Vec<_> = names.iter().map(|n| Sample::named(n).unwrap()).collect();
    check(&samples, &["--isolation", "container"]);
}

#[test]
fn an_agent_that_is_killed_from_outside_is_no_clean_scan() {
    let sample = Sample::named("outlives-npm").unwrap();
    let project = sample.project().unwrap();
    let child = std::process::Command::new(lanner_tests::lanner().unwrap())
        .args(["scan", "--format", "json"])
        .arg(project.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    // The agent is the host's only child; it lives for at least the second that the sample sleeps.
    let killed = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let all =
            tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok()).collect::<String>();
        let agent = [children, all].concat().split_whitespace().find_map(|c| {
            let line = std::fs::read(format!("/proc/{c}/cmdline")).ok()?;
            line.ends_with(b"\0agent\0").then(|| c.parse::<u32>().ok())?
        });
        agent.is_some_and(|agent| lanner_tests::serve::signal(agent, libc::SIGKILL).is_ok())
    });
    let output = child.wait_with_output().unwrap();
    if !killed {
        return skipped(
            "an_agent_that_is_killed_from_outside_is_no_clean_scan",
            "no /proc/PID/task/*/children",
        );
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 3)), "{:?} {json}", output.status);
    assert_eq!(json["scan"]["state"], "incomplete");
}
