//! What is done to each of the package's processes before its first instruction: limits, then the inner domain.
//!
//! Runs in a child of the watcher between fork and exec. Whatever was made for it was made before.

use std::io;
use std::os::fd::RawFd;

use lanner_core::Isolation;
use rustix::process::{Resource, Rlimit};

use super::fence::Fence;
use super::plan::Plan;

/// More threads than this are not made between two counts. Where the kernel's limit is hit first, a fork bomb
/// collapses by itself before it is counted, and nothing is reported.
const BURST: u64 = 4096;
/// A process of a package manager's run-time has a dozen threads.
pub(crate) const THREADS_PER_PROCESS: u64 = 16;

/// Limits and fence, ready to be applied.
#[derive(Debug)]
pub(crate) struct Confinement {
    isolation: Isolation,
    limits: Vec<(Resource, u64)>,
    fence: Fence,
}

/// The kernel's limits per process. Those of the whole scan are counted by the supervisor; these only keep a burst
/// between two counts from doing harm, so they leave room where counting should come first. `others` are the threads
/// of the same user that have nothing to do with the scan.
pub(super) fn limits(plan: &Plan, others: u64) -> Vec<(Resource, u64)> {
    let limits = &plan.limits;
    let threads = u64::from(limits.processes).saturating_mul(THREADS_PER_PROCESS).saturating_add(BURST);
    vec![
        (Resource::Core, 0),
        (Resource::Cpu, limits.cpu_seconds.saturating_add(2)),
        (Resource::Fsize, limits.disk_bytes),
        (Resource::Nofile, limits.open_files.into()),
        (Resource::Nproc, threads.saturating_add(others)),
        (Resource::Memlock, 8 * 1024 * 1024),
        (Resource::Msgqueue, 64 * 1024),
        (Resource::Sigpending, 4096),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
    ]
}

impl Confinement {
    pub(super) fn new(isolation: Isolation, limits: Vec<(Resource, u64)>, fence: Fence) -> Self {
        Self { isolation, limits, fence }
    }

    /// Confines this process as the watcher. Its own limits stay: it must not run out when the package does.
    pub(crate) fn confine_watcher(&self) -> io::Result<()> {
        self.fence.enter_outer()
    }

    /// Confines this process as one of the package's.
    pub(crate) fn confine_package(&self) -> io::Result<()> {
        for &(resource, limit) in &self.limits {
            // A limit may only be lowered.
            let hard = rustix::process::getrlimit(resource).maximum.map_or(limit, |hard| hard.min(limit));
            rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?;
        }
        default_signals()?;
        rustix::thread::set_no_new_privs(true)?;
        self.fence.enter_inner()
    }

    /// Whether a signal that the watcher sends to everyone reaches nobody but the package: the pid namespace or the
    /// watcher's domain holds nobody else.
    pub(crate) fn watcher_is_alone(&self) -> bool {
        self.isolation == Isolation::Namespaces || self.fence.scopes_signals()
    }

    pub(crate) fn landlock_abi(&self) -> u32 {
        self.fence.abi()
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.fence.descriptor()
    }
}

/// What a program expects at its start: nothing blocked and nothing ignored. Rust programs, such as this one, ignore
/// broken pipes, and children inherit that.
fn default_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGSYS {
        // SAFETY: SIG_DFL is a disposition and no pointer. The two signals that have no other are refused; as wanted.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigemptyset makes the zeroed set a valid one before it is read; no old set is asked for.
    let unblocked = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if unblocked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
