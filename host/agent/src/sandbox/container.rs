//! Isolation by the container that the agent was started in, with Landlock instead of namespaces.
//!
//! The package shares user, pid and network namespace with the agent and whatever else runs here. What keeps it from
//! them: it may read only what tools need, write only three folders, connect only to the way out's port (kernel 6.7
//! and later; before, the watcher alone refuses), signal and trace only its own (kernel 6.12 and later). Landlock is
//! therefore not optional here.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::geteuid;

use super::environment::{self, Places};
use super::plan::Plan;
use super::privileges::{self, Become};
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
    let program = program()?;
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
        confinement: Confinement::new(confinement::limits(plan, threads_of_this_user()), fence),
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

/// The path that a mark executes. Landlock lets this one file through, not the folder that it lies in.
fn program() -> Result<PathBuf, SandboxError> {
    drop(super::root::own_program()?);
    fs::read_link("/proc/self/exe").map_err(step("find the agent's own program"))
}

/// Threads that count against this user's limit, as far as they can be seen from here.
fn threads_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else { return 1 };
    let owned = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == user));
    let pids = owned.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(crate::process::Process::read).map(|process| process.threads).sum::<u64>().max(1)
}
