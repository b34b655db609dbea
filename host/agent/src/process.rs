//! Processes as `/proc` shows them: who descends from whom, what they use, and how to end them all.
//!
//! The package chose the names in these files, so nothing here parses a name; `stat` is read from its last
//! parenthesis on. A process may be gone at any moment: what cannot be read is skipped, and the caller comes back.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// `Z`: only its exit status is left.
    pub(crate) state: u8,
    /// Clock ticks: of itself, and of the children that it has reaped.
    pub(crate) ticks: u64,
    pub(crate) reaped_ticks: u64,
    pub(crate) threads: u64,
    /// With the pid it names a process, not just a number that may be used again.
    pub(crate) started: u64,
}

impl Process {
    pub(crate) fn read(pid: i32) -> Option<Self> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// Everything that descends from `root`, without `root` itself.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    descendants_of(root, all())
}

/// Set in a process whose signal to everyone reaches only its own descendants: see [`claim_everyone`].
static EVERYONE_IS_OURS: AtomicBool = AtomicBool::new(false);

/// Says that everyone whom this process can signal descends from it. From then on it kills them all in one call,
/// which no fork bomb outruns; looking for them one by one takes longer than a bomb needs to fork.
pub(crate) fn claim_everyone() {
    EVERYONE_IS_OURS.store(true, Ordering::SeqCst);
}

/// Kills every descendant of `root` that lives now.
pub(crate) fn kill_descendants(root: i32) {
    if EVERYONE_IS_OURS.load(Ordering::SeqCst) && root == own() {
        signal_everyone(Signal::KILL);
        return;
    }
    for process in descendants(root).iter().filter(|process| process.state != b'Z') {
        kill(process);
    }
}

/// The same from the first process of a pid namespace, which can hold all others still meanwhile. `root` goes on
/// afterwards.
pub(crate) fn kill_descendants_held(root: i32) {
    signal_everyone(Signal::STOP);
    kill_descendants(root);
    if let Some(root) = Pid::from_raw(root) {
        // It may be gone: then it needs no going on.
        let _ = rustix::process::kill_process(root, Signal::CONT);
    }
}

/// Signals every process that this one may signal, but itself and the first of the namespace.
fn signal_everyone(signal: Signal) {
    // SAFETY: kill takes two numbers. That -1 reaches nobody else is what both callers make sure of.
    unsafe { libc::kill(-1, signal.as_raw()) };
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Pages of memory that are this process's own or shared memory: what its going would give back at most.
pub(crate) fn memory(pid: i32) -> u64 {
    let Ok(status) = fs::read(format!("/proc/{pid}/status")) else { return 0 };
    let value = |key: &[u8]| {
        let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(key))?;
        str::from_utf8(line).ok()?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    // After the name, which the package chose and in which the kernel escapes line ends.
    let kilobytes =
        value(b"RssAnon:").unwrap_or(0) + value(b"RssShmem:").unwrap_or(0) + value(b"VmSwap:").unwrap_or(0);
    kilobytes.saturating_mul(1024)
}

/// Kills this very process: a pid alone may meanwhile be another's, in a shared namespace even a stranger's.
fn kill(process: &Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if Process::read(process.pid).is_some_and(|now| now.started == process.started) {
        // It may have ended by itself in between; then there is nothing to do.
        let _ = pidfd_send_signal(&handle, Signal::KILL);
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir(Path::new("/proc")) else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

fn descendants_of(root: i32, processes: Vec<Process>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut seen, mut next) = (Vec::new(), HashSet::from([root]), vec![root]);
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            if seen.insert(process.pid) {
                next.push(process.pid);
                found.push(process);
            }
        }
    }
    found
}

fn parse_stat(stat: &[u8]) -> Option<Process> {
    let pid = str::from_utf8(stat.split(|&b| b == b' ').next()?).ok()?.parse().ok()?;
    let end_of_name = stat.iter().rposition(|&b| b == b')')?;
    let fields: Vec<&str> =
        str::from_utf8(stat.get(end_of_name + 1..)?).ok()?.split_ascii_whitespace().collect();
    // Field 3 of proc(5), the state, is the first after the name.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        state: *fields.first()?.as_bytes().first()?,
        ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
        threads: number(20)?,
        started: number(22)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &[u8] = b"42 (a) S 7 (x) R 1 42 42 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 3 0 99 1 1";

    #[test]
    fn a_name_cannot_forge_the_other_fields() {
        let line = b"42 (a) S 7 (x) R 1 42 42 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 3 0 99 1 1";
        let process = parse_stat(line).unwrap();
        let expected =
            Process { pid: 42, parent: 1, state: b'R', ticks: 11, reaped_ticks: 15, threads: 3, started: 99 };
        assert_eq!(process, expected);
    }

    #[test]
    fn descendants_are_found_in_any_order_and_cycles_end() {
        let process = |pid, parent| Process { pid, parent, ..parse_stat(STAT).unwrap() };
        let all =
            vec![process(4, 3), process(3, 2), process(2, 1), process(9, 8), process(5, 6), process(6, 5)];
        let mut pids: Vec<_> = descendants_of(2, all).iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
    }

    #[test]
    fn this_process_uses_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(memory(pid) > 0);
        assert!(Process::read(pid).unwrap().threads > 0);
    }

    proptest! {
        #[test]
        fn no_stat_line_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&bytes);
        }
    }
}
