//! Isolation by namespaces: user, mount, pid, network, ipc, uts and cgroup, with no privilege needed.
//!
//! The guard unshares; the supervisor, its child, is the first process of the new pid namespace and builds the rest.
//! Started by an ordinary user, that user is the only one inside. Started by root, the package is `nobody` outside:
//! root is mapped for the set-up alone, and left behind with it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::environment::{self, Places};
use super::plan::Plan;
use super::privileges::{self, Become};
use super::{
    Confinement, Disk, NOBODY, Sandbox, SandboxError, USER, confinement, fence, home, network, root, step,
};
use crate::fork::{self, Side};

const NEW: UnshareFlags = UnshareFlags::NEWUSER
    .union(UnshareFlags::NEWNS)
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// Who is whom across the border of the user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Maps {
    uid: String,
    gid: String,
    setgroups: bool,
}

/// Gives this process new namespaces; its next child is the first process in them.
pub(crate) fn unshare() -> Result<(), SandboxError> {
    let maps = Maps::new(geteuid().as_raw(), getegid().as_raw());
    let (ready, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(step("make a pipe"))?;
    let writer = match fork::fork().map_err(step("fork"))? {
        // Maps with more than one line can only be written from outside.
        Side::Child => {
            drop(go);
            fork::exit(write_maps(&maps, File::from(ready)))
        }
        Side::Parent(pid) => pid,
    };
    drop(ready);
    // SAFETY: without CLONE_FILES or CLONE_VM nothing that Rust code relies on is unshared.
    let unshared = unsafe { rustix::thread::unshare_unsafe(NEW) };
    if unshared.is_ok() {
        let _ = File::from(go).write_all(&[0]);
    } else {
        drop(go);
    }
    let mapped = fork::wait(writer).map_err(step("wait for the maps' writer"))?;
    unshared.map_err(|error| SandboxError::NamespacesForbidden("none can be made", error.into()))?;
    match mapped.exit_status() {
        Some(0) => Ok(()),
        code => {
            let error =
                code.map_or_else(|| io::Error::from(io::ErrorKind::Other), io::Error::from_raw_os_error);
            Err(SandboxError::NamespacesForbidden("its users cannot be mapped", error))
        }
    }
}

/// Builds the machine around this process, the first of the pid namespace.
pub(super) fn enter(plan: &Plan, proxy: Option<OwnedFd>, program: OwnedFd) -> Result<Sandbox, SandboxError> {
    let who = if geteuid().is_root() { Become::User(USER) } else { Become::Oneself };
    rustix::system::sethostname(plan.hostname.as_bytes()).map_err(step("set the host name"))?;
    network::loopback()?;
    let dns = network::dns()?;
    let way_out = proxy.map(network::way_out).transpose()?;
    let root = root::build(plan, &program)?;
    drop(program);
    root::enter()?;
    if let Become::User(user) = who {
        home::give(&root.home, user)?;
    }
    privileges::drop_all(who)?;
    let (home, tmp) = (root.home.clone(), PathBuf::from("/tmp"));
    let port = way_out.as_ref().map(|way_out| way_out.port);
    let fence = fence::namespaces(&root::writable(&root))?;
    Ok(Sandbox {
        project: home.join(&root.furniture.project),
        decoys: root.furniture.decoys.iter().map(|path| home.join(path)).collect(),
        env: environment::variables(plan, Places { home: &home, tmp: &tmp, port }),
        confinement: Confinement::new(plan.isolation, confinement::limits(plan, 0), fence),
        disk: Disk::Filesystem(home.clone(), plan.limits.disk_bytes),
        program: root.program,
        dns: Some(dns),
        home,
        tmp,
        way_out,
    })
}

impl Maps {
    fn new(uid: u32, gid: u32) -> Self {
        if uid == 0 {
            let both = format!("0 0 1\n{USER} {NOBODY} 1\n");
            return Self { uid: both.clone(), gid: both, setgroups: true };
        }
        // An ordinary user may map only itself, and only after giving up setgroups (user_namespaces(7)).
        Self { uid: format!("{USER} {uid} 1\n"), gid: format!("{USER} {gid} 1\n"), setgroups: false }
    }
}

/// In a child of the process that unshares: waits until it has, and returns 0 or an errno as exit code.
fn write_maps(maps: &Maps, mut ready: File) -> i32 {
    let Some(parent) = rustix::process::getppid() else { return libc::ESRCH };
    match ready.read(&mut [0]) {
        Ok(1) => {}
        Ok(_) => return 0,
        Err(error) => return error.raw_os_error().unwrap_or(libc::EIO),
    }
    match try_maps(parent, maps) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn try_maps(process: Pid, maps: &Maps) -> io::Result<()> {
    let folder = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    if !maps.setgroups {
        fs::write(folder.join("setgroups"), "deny")?;
    }
    fs::write(folder.join("gid_map"), &maps.gid)?;
    fs::write(folder.join("uid_map"), &maps.uid)
}

/// Whether this process may make what [`unshare`] makes: tried in a child.
pub(crate) fn possible() -> Result<(), SandboxError> {
    match fork::fork().map_err(step("fork"))? {
        Side::Child => fork::exit(match unshare().and_then(|()| try_mount()) {
            Ok(()) => 0,
            Err(SandboxError::NamespacesForbidden(_, error)) => error.raw_os_error().unwrap_or(libc::EPERM),
            Err(_) => libc::EPERM,
        }),
        Side::Parent(pid) => match fork::wait(pid).map_err(step("wait"))?.exit_status() {
            Some(0) => Ok(()),
            code => {
                let error = io::Error::from_raw_os_error(code.unwrap_or(libc::EPERM));
                Err(SandboxError::NamespacesForbidden("none can be made", error))
            }
        },
    }
}

fn try_mount() -> Result<(), SandboxError> {
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("make its mounts private"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_maps_only_itself() {
        let maps = Maps::new(501, 20);
        assert_eq!(maps, Maps { uid: "1000 501 1\n".into(), gid: "1000 20 1\n".into(), setgroups: false });
    }

    #[test]
    fn of_root_only_nobody_goes_to_the_package() {
        let maps = Maps::new(0, 0);
        assert_eq!(maps.uid, "0 0 1\n1000 65534 1\n");
        assert!(maps.setgroups);
    }
}
