//! What is done to each of the package's processes before its first instruction: limits, then the inner domain.
//!
//! Runs in a child of the watcher between fork and exec. Whatever was made for it was made before.

use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit};

use super::fence::Fence;
use super::plan::Plan;

/// Processes and threads of the supervisor and the watcher, which count for the same user.
const OWN_PROCESSES: u64 = 400;
/// Without a pid namespace, the user's other processes come and go beside those that we counted.
const OTHERS_SLACK: u64 = 1024;

/// Limits and fence, ready to be applied.
#[derive(Debug)]
pub(crate) struct Confinement {
    limits: Vec<(Resource, u64)>,
    fence: Fence,
}

/// The kernel's limits per process. Those of the whole scan are counted by the supervisor; these only keep a burst
/// between two counts from doing harm, so they leave room where counting should come first. `others` are the threads
/// of the same user that have nothing to do with the scan.
pub(super) fn limits(plan: &Plan, others: u64) -> Vec<(Resource, u64)> {
    let limits = &plan.limits;
    let slack = if others == 0 { 0 } else { OTHERS_SLACK };
    vec![
        (Resource::Core, 0),
        (Resource::Cpu, limits.cpu_seconds.saturating_add(2)),
        (Resource::Fsize, limits.disk_bytes),
        (Resource::Nofile, limits.open_files.into()),
        (Resource::Nproc, u64::from(limits.processes) + OWN_PROCESSES + others + slack),
        (Resource::Memlock, 8 * 1024 * 1024),
        (Resource::Msgqueue, 64 * 1024),
        (Resource::Sigpending, 4096),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
    ]
}

impl Confinement {
    pub(super) fn new(limits: Vec<(Resource, u64)>, fence: Fence) -> Self {
        Self { limits, fence }
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
        rustix::thread::set_no_new_privs(true)?;
        self.fence.enter_inner()
    }

    pub(crate) fn landlock_abi(&self) -> u32 {
        self.fence.abi()
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.fence.descriptor()
    }
}
