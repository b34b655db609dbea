//! Isolation by the container that the agent was started in, with Landlock instead of namespaces.
//!
//! The package shares user, pid and network namespace with the agent and whatever else runs here. What keeps it from
//! them: it may read only what tools need, write only three folders, connect only to the way out's port (kernel 6.7
//! and later; before, the watcher alone refuses), signal and trace only its own (kernel 6.12 and later). Landlock is
//! therefore not optional here.

use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::geteuid;

use super::environment::{self, Places};
use super::plan::Plan;
use super::privileges::{self, Become};
use super::seed::Stream;
use super::{
    Confinement, Disk, LEAST_ABI, NOBODY, Sandbox, SandboxError, abi, confinement, fence, home, network, step,
};

/// What tools read of a machine. Not all of `/etc`: keys and passwords of services may lie there.
const READABLE: [&str; 38] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/localtime",
    "/etc/profile",
    "/etc/bash.bashrc",
];

/// A folder that stands in for the plan's work folder where that is out of the package's reach: root's folders are
/// often closed to all others, and the package must not be root. Whoever gets one removes it.
pub(crate) fn shelter(plan: &mut Plan) -> Result<Option<PathBuf>, SandboxError> {
    if plan.isolation != lanner_core::Isolation::Container || !geteuid().is_root() {
        return Ok(None);
    }
    if reachable(&plan.work_dir) {
        let open = fs::set_permissions(&plan.work_dir, fs::Permissions::from_mode(0o711));
        open.map_err(step(format!("open the folder {}", plan.work_dir.display())))?;
        return Ok(None);
    }
    let folder = Path::new("/tmp").join(Stream::new(&plan.seed, "shelter").hex(16));
    let made = DirBuilder::new().mode(0o700).create(&folder);
    made.and_then(|()| lchown(&folder, Some(NOBODY), Some(NOBODY)))
        .map_err(step(format!("make the folder {}", folder.display())))?;
    plan.work_dir.clone_from(&folder);
    Ok(Some(folder))
}

/// Whether any user can get to what lies in this folder's parents.
fn reachable(folder: &Path) -> bool {
    let open = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
    folder.ancestors().skip(1).all(open)
}

pub(super) fn enter(plan: &Plan, proxy: Option<OwnedFd>) -> Result<Sandbox, SandboxError> {
    if abi() < LEAST_ABI {
        return Err(SandboxError::NoLandlock(abi()));
    }
    let who = if geteuid().is_root() { Become::User(NOBODY) } else { Become::Oneself };
    let home = plan.work_dir.join("home").join(&plan.user);
    let tmp = plan.work_dir.join("tmp");
    for folder in [&home, &tmp] {
        home::folders(folder)?;
    }
    let furniture = home::furnish(&home, plan)?;
    if let Become::User(user) = who {
        home::give(&home, user)?;
        home::give(&tmp, user)?;
    }
    let way_out = proxy.map(network::way_out).transpose()?;
    let program = program(plan, who)?;
    privileges::drop_all(who)?;
    for folder in [&home, &tmp] {
        let usable = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK);
        usable.map_err(step(format!(
            "use {} as the package's user: choose a folder that it can reach",
            folder.display()
        )))?;
    }
    rustix::process::chdir(&home).map_err(step("enter the home"))?;
    let port = way_out.as_ref().map(|way_out| way_out.port);
    let fence = fence::container(readable(plan, &program), vec![home.clone(), tmp.clone()], port)?;
    let folders = vec![home.clone(), tmp.clone()];
    Ok(Sandbox {
        project: home.join(&furniture.project),
        decoys: furniture.decoys.iter().map(|path| home.join(path)).collect(),
        env: environment::variables(plan, Places { home: &home, tmp: &tmp, port }),
        confinement: Confinement::new(
            plan.isolation,
            confinement::limits(plan, threads_of_this_user()),
            fence,
        ),
        disk: Disk::Folders(folders, plan.limits.disk_bytes),
        dns: None,
        program,
        home,
        tmp,
        way_out,
    })
}

fn readable(plan: &Plan, program: &Path) -> Vec<PathBuf> {
    let fixed = READABLE.iter().map(PathBuf::from);
    fixed.chain(plan.toolchains.clone()).chain(plan.extra_files.clone()).chain([program.to_owned()]).collect()
}

/// The path that a mark executes. Landlock lets this one file through, not the folder that it lies in; a program that
/// the package's user cannot get to is copied.
fn program(plan: &Plan, who: Become) -> Result<PathBuf, SandboxError> {
    drop(super::root::own_program()?);
    let failed = || step("copy the agent's own program");
    let own = fs::read_link("/proc/self/exe").map_err(failed())?;
    let executable = fs::metadata(&own).is_ok_and(|found| found.mode() & 0o001 != 0);
    if who == Become::Oneself || (executable && reachable(&own)) {
        return Ok(own);
    }
    let copy = plan.work_dir.join(Stream::new(&plan.seed, "program").hex(16));
    fs::copy(&own, &copy).map_err(failed())?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(failed())?;
    Ok(copy)
}

/// Threads that count against this user's limit, as far as they can be seen from here.
fn threads_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else { return 1 };
    let owned = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == user));
    let pids = owned.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(crate::process::Process::read).map(|process| process.threads).sum::<u64>().max(1)
}
