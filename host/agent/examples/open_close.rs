//! What watching costs an open and a close: the same loop run bare and under the watcher, in one run on one machine.
//!
//! Prints `bench sensor_open bare_us=… watched_us=… ratio=…`. The rules are our own, so that judging is part of the price.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so and stops")]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use lanner_agent::watch::{self, Order, Report, Role, WatcherSetup};
use lanner_core::Isolation;
use lanner_rules::{LANNER_RULES, RuleSet, Source};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const TIMES: u32 = 200_000;
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, verb, path] = arguments.as_slice()
        && verb == "loop"
    {
        return open_and_close(path);
    }
    let mut bare: Vec<_> = Vec::new();
    let mut watched: Vec<_> = Vec::new();
    // In turn, so that a busy moment of the machine meets both.
    for _ in 0..ROUNDS {
        bare.push(microseconds(true));
        watched.push(microseconds(false));
    }
    let (bare, watched) = (median(bare), median(watched));
    println!("bench sensor_open bare_us={bare:.2} watched_us={watched:.2} ratio={:.2}", watched / bare);
}

/// The package: says how long one open and close took.
fn open_and_close(path: &str) {
    let begun = Instant::now();
    for _ in 0..TIMES {
        drop(File::open(path).unwrap());
    }
    println!("{}", begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap()
}

/// Runs the loop below a watcher of its own, with or without the filter.
fn microseconds(unwatched: bool) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let path = folder.path().join("file");
    File::create(&path).unwrap();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (read, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let source = Source { name: "lanner_rules.yaml", text: LANNER_RULES };
    let setup = WatcherSetup {
        rules: RuleSet::compile(&[source], &watch::known_field).unwrap(),
        home: folder.path().into(),
        project: folder.path().into(),
        tmp: folder.path().into(),
        project_name: "bench".into(),
        package_roots: vec!["node_modules".into()],
        decoys: Vec::new(),
        lanner_exe: own.clone(),
        isolation: Isolation::Namespaces,
        supervisor_pid: i32::try_from(std::process::id()).unwrap(),
        proxy_port: None,
        dns: None,
        output,
        max_alerts: 100,
        unwatched,
    };
    watcher(setup, theirs, &ours);
    let argv = [own.to_str().unwrap(), "loop", path.to_str().unwrap()].map(String::from).to_vec();
    let launch = Order::Launch { role: Role::Phase, argv, env: Vec::new(), cwd: folder.path().into() };
    watch::send_order(ours.as_fd(), &launch).unwrap();
    while !matches!(watch::recv_report(ours.as_fd()).unwrap().unwrap(), Report::LeaderExited { .. }) {}
    watch::send_order(ours.as_fd(), &Order::Stop).unwrap();
    let mut said = String::new();
    File::from(read).read_to_string(&mut said).unwrap();
    // The watcher has ended, or its end of the pipe would still be open.
    let _ = rustix::process::wait(rustix::process::WaitOptions::empty());
    said.trim().parse().unwrap()
}

fn watcher(setup: WatcherSetup, orders: OwnedFd, other_end: &OwnedFd) {
    // SAFETY: this process has no other thread.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: the child has the other end too, and must not keep it open; it is used nowhere after this.
            unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(other_end)) };
            let failed = watch::run(setup, orders, &|| Ok(())).is_err();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        pid => assert!(pid > 0, "no process for the watcher"),
    }
}
