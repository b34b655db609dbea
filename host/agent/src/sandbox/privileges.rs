//! Leaving every privilege: user, groups, capabilities, and the ways to get them back.

use std::io;

use rustix::process::{DumpableBehavior, Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{SandboxError, step};

/// Who to be from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Become {
    /// This process is an ordinary user already.
    Oneself,
    User(u32),
}

/// Leaves all privileges for good. What this process starts can have no more than it.
pub(crate) fn drop_all(who: Become) -> Result<(), SandboxError> {
    // Needs a capability itself; without one the sets that remain are empty anyway.
    forget_bounding_set();
    if let Become::User(id) = who {
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::thread::set_thread_groups(&[]).map_err(step("leave all groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("change the group"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("change the user"))?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(step("drop capabilities"))?;
    rustix::thread::clear_ambient_capability_set().map_err(step("drop ambient capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    hide()
}

/// Closes this process's memory, environment and descriptors to others of the same user.
pub(crate) fn hide() -> Result<(), SandboxError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("become non-dumpable"))
}

/// Ends this process when its parent ends. The kernel forgets it when the user changes: ask again afterwards.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn forget_bounding_set() {
    // Capabilities are numbered without holes, and a kernel refuses numbers that it does not know.
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes numbers and no pointer.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}
