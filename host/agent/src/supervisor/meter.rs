//! Keeps the limits of the whole scan: time, memory, processes, CPU time and disk, counted ten times a second.
//!
//! Without root there is no cgroup to do it. What hits a limit is killed here and at once, again and again until the
//! flow says that all are gone; the flow only hears of it. One limit is reported, the first.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lanner_proto::agent::Limits;
use rustix::process::Pid;

use super::event::Event;
use super::held::{Held, detached, held};
use super::watcher::Watcher;
use crate::process::{self, Process};
use crate::sandbox::{Disk, THREADS_PER_PROCESS, Usage};
use crate::watch::{self, Order};

const TICK: Duration = Duration::from_millis(100);
/// What takes long to measure is measured at most this often, and at most for this part of the time.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_SHARE: u32 = 20;

#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    disk: Disk,
    watcher: Pid,
    orders: Arc<OwnedFd>,
    events: mpsc::Sender<Event>,
    running: Arc<AtomicBool>,
}

/// A count at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    elapsed: Duration,
    memory: u64,
    processes: u64,
    threads: u64,
    cpu_ticks: u64,
    disk: Usage,
}

impl Meter {
    pub(super) fn new(limits: Limits, disk: Disk, watcher: &Watcher, events: mpsc::Sender<Event>) -> Self {
        let (watcher, orders) = (watcher.pid, Arc::clone(&watcher.socket));
        Self { limits, disk, watcher, orders, events, running: Arc::default() }
    }

    /// Begins to count: the clock starts now.
    pub(super) fn start(&self) -> std::io::Result<()> {
        self.running.store(true, Ordering::SeqCst);
        let (limits, disk, watcher) = (self.limits, self.disk.clone(), self.watcher.as_raw_nonzero().get());
        let (events, running) = (self.events.clone(), Arc::clone(&self.running));
        let orders = Arc::clone(&self.orders);
        let hit = move |what| {
            let _ = events.send(Event::Limit(what));
            // One that cannot be told is dead, and noticed elsewhere.
            let _ = watch::send_order(orders.as_fd(), &Order::End { grace_ms: 0 });
        };
        let count = move || measure(&limits, disk, watcher, hit, &running);
        thread::Builder::new().name("meter".into()).spawn(count).map(drop)
    }

    /// No process of the package is left: nothing more to count or to kill.
    pub(super) fn stop(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    pub(super) fn wall(&self) -> Duration {
        Duration::from_millis(self.limits.wall_ms)
    }
}

fn measure(limits: &Limits, disk: Disk, watcher: i32, hit: impl Fn(String), running: &AtomicBool) {
    let started = Instant::now();
    let mut slow = Slow::new(disk);
    let mut over = false;
    while running.load(Ordering::SeqCst) {
        if over {
            kill(watcher);
        } else {
            let count = count(limits, watcher, &mut slow, started.elapsed());
            if let Some(limit) = exceeded(limits, slow.disk.limit(), ticks_per_second(), &count) {
                over = true;
                kill(watcher);
                hit(limit);
            }
        }
        thread::sleep(TICK);
    }
}

fn kill(watcher: i32) {
    if rustix::process::getpid().is_init() {
        process::kill_descendants_held(watcher);
    } else {
        process::kill_descendants(watcher);
    }
}

/// The disk, and what is held without being anywhere. Measured as often as that is cheap.
struct Slow {
    disk: Disk,
    usage: Usage,
    held: Held,
    next: Instant,
}

impl Slow {
    fn new(disk: Disk) -> Self {
        Self { disk, usage: Usage::default(), held: Held::default(), next: Instant::now() }
    }

    fn measure(&mut self, processes: &[Process]) {
        // Where the kernel counts, asking is cheap.
        if self.disk.is_memory() {
            self.usage = self.disk.measure();
        }
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.held = held(processes.iter().map(|process| process.pid), self.disk.device());
        if self.disk.is_memory() {
            self.held.memory = self.held.memory.saturating_add(detached());
        } else {
            self.usage = self.disk.measure();
            self.usage.bytes = self.usage.bytes.saturating_add(self.held.disk);
            self.usage.full |= self.usage.bytes > self.disk.limit();
        }
        let cost = now.elapsed();
        self.next = now + cost + SLOW.max(cost * SLOW_SHARE);
    }

    /// Bytes that are memory.
    fn memory(&self) -> u64 {
        let written = if self.disk.is_memory() { self.usage.bytes } else { 0 };
        written.saturating_add(self.held.memory)
    }
}

fn count(limits: &Limits, watcher: i32, slow: &mut Slow, elapsed: Duration) -> Count {
    let all = process::descendants(watcher);
    let processes = u64::try_from(all.len()).unwrap_or(u64::MAX);
    if processes > limits.processes.into() {
        // Everything else would take time, and a fork bomb needs none.
        return Count { elapsed, processes, ..Count::default() };
    }
    slow.measure(&all);
    // The watcher reaps what has no parent, so the time of all that ended is in its own account.
    let reaped = Process::read(watcher).map_or(0, |process| process.reaped_ticks);
    let sum = |value: fn(&Process) -> u64| all.iter().map(value).fold(0, u64::saturating_add);
    Count {
        elapsed,
        memory: sum(|process| process::memory(process.pid)).saturating_add(slow.memory()),
        processes,
        threads: sum(|process| process.threads),
        cpu_ticks: sum(|process| process.ticks.saturating_add(process.reaped_ticks)).saturating_add(reaped),
        disk: slow.usage,
    }
}

/// The first limit that a count exceeds, as the text of a gap.
fn exceeded(limits: &Limits, disk_limit: u64, ticks: u64, count: &Count) -> Option<String> {
    const MIB: u64 = 1024 * 1024;
    let processes = u64::from(limits.processes);
    if count.elapsed > Duration::from_millis(limits.wall_ms) {
        return Some(format!("time: the installation took more than {} ms", limits.wall_ms));
    }
    if count.memory > limits.memory_bytes {
        return Some(format!(
            "memory: more than {} MiB in processes and written files",
            limits.memory_bytes / MIB
        ));
    }
    if count.processes > processes || count.threads > processes.saturating_mul(THREADS_PER_PROCESS) {
        return Some(format!("processes: more than {processes} at a time"));
    }
    if count.cpu_ticks > limits.cpu_seconds.saturating_mul(ticks) {
        return Some(format!("CPU time: more than {} s", limits.cpu_seconds));
    }
    if count.disk.full {
        return Some(format!("disk: the {} MiB for written files are full", disk_limit / MIB));
    }
    None
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        wall_ms: 1000,
        cpu_seconds: 10,
        memory_bytes: 64 * 1024 * 1024,
        disk_bytes: 1024 * 1024,
        processes: 4,
        open_files: 1,
        alerts: 1,
    };

    #[test]
    fn within_the_limits_nothing_is_said() {
        let count = Count {
            processes: 4,
            threads: 64,
            memory: LIMITS.memory_bytes,
            cpu_ticks: 1000,
            ..Count::default()
        };
        assert_eq!(exceeded(&LIMITS, LIMITS.disk_bytes, 100, &count), None);
    }

    #[test]
    fn each_limit_is_named() {
        let full = Usage { bytes: 0, full: true };
        let counts = [
            (Count { elapsed: Duration::from_millis(1001), ..Count::default() }, "time: "),
            (Count { memory: LIMITS.memory_bytes + 1, ..Count::default() }, "memory: more than 64 MiB"),
            (Count { processes: 5, ..Count::default() }, "processes: more than 4"),
            (Count { threads: 65, ..Count::default() }, "processes: more than 4"),
            (Count { cpu_ticks: 1001, ..Count::default() }, "CPU time: more than 10 s"),
            (Count { disk: full, ..Count::default() }, "disk: the 1 MiB"),
        ];
        for (count, text) in counts {
            let found = exceeded(&LIMITS, LIMITS.disk_bytes, 100, &count).unwrap();
            assert!(found.starts_with(text), "{found}");
        }
    }
}
