//! Threads that rewrite what a call points at while we look: content never comes out without its event.

use lanner_proto::agent::gap;

use crate::harness::{Said, Scan};

const TIMES: u32 = 20_000;

/// How often an event of this rule with this part came, repeats included.
pub(crate) fn count(said: &Said, rule: &str, part: &str) -> u64 {
    let alerts =
        said.alerts.iter().filter(|a| a.rule == rule && String::from_utf8_lossy(&a.output).contains(part));
    alerts.map(|a| said.repeats.iter().rfind(|(id, _)| *id == a.id).map_or(1, |(_, count)| *count)).sum()
}

#[test]
fn a_rewritten_path_gives_no_content_without_its_event() {
    let scan = Scan::new();
    // Same length, so that any mixture of both is one of both or no file.
    scan.write("home/.nothi", "plain");
    let (plain, decoy) = (scan.text("home/.nothi"), scan.text("home/.npmrc"));
    let said = scan.run(&["race open", &plain[..], &decoy, &TIMES.to_string()]);
    let numbers = said.output.lines().last().unwrap();
    let decoys: u64 = numbers.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(said.output.starts_with("both 1\n"), "the race never switched sides: {}", said.output);
    assert_eq!(count(&said, "decoy", &decoy), decoys, "{numbers}");
}

#[test]
fn rewritten_flags_give_no_content_without_its_event() {
    let scan = Scan::new();
    let decoy = scan.text("home/.npmrc");
    let said = scan.run(&["race openat2", &decoy, &TIMES.to_string()]);
    let read: u64 = said.output.trim().parse().unwrap();
    assert_eq!(count(&said, "decoy", &decoy), read);
}

#[test]
fn a_swapped_link_gives_no_content_without_its_event() {
    let scan = Scan::new();
    let (link, plain, decoy) = (scan.text("tmp/link"), scan.text("home/plain"), scan.text("home/.npmrc"));
    let said = scan.run(&["race link", &link, &plain, &decoy, "5000"]);
    let read: u64 = said.output.trim().parse().unwrap();
    assert_eq!(count(&said, "decoy", &decoy), read);
}

#[test]
fn a_rewritten_address_makes_no_connection_without_its_event() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || server.incoming().for_each(drop));
    let scan = Scan::new();
    let said = scan.run(&["race connect", "127.0.0.1", &port.to_string(), "5000"]);
    let connected: u64 = said.output.trim().parse().unwrap();
    assert_eq!(count(&said, "net", &format!("connect 127.0.0.1:{port} SUCCESS")), connected);
}

#[test]
fn a_rewritten_program_is_noticed() {
    let scan = Scan::new();
    // The decoy of this race: a program that may be run and not read would hide what it does.
    for (name, mode) in [("home/true1", 0o755), ("home/true2", 0o111)] {
        scan.copy(std::path::Path::new("/bin/true"), name, mode);
    }
    let said = scan.run(&["race exec", &scan.text("home/true1"), &scan.text("home/true2"), "500"]);
    assert_eq!(said.exit, Some((Some(0), None)));
    // Whichever side of the race it was, each run of it left its trace.
    assert!(said.has_gap(gap::Kind::Unreadable), "{:?}", said.gaps);
    said.must("own", "unreadable");
}
