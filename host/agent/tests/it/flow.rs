//! The order of a scan, and what remains when something does not come to its end.

use std::time::{Duration, Instant};

use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{self as proto, Isolation, gap, host_message};

use crate::host::{By, Scan, everyone};

const KINDS: [Isolation; 2] = [Isolation::Namespaces, Isolation::Container];

#[test]
fn marks_enclose_the_phases() {
    for (by, kind) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))) {
        let said = Scan::new(kind, by).phase("one", "echo 1").phase("two", "echo 2 >&2").run();
        let order = [
            "hello",
            "start mark",
            "phase started",
            "phase ended",
            "phase started",
            "phase ended",
            "quiet",
            "end mark",
            "done",
        ];
        assert_eq!(said.skeleton(), order);
        assert_eq!((said.output("one"), said.output("two")), ("1\n".into(), "2\n".into()));
        let seqs: Vec<_> = said.messages.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn the_first_failing_phase_is_the_last() {
    let said =
        Scan::new(Isolation::Namespaces, By::Ordinary).phase("one", "exit 3").phase("two", "true").run();
    assert_eq!(said.ended("one").exit_code, Some(3));
    let order = ["hello", "start mark", "phase started", "phase ended", "quiet", "end mark", "done"];
    assert_eq!(said.skeleton(), order);
}

#[test]
fn a_program_that_does_not_exist_fails_its_phase() {
    let said = Scan::new(Isolation::Namespaces, By::Ordinary)
        .with(|start| {
            start.phases = vec![proto::Phase { name: "one".into(), argv: vec!["no-such-program".into()] }];
        })
        .run();
    assert_ne!(said.ended("one").exit_code, Some(0));
}

#[test]
fn nothing_runs_before_the_hosts_go() {
    let mut agent = Scan::new(Isolation::Namespaces, By::Ordinary).phase("one", "true").begin();
    agent.until(|body| matches!(body, Body::Mark(_)));
    agent.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = std::io::Read::read(&mut agent.stream, &mut [0]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    agent.kill();
}

#[test]
fn what_outlives_its_phase_is_ended_before_quiet() {
    for (by, kind) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))) {
        let started = Instant::now();
        let said = Scan::new(kind, by).phase("leave", "setsid sleep 30071 & (sleep 30072 &) ; true").run();
        assert!(said.skeleton().ends_with(&["quiet", "end mark", "done"]));
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(!alive("sleep 30071") && !alive("sleep 30072"));
    }
}

#[test]
fn a_killed_agent_ends_the_stream_and_the_package() {
    for (n, (by, kind)) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))).enumerate() {
        let sleep = format!("sleep 40{n}");
        let mut agent = Scan::new(kind, by).phase("wait", &sleep).begin();
        agent.until_go();
        eventually(|| alive(&sleep));
        agent.kill();
        while agent.next().is_some() {}
        eventually(|| !alive(&sleep));
    }
}

#[test]
fn a_killed_watcher_is_a_lost_sensor_and_ends_the_package() {
    for (n, (by, kind)) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))).enumerate() {
        let sleep = format!("sleep 70{n}");
        let mut agent = Scan::new(kind, by).phase("wait", &sleep).begin();
        agent.until_go();
        eventually(|| alive(&sleep));
        kill(only_child(only_child(agent.child.id())));
        let said = agent.finish();
        assert_eq!(said.gaps(), [(gap::Kind::SensorLost, "the watcher died")]);
        assert!(!said.skeleton().contains(&"quiet") && !said.skeleton().contains(&"end mark"));
        eventually(|| !alive(&sleep));
    }
}

#[test]
fn a_killed_supervisor_ends_the_stream_and_the_package() {
    for (n, (by, kind)) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))).enumerate() {
        let sleep = format!("sleep 80{n}");
        let mut agent = Scan::new(kind, by).phase("wait", &sleep).begin();
        agent.until_go();
        eventually(|| alive(&sleep));
        kill(only_child(agent.child.id()));
        assert!(!agent.finish().skeleton().contains(&"done"));
        eventually(|| !alive(&sleep));
    }
}

#[test]
fn a_host_that_goes_away_ends_the_package() {
    for (n, (by, kind)) in everyone().into_iter().flat_map(|by| KINDS.map(|kind| (by, kind))).enumerate() {
        let sleep = format!("sleep 50{n}");
        let mut agent = Scan::new(kind, by).phase("wait", &sleep).begin();
        agent.until_go();
        eventually(|| alive(&sleep));
        agent.stream.shutdown(std::net::Shutdown::Both).unwrap();
        eventually(|| !alive(&sleep));
        assert!(agent.child.wait().unwrap().code().is_some());
    }
}

#[test]
fn a_cancelled_scan_ends_without_being_done() {
    let mut agent = Scan::new(Isolation::Namespaces, By::Ordinary).phase("wait", "sleep 600").begin();
    agent.until_go();
    agent.until(|body| matches!(body, Body::PhaseStarted(_)));
    agent.send(host_message::Body::Cancel(proto::Cancel { reason: "test".into() }));
    while let Some(body) = agent.next() {
        assert!(!matches!(body, Body::Done(_)));
    }
    eventually(|| !alive("sleep 600"));
}

#[test]
fn an_unwatched_run_says_so() {
    let said = Scan::new(Isolation::Namespaces, By::Ordinary)
        .with(|start| start.unwatched = true)
        .phase("one", "true")
        .run();
    assert_eq!(said.gaps()[0].0, gap::Kind::SensorLost);
    assert!(said.gaps()[0].1.contains("switched off"));
    assert!(!said.skeleton().contains(&"start mark") && !said.skeleton().contains(&"end mark"));
    assert_eq!(said.ended("one").exit_code, Some(0));
}

#[test]
fn what_cannot_start_is_refused_with_a_sentence() {
    let refusal = |change: &dyn Fn(&mut proto::Start)| {
        let said = Scan::new(Isolation::Namespaces, By::Ordinary).phase("one", "true").with(change).run();
        said.refusal().to_owned()
    };
    let zero = refusal(&|start| start.limits.as_mut().unwrap().memory_bytes = 0);
    assert_eq!(zero, "the limit memory_bytes is zero: every limit must be set");
    let gone = refusal(&|start| start.work_dir = "/no/such/folder".into());
    assert!(
        gone.starts_with("the sandbox could not mount a tmpfs on /no/such/folder: No such file"),
        "{gone}"
    );
    let source = refusal(&|start| start.source_path = "/no/such.tgz".into());
    assert!(
        source.starts_with("the sandbox could not open the source /no/such.tgz: No such file"),
        "{source}"
    );
    let not_a_tar = refusal(&|start| start.source_path = "/etc/hosts".into());
    assert!(not_a_tar.starts_with("the project could not be unpacked: "), "{not_a_tar}");
    let tool = refusal(&|start| start.toolchain_dirs = vec!["/no/such/tool".into()]);
    assert!(tool.starts_with("the sandbox could not bind /no/such/tool: No such file"), "{tool}");
    let proxy = refusal(&|start| start.proxy_socket = "/etc/hosts".into());
    assert!(proxy.starts_with("the sandbox could not open the proxy's socket /etc/hosts: "), "{proxy}");
}

#[test]
fn a_stream_that_does_not_begin_with_a_start_is_refused() {
    let scan = Scan::new(Isolation::Namespaces, By::Ordinary);
    let mut agent = scan.begin_with(host_message::Body::Go(proto::Go {}));
    let Some(Body::Refused(refused)) = agent.next() else { panic!("not refused") };
    assert_eq!(refused.reason, "the host's first message is not a start message");
    assert!(agent.next().is_none());
}

/// Whether a process with this command line lives anywhere on this machine.
fn alive(command: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let wanted = format!("{}\0", command.replace(' ', "\0"));
    lines.into_iter().any(|line| line == wanted.as_bytes())
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come true within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn only_child(parent: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("{parent} has not one child but {children:?}"))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
