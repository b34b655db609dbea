//! Nothing outlives the end, and nothing goes on without the watcher.

use std::time::{Duration, Instant};

use lanner_agent::watch::Role;

use crate::harness::Scan;

/// Whether any process runs this program.
fn runs(program: &std::path::Path) -> bool {
    let of = |e: std::fs::DirEntry| std::fs::read_link(e.path().join("exe")).ok();
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).any(|exe| exe == program)
}

#[test]
fn a_daemon_ends_with_the_scan_and_what_it_did_meanwhile_is_seen() {
    let scan = Scan::new();
    let said = scan.run(&["daemon", &scan.text("home/.npmrc")]);
    said.must("decoy", ".npmrc by ");
    assert!(said.gone.is_some());
    assert!(!runs(&scan.path("package")));
}

#[test]
fn without_the_watcher_the_package_cannot_go_on() {
    let scan = Scan::new();
    let (package, plain) = (scan.text("package"), scan.text("home/plain"));
    let mut running = scan.start();
    running.launch(Role::Phase, &[&package, "stay", &plain]);
    running.until_alert("open", &plain);
    // SAFETY: our own child, not waited for yet.
    unsafe { libc::kill(running.watcher, libc::SIGKILL) };
    while running.take() {}
    // Its output ends when the package has ended: by itself, since its next open found nobody to answer.
    assert_eq!(running.end().output, "plain\nopen ENOSYS\n");
    assert!(!runs(&scan.path("package")));
}

#[test]
fn a_bomb_of_processes_is_watched_to_its_end() {
    let scan = Scan::new();
    let begun = Instant::now();
    let said = scan.run(&["bomb", "3000", &scan.text("tmp")]);
    said.printed("failed 0\n");
    let creates: u64 = said
        .repeats
        .iter()
        .rev()
        .filter_map(|(id, count)| {
            let alert = said.alerts.iter().find(|a| a.id == *id)?;
            String::from_utf8_lossy(&alert.output).contains("/tmp/").then_some((*id, *count))
        })
        .collect::<std::collections::HashMap<_, _>>()
        .values()
        .sum();
    let last: std::collections::HashMap<_, _> = said.repeats.iter().copied().collect();
    assert!(creates > 0 && last.values().sum::<u64>() >= 3000, "{creates} {last:?}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_long_line_of_ancestors_does_not_topple_the_watcher() {
    let scan = Scan::new();
    let said = scan.run(&["chain", "200", &scan.text("home/.npmrc")]);
    said.printed(&format!("{}\n", crate::harness::SECRET));
    let alert = said.alerts.iter().find(|a| a.rule == "decoy").unwrap();
    assert!(alert.ancestry.len() < 100);
}
