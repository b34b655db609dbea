//! The private root: a tmpfs of limited size with the machine's programs bound in read-only.
//!
//! Everything is made relative to the current folder, which is the root to be, until `enter` turns it into `/`. The
//! root itself is read-only then; home and temporary folders are mounts of their own on the same tmpfs, so one size
//! limits them all.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::home::{self, Home, folders, write};
use super::plan::Plan;
use super::seed::Stream;
use super::{SandboxError, etc, step};

/// Top folders that are links into `/usr` on some machines and folders on others.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Under these, everything that a tool could need is bound already, or is the sandbox's own.
const COVERED: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib64", "proc", "dev", "sys"];
const EMPTY: [&str; 12] = [
    "mnt",
    "media",
    "opt",
    "srv",
    "root",
    "sys",
    "run/lock",
    "var/cache",
    "var/lib",
    "var/log",
    "var/mail",
    "boot",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// The folders that the package may write, besides its home.
const SCRATCH: [&str; 3] = ["tmp", "var/tmp", "dev/shm"];
/// Files and folders of `/proc` that tell of the machine, or that could change it.
const HIDDEN: [&str; 9] =
    ["acpi", "kcore", "key-users", "keys", "kmsg", "latency_stats", "sched_debug", "scsi", "sysrq-trigger"];
const FIXED: [&str; 4] = ["bus", "fs", "irq", "sys"];

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const ATTR_NOEXEC: u64 = 8;

/// Where things are in the new root.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) home: PathBuf,
    pub(crate) furniture: Home,
    pub(crate) program: PathBuf,
}

/// The agent's own program, by a path that this mount namespace knows.
pub(crate) fn own_program() -> Result<OwnedFd, SandboxError> {
    let open = || {
        let path = fs::read_link("/proc/self/exe")?;
        let file = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let (running, found) = (fs::metadata("/proc/self/exe")?, rustix::fs::fstat(&file)?);
        if (running.dev(), running.ino()) == (found.st_dev, found.st_ino) {
            return Ok(file);
        }
        Err(io::Error::other("it was replaced while it ran: start it again"))
    };
    open().map_err(step("find the agent's own program"))
}

/// Makes the tree under `plan.work_dir` and makes that the current folder.
pub(crate) fn build(plan: &Plan, program: &OwnedFd) -> Result<Root, SandboxError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    // Where AppArmor restricts user namespaces, making one succeeds and this is the first step that does not.
    rustix::mount::mount_change("/", private).map_err(|error| {
        SandboxError::NamespacesForbidden("its mounts cannot be made private", error.into())
    })?;
    let inodes = (plan.limits.disk_bytes / 2048).clamp(16 * 1024, 2 * 1024 * 1024);
    let options = format!("size={},nr_inodes={inodes},mode=0755", plan.limits.disk_bytes);
    mount("tmpfs", &plan.work_dir, "tmpfs", SAFE, &options)?;
    rustix::process::chdir(&plan.work_dir).map_err(step("enter the new root"))?;
    for name in PROGRAMS {
        bind_program_folder(Path::new(name))?;
    }
    for folder in EMPTY.iter().chain(&SCRATCH) {
        folders(Path::new(folder))?;
    }
    for folder in SCRATCH {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))
            .map_err(step("open the temporary folders"))?;
    }
    symlink("/run", "var/run").map_err(step("link var/run"))?;
    etc::furnish(plan)?;
    let home = Path::new("home").join(&plan.user);
    folders(&home)?;
    let furniture = home::furnish(&home, plan)?;
    devices()?;
    for folder in SCRATCH.iter().map(Path::new).chain([home.as_path()]) {
        rustix::mount::mount_bind(folder, folder).map_err(step(format!("mount {}", folder.display())))?;
        restrict(folder, false, ATTR_NOSUID | ATTR_NODEV)?;
    }
    tools(plan)?;
    let program = bind_program(plan, program)?;
    processes()?;
    Ok(Root { home: Path::new("/").join(home), furniture, program })
}

/// Makes the current folder the root; what was there before is gone for good.
pub(crate) fn enter() -> Result<(), SandboxError> {
    rustix::process::pivot_root(".", ".").map_err(step("change the root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("leave the old root"))?;
    rustix::process::chdir("/").map_err(step("enter the new root"))?;
    restrict(Path::new("/"), false, ATTR_RDONLY)
}

/// The folders that the package may write, to be given to its user.
pub(crate) fn writable(root: &Root) -> Vec<PathBuf> {
    SCRATCH.iter().map(|folder| Path::new("/").join(folder)).chain([root.home.clone()]).collect()
}

/// Binds a folder and all that is mounted below it, read-only.
pub(crate) fn bind_read_only(source: &Path, at: &Path) -> Result<(), SandboxError> {
    folders(at)?;
    rustix::mount::mount_bind_recursive(source, at).map_err(step(format!("bind {}", source.display())))?;
    restrict(at, true, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
}

/// Copies a link of the machine's root as a link, or what is no link as a file.
pub(crate) fn copy_link(relative: &Path) -> Result<(), SandboxError> {
    let Ok(target) = fs::read_link(Path::new("/").join(relative)) else { return etc::copy(relative) };
    if let Some(parent) = relative.parent() {
        folders(parent)?;
    }
    symlink(target, relative).map_err(step(format!("link {}", relative.display())))
}

fn bind_program_folder(name: &Path) -> Result<(), SandboxError> {
    let source = Path::new("/").join(name);
    match fs::symlink_metadata(&source) {
        Ok(found) if found.is_symlink() => copy_link(name),
        Ok(found) if found.is_dir() => bind_read_only(&source, name),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Toolchains and single files, at the same path as outside.
fn tools(plan: &Plan) -> Result<(), SandboxError> {
    for tool in &plan.toolchains {
        let relative = tool.strip_prefix("/").unwrap_or(tool);
        if !covered(relative) {
            bind_read_only(tool, relative)?;
        }
    }
    for file in &plan.extra_files {
        let relative = file.strip_prefix("/").unwrap_or(file);
        if !covered(relative) {
            etc::copy(relative)?;
        }
    }
    Ok(())
}

fn covered(relative: &Path) -> bool {
    COVERED.iter().any(|top| relative.starts_with(top))
}

/// The agent's program, under a name of this scan's own.
fn bind_program(plan: &Plan, program: &OwnedFd) -> Result<PathBuf, SandboxError> {
    let at = Path::new("run").join(Stream::new(&plan.seed, "program").hex(16));
    write(&at, b"", 0o755)?;
    let source = format!("/proc/self/fd/{}", program.as_raw_fd());
    rustix::mount::mount_bind(source, &at).map_err(step("bind the agent's own program"))?;
    restrict(&at, false, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)?;
    Ok(Path::new("/").join(at))
}

fn devices() -> Result<(), SandboxError> {
    for device in DEVICES {
        let at = Path::new("dev").join(device);
        write(&at, b"", 0o666)?;
        let bound = rustix::mount::mount_bind(Path::new("/dev").join(device), &at);
        bound.map_err(step(format!("bind /dev/{device}")))?;
        restrict(&at, false, ATTR_NOSUID | ATTR_NOEXEC)?;
    }
    folders(Path::new("dev/pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", Path::new("dev/pts"), "devpts", flags, "newinstance,ptmxmode=0666,mode=0620")?;
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
    ];
    for (target, name) in links {
        symlink(target, Path::new("dev").join(name)).map_err(step(format!("link /dev/{name}")))?;
    }
    Ok(())
}

/// `/proc` of the new pid namespace, without what is the machine's.
fn processes() -> Result<(), SandboxError> {
    folders(Path::new("proc"))?;
    let flags = SAFE | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "proc", "proc", flags, None).map_err(|error| {
        SandboxError::NamespacesForbidden("a container's masked /proc allows no other", error.into())
    })?;
    // No namespace inside the namespace. A second lock: the sensor's filter refuses the calls as well.
    let _ = fs::write("proc/sys/user/max_user_namespaces", "0");
    for name in HIDDEN {
        hide(&Path::new("proc").join(name))?;
    }
    for name in FIXED {
        let at = Path::new("proc").join(name);
        if at.exists() {
            rustix::mount::mount_bind(&at, &at).map_err(step(format!("mount {}", at.display())))?;
            restrict(&at, false, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
        }
    }
    Ok(())
}

fn hide(at: &Path) -> Result<(), SandboxError> {
    let Ok(found) = fs::metadata(at) else { return Ok(()) };
    if found.is_dir() {
        return mount("tmpfs", at, "tmpfs", SAFE | MountFlags::RDONLY, "size=0,nr_inodes=2,mode=0555");
    }
    rustix::mount::mount_bind("dev/null", at).map_err(step(format!("hide {}", at.display())))?;
    restrict(at, false, ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC)
}

fn mount(source: &str, at: &Path, kind: &str, flags: MountFlags, options: &str) -> Result<(), SandboxError> {
    let options = std::ffi::CString::new(options).map_err(|e| step("mount")(io::Error::from(e)))?;
    let mounted = rustix::mount::mount(source, at, kind, flags, Some(options.as_c_str()));
    mounted.map_err(step(format!("mount a {kind} on {}", at.display())))
}

/// Adds attributes to a mount, to all below it as well when `deep`. Those that are there stay: a user namespace may
/// not take any away.
fn restrict(at: &Path, deep: bool, attributes: u64) -> Result<(), SandboxError> {
    set_attributes(CWD, at, deep, attributes).map_err(step(format!("restrict the mount {}", at.display())))
}

fn set_attributes(folder: BorrowedFd<'_>, at: &Path, deep: bool, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes())?;
    let flags = if deep { libc::AT_RECURSIVE } else { 0 };
    let (attributes, size) = (&raw const attributes, size_of::<libc::mount_attr>());
    // SAFETY: the path ends in NUL, and the structure has the size that is passed with it; the kernel reads both and
    // keeps neither.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, folder.as_raw_fd(), path.as_ptr(), flags, attributes, size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
