//! W, the watcher: is asked by the kernel before each watched call of the package, lets it go on, does it in the
//! package's stead, or refuses it, and judges what it saw by the rules.
//!
//! One thread, one loop ([`run`]): orders from the supervisor, notifications from the kernel, the end of children, name
//! queries. Calls are answered first and judged afterwards, so that a rule costs the package no time; the loop takes no
//! new call before the last one is judged, so nothing piles up and nothing is lost. It knows no host, no nonce ahead
//! of its time and no secret; the package's processes are its descendants, and it reaps them all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lanner_core::Isolation;
use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{self, gap};
use lanner_rules::{FieldName, RuleSet};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;

mod alerts;
mod bpf;
mod calls;
mod dns;
mod event;
mod exec;
mod files;
mod handle;
mod launch;
mod memory;
mod names;
mod net;
mod process;
mod resolve;
mod sockets;
mod sys;
mod table;
mod wire;

pub use wire::{recv_report, send_order};

use alerts::Judge;
use event::{CallEvent, Field, Known, Subject};
use launch::Command;
use net::Sockets;
use process::{Places, Process};
use resolve::Guarded;
use sys::Notification;
use table::Table;

/// Everything that the watcher needs; paths are as seen inside the sandbox.
pub struct WatcherSetup {
    pub rules: RuleSet,
    pub home: PathBuf,
    pub project: PathBuf,
    pub tmp: PathBuf,
    pub project_name: String,
    pub package_roots: Vec<String>,
    /// They exist already.
    pub decoys: Vec<PathBuf>,
    /// The program whose exec with `mark HEX` is a mark, if we launched it as one.
    pub lanner_exe: PathBuf,
    pub isolation: Isolation,
    pub supervisor_pid: i32,
    /// The loopback port that leads to the way out.
    pub proxy_port: Option<u16>,
    /// A bound UDP socket that takes the sandbox's name queries.
    pub dns: Option<OwnedFd>,
    /// Where launched processes print.
    pub output: OwnedFd,
    pub max_alerts: u32,
    pub unwatched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Mark,
    Phase,
}

/// From the supervisor.
#[derive(Clone, Debug)]
pub enum Order {
    Launch {
        role: Role,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: PathBuf,
    },
    /// A connection to the way out asked for this host.
    ProxyRequest {
        peer_port: u16,
        host: String,
        port: u16,
        allowed: bool,
    },
    /// Waits for what still runs, then kills it.
    End {
        grace_ms: u64,
    },
    Stop,
}

/// To the supervisor.
#[derive(Clone, Debug)]
pub enum Report {
    Message(Body),
    Launched { pid: u32 },
    LeaderExited { exit_code: Option<i32>, signal: Option<i32> },
    AllGone { events: u64, processes: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the watcher cannot be set up")]
    Setup(#[source] io::Error),
    #[error("the watcher's loop failed")]
    Loop(#[source] io::Error),
}

/// Whether our events have this field.
pub fn known_field(field: &FieldName) -> bool {
    Field::parse(field).is_some()
}

/// Killing takes rounds, since what is killed may fork meanwhile; this many at the most.
const KILL_LIMIT: Duration = Duration::from_secs(20);
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const ENDING_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Runs until `Stop` or until the supervisor is gone. `restrict` runs in each child before its filter is installed.
pub fn run(
    setup: WatcherSetup,
    orders: OwnedFd,
    restrict: &dyn Fn() -> io::Result<()>,
) -> Result<(), WatchError> {
    sys::become_watcher().map_err(WatchError::Setup)?;
    let children = sys::child_signal().map_err(WatchError::Setup)?;
    let mut watcher = Watcher::new(setup, orders, restrict);
    watcher.serve(&children).map_err(WatchError::Loop)
}

struct Watcher<'r> {
    isolation: Isolation,
    lanner_exe: PathBuf,
    proxy_port: Option<u16>,
    dns: Option<OwnedFd>,
    output: OwnedFd,
    unwatched: bool,
    orders: OwnedFd,
    restrict: &'r dyn Fn() -> io::Result<()>,
    listeners: Vec<Rc<OwnedFd>>,
    judge: Judge,
    table: Table,
    sockets: Sockets,
    files: files::Files,
    known: Known,
    guarded: Guarded,
    leader: Option<Leader>,
    ending: Option<Ending>,
    events: u64,
    processes_before: u64,
}

struct Leader {
    pid: i32,
    role: Role,
    /// What a mark's exec must look like.
    argv: Vec<String>,
    marked: bool,
}

/// The supervisor asked for the end.
struct Ending {
    kill_from: Instant,
    give_up: Instant,
}

impl<'r> Watcher<'r> {
    fn new(setup: WatcherSetup, orders: OwnedFd, restrict: &'r dyn Fn() -> io::Result<()>) -> Self {
        let bytes = |p: &PathBuf| p.as_os_str().as_encoded_bytes().to_vec();
        let places = Places {
            project: bytes(&setup.project),
            project_name: setup.project_name.clone().into_bytes(),
            package_roots: setup.package_roots.iter().map(|r| r.clone().into_bytes()).collect(),
        };
        let known = Known {
            home: bytes(&setup.home),
            project: bytes(&setup.project),
            tmp: bytes(&setup.tmp),
            user: event_user(&setup),
            ..Known::default()
        };
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let judge = Judge::new(setup.rules, setup.max_alerts);
        Self {
            table: Table::new(places, judge.variables()),
            judge,
            sockets: Sockets::new(),
            files: files::Files::new(&setup.decoys),
            known,
            guarded: Guarded { pids: vec![own, setup.supervisor_pid] },
            listeners: Vec::new(),
            leader: None,
            ending: None,
            events: 0,
            processes_before: 0,
            isolation: setup.isolation,
            lanner_exe: setup.lanner_exe,
            proxy_port: setup.proxy_port,
            dns: setup.dns,
            output: setup.output,
            unwatched: setup.unwatched,
            orders,
            restrict,
        }
    }

    fn serve(&mut self, children: &OwnedFd) -> io::Result<()> {
        loop {
            let ready = self.wait(children)?;
            if ready.orders {
                match wire::receive_order(self.orders.as_fd())? {
                    None | Some(Order::Stop) => return Ok(()),
                    Some(order) => self.obey(order)?,
                }
            }
            for index in ready.listeners {
                self.take(index)?;
            }
            if ready.dns {
                self.name_query()?;
            }
            if ready.children {
                drain(children);
            }
            self.listeners_hung_up(ready.hung_up);
            if ready.children || self.ending.is_some() {
                self.reap()?;
            }
            self.flush(false)?;
        }
    }

    fn wait(&self, children: &OwnedFd) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.orders, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        let dns = self.dns.as_ref();
        fds.extend(dns.map(|d| PollFd::new(d, PollFlags::IN)));
        let first = fds.len();
        fds.extend(self.listeners.iter().map(|l| PollFd::new(&**l, PollFlags::IN)));
        let tick = if self.ending.is_some() { ENDING_TICK } else { TICK };
        match rustix::event::poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is = |at: usize, flag| fds.get(at).is_some_and(|f| f.revents().intersects(flag));
        let all = |flag| (first..fds.len()).filter(|at| is(*at, flag)).map(|at| at - first).collect();
        Ok(Ready {
            orders: is(0, PollFlags::IN | PollFlags::HUP),
            children: is(1, PollFlags::IN),
            dns: dns.is_some() && is(2, PollFlags::IN),
            listeners: all(PollFlags::IN),
            hung_up: all(PollFlags::HUP),
        })
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Launch { role, argv, env, cwd } => self.launch(role, argv, &env, cwd),
            Order::ProxyRequest { peer_port, host, port, allowed } => {
                self.proxy_request(peer_port, host, port, allowed)
            }
            Order::End { grace_ms } => {
                let kill_from = Instant::now() + Duration::from_millis(grace_ms.min(60_000));
                self.ending = Some(Ending { kill_from, give_up: kill_from + KILL_LIMIT });
                Ok(())
            }
            Order::Stop => Ok(()),
        }
    }

    fn launch(
        &mut self,
        role: Role,
        argv: Vec<String>,
        env: &[(String, String)],
        cwd: PathBuf,
    ) -> io::Result<()> {
        let launched = launch::launch(&Command {
            argv: &argv,
            env,
            cwd: &cwd,
            output: self.output.as_fd(),
            restrict: self.restrict,
            watched: !self.unwatched,
            isolation: self.isolation,
            ours: &self.guarded.pids,
        });
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                self.gap(
                    gap::Kind::Sandbox,
                    format!("{}: {error}", argv.first().map_or("", String::as_str)),
                )?;
                return self.report(Report::LeaderExited { exit_code: Some(127), signal: None });
            }
        };
        if let Some(listener) = launched.listener {
            sys::sync_wake_up(listener.as_fd());
            self.listeners.push(Rc::new(listener));
        } else if !self.unwatched {
            launch::kill(launched.pid);
        }
        self.table.launched(launched.pid);
        self.leader = Some(Leader { pid: launched.pid, role, argv, marked: false });
        self.report(Report::Launched { pid: launched.pid.unsigned_abs() })
    }

    /// Takes one held call: answers it, then judges it.
    fn take(&mut self, index: usize) -> io::Result<()> {
        let Some(listener) = self.listeners.get(index).cloned() else { return Ok(()) };
        if let Some(notification) = sys::receive(listener.as_fd())? {
            self.events += 1;
            // Known before it is let go: it may be gone right after.
            if notification.number != libc::SYS_prctl {
                self.table.of_thread(notification.tid);
                self.ran_otherwise()?;
            }
            self.handle(listener.as_fd(), &notification)?;
        }
        Ok(())
    }

    /// Judges a call by the rules, after it was answered.
    fn see(&mut self, kind: &str, tid: i32, subject: &Subject) -> io::Result<()> {
        if !self.judge.watches(kind) {
            return Ok(());
        }
        let process = self.table.of_thread(tid);
        self.see_of(kind, &process, subject)
    }

    fn see_of(&mut self, kind: &str, process: &Rc<Process>, subject: &Subject) -> io::Result<()> {
        let line = self.table.ancestry(process);
        self.known.time = now();
        self.known.number = self.events;
        let Self { judge, known, orders, .. } = self;
        let fields = judge.fields();
        let event = CallEvent { kind, fields: &fields, subject, line: &line, known };
        judge.judge(&event, &mut |body| wire::send_report(orders.as_fd(), Report::Message(body)))
    }

    fn flush(&mut self, all: bool) -> io::Result<()> {
        let Self { judge, orders, .. } = self;
        judge.flush(all, &mut |body| wire::send_report(orders.as_fd(), Report::Message(body)))
    }

    fn gap(&mut self, kind: gap::Kind, detail: String) -> io::Result<()> {
        self.report(Report::Message(Body::Gap(agent::Gap { kind: kind.into(), detail })))
    }

    fn report(&mut self, report: Report) -> io::Result<()> {
        wire::send_report(self.orders.as_fd(), report)
    }

    /// Takes the exit status of whoever has ended; tells of the leader, and of the end of all.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    if self.leader.as_ref().is_some_and(|l| l.pid == pid) {
                        self.leader = None;
                        self.table.leader_ended(pid);
                        let (exit_code, signal) = (status.exit_status(), status.terminating_signal());
                        self.flush(true)?;
                        self.report(Report::LeaderExited { exit_code, signal })?;
                    }
                }
                Ok(None) => break,
                Err(rustix::io::Errno::CHILD) => return self.all_gone(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(ending) = &self.ending else { return Ok(()) };
        let (now, kill_from, give_up) = (Instant::now(), ending.kill_from, ending.give_up);
        if now >= give_up {
            self.ending = None;
            return self.gap(gap::Kind::Limit, "processes that could not be ended".into());
        }
        if now >= kill_from {
            crate::process::kill_descendants(i32::try_from(std::process::id()).unwrap_or(0));
        }
        Ok(())
    }

    /// Nobody is left who could make a call; what the kernel still held is gone with its caller.
    fn all_gone(&mut self) -> io::Result<()> {
        if self.ending.take().is_none() {
            return Ok(());
        }
        self.listeners.clear();
        self.flush(true)?;
        let processes = self.table.seen() - self.processes_before;
        self.processes_before = self.table.seen();
        self.report(Report::AllGone { events: self.events, processes })
    }

    /// A listener without any process left is of no more use.
    fn listeners_hung_up(&mut self, mut hung_up: Vec<usize>) {
        hung_up.sort_unstable();
        for index in hung_up.into_iter().rev() {
            if index < self.listeners.len() {
                self.listeners.swap_remove(index);
            }
        }
    }
}

struct Ready {
    orders: bool,
    children: bool,
    dns: bool,
    listeners: Vec<usize>,
    hung_up: Vec<usize>,
}

fn drain(signals: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|n| n > 0) {}
}

fn event_user(setup: &WatcherSetup) -> String {
    setup.home.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The low half of an argument: what the kernel takes of an `int`.
fn low(argument: u64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel looks at these 32 bits alone")]
    let low = argument as u32;
    low.cast_signed()
}

/// Answers with an errno or lets the call go on.
fn refuse(listener: BorrowedFd<'_>, call: &Notification, errno: i32) {
    sys::answer(listener, call.id, Err(errno));
}
