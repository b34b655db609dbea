//! Starting the watcher: a child with the package's walls around it and none of the supervisor's descriptors.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use lanner_rules::RuleSet;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::fork::{self, Side};
use crate::process::claim_everyone;
use crate::sandbox::{Confinement, Plan, Sandbox, die_with_parent};
use crate::watch::{self, WatcherSetup};

/// The watcher, as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) pid: Pid,
    /// Orders go in, reports come out, one a packet.
    pub(super) socket: Arc<OwnedFd>,
}

impl Watcher {
    /// Forks the watcher; also returns the end of the pipe that the phases print into.
    pub(super) fn start(plan: &Plan, sandbox: &mut Sandbox, rules: RuleSet) -> io::Result<(Self, OwnedFd)> {
        let (ours, orders) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (output, printed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let setup = WatcherSetup {
            rules,
            home: sandbox.home.clone(),
            project: sandbox.project.clone(),
            tmp: sandbox.tmp.clone(),
            project_name: plan.project_name.clone(),
            package_roots: plan.package_roots.clone(),
            decoys: sandbox.decoys.clone(),
            lanner_exe: sandbox.program.clone(),
            isolation: plan.isolation,
            supervisor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            proxy_port: sandbox.way_out.as_ref().map(|way_out| way_out.port),
            dns: sandbox.dns.take(),
            output: printed,
            max_alerts: plan.limits.alerts,
            unwatched: plan.unwatched,
        };
        match fork::fork()? {
            Side::Child => fork::exit(live(setup, orders, &sandbox.confinement)),
            Side::Parent(pid) => Ok((Self { pid, socket: Arc::new(ours) }, output)),
        }
    }

    /// Ends it at once; the calls that wait for it fail.
    pub(super) fn kill(&self) {
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}

/// The watcher's life. Its exit code tells only a debugger more than its silence tells the supervisor.
fn live(setup: WatcherSetup, orders: OwnedFd, confinement: &Confinement) -> i32 {
    let dns = setup.dns.as_ref().map(AsRawFd::as_raw_fd);
    let keep = [Some(setup.output.as_raw_fd()), Some(orders.as_raw_fd()), dns, confinement.descriptor()];
    let ready = die_with_parent()
        .and_then(|()| Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?))
        .and_then(|()| confinement.confine_watcher())
        .and_then(|()| close_others(keep.into_iter().flatten().chain(0..=2).collect()));
    if ready.is_err() {
        return 1;
    }
    if confinement.watcher_is_alone() {
        claim_everyone();
    }
    match watch::run(setup, orders, &|| confinement.confine_package()) {
        Ok(()) => 0,
        Err(_) => 2,
    }
}

/// Closes every descriptor but these. What is opened on the package's behalf must not find the host's stream.
fn close_others(mut keep: Vec<RawFd>) -> io::Result<()> {
    keep.sort_unstable();
    let mut first: u32 = 0;
    for fd in keep {
        let fd = u32::try_from(fd).map_err(io::Error::other)?;
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: this process never uses or drops what it inherited beside the descriptors that are kept: it ends by
    // `_exit`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
