//! Landlock: the wall that the kernel keeps inside the sandbox.
//!
//! Two domains, one in the other. The watcher enters the outer one, so that it can open for the package no more than
//! the package may itself; the package's processes enter the inner one, which cannot reach out of itself by ptrace
//! or signals. The rules are made once, before the package exists: their paths are descriptors by then, and no link
//! that the package makes can move them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use super::SandboxError;

/// Before it no file could move between folders, which every package manager does.
pub(crate) const LEAST_ABI: u32 = 2;
/// The newest that we know the meaning of; the kernel's may be older.
const KNOWN: ABI = ABI::V10;

/// The two domains, ready to be entered. Empty where the kernel has no Landlock.
#[derive(Debug)]
pub(crate) struct Fence {
    domains: Option<Domains>,
}

#[derive(Debug)]
struct Domains {
    outer: OwnedFd,
    inner: OwnedFd,
}

/// What the package may reach.
#[derive(Debug, Default)]
struct Reach {
    /// Read and execute.
    read: Vec<PathBuf>,
    /// All that a user does in a folder of his own.
    write: Vec<PathBuf>,
    /// Read, write and control.
    devices: Vec<PathBuf>,
    network: Network,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Network {
    /// The network namespace is empty: nothing to forbid.
    #[default]
    Any,
    /// Connections to this port alone, none without; no listening.
    Only(Option<u16>),
}

/// The kernel's Landlock ABI version; 0 without Landlock.
pub(crate) fn abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no attributes, only returns a number.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// On top of namespaces: everything inside may be read, the user's folders written.
pub(super) fn namespaces(writable: &[PathBuf]) -> Result<Fence, SandboxError> {
    let devices = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"];
    Fence::new(&Reach {
        read: vec!["/".into()],
        write: writable.to_vec(),
        devices: devices.iter().map(|name| Path::new("/dev").join(name)).collect(),
        network: Network::Any,
    })
}

/// Instead of namespaces: what tools need of the machine, the user's own folders, one port.
pub(super) fn container(
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    port: Option<u16>,
) -> Result<Fence, SandboxError> {
    let found = abi();
    if found < LEAST_ABI {
        return Err(SandboxError::NoLandlock(found));
    }
    let devices = ["null", "zero", "full", "random", "urandom", "tty"];
    let devices = devices.iter().map(|name| Path::new("/dev").join(name)).collect();
    Fence::new(&Reach { read, write, devices, network: Network::Only(port) })
}

impl Fence {
    fn new(reach: &Reach) -> Result<Self, SandboxError> {
        if abi() < LEAST_ABI {
            return Ok(Self { domains: None });
        }
        // The outer one is closed too, so that the watcher's signal to everyone reaches only what is in it.
        let outer: Option<OwnedFd> = rules(reach)?.into();
        let inner: Option<OwnedFd> = rules(reach)?.into();
        match (outer, inner) {
            (Some(outer), Some(inner)) => Ok(Self { domains: Some(Domains { outer, inner }) }),
            _ => Err(SandboxError::NotRestricted),
        }
    }

    /// Confines the calling thread as the watcher is confined.
    pub(crate) fn enter_outer(&self) -> io::Result<()> {
        self.domains.as_ref().map_or(Ok(()), |domains| enter(&domains.outer))
    }

    /// Confines the calling thread as the package is confined; it must be in the outer domain already.
    pub(crate) fn enter_inner(&self) -> io::Result<()> {
        self.domains.as_ref().map_or(Ok(()), |domains| enter(&domains.inner))
    }

    /// ABI version in force.
    pub(crate) fn abi(&self) -> u32 {
        if self.domains.is_some() { abi().min(KNOWN as u32) } else { 0 }
    }

    /// Whether signals stay inside a domain.
    pub(crate) fn scopes_signals(&self) -> bool {
        const SCOPES: u32 = 6;
        self.abi() >= SCOPES
    }

    /// The descriptor that must stay open where the inner domain is still to be entered.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.domains.as_ref().map(|domains| domains.inner.as_raw_fd())
    }
}

fn enter(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call takes a descriptor, which is open while it is borrowed, and flags; no pointer.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn rules(reach: &Reach) -> Result<RulesetCreated, SandboxError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .map_err(failed)?;
    ruleset = ruleset.scope(Scope::from_all(KNOWN)).map_err(failed)?;
    if reach.network != Network::Any {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN)).map_err(failed)?;
    }
    let mut created = ruleset.create().map_err(failed)?;
    let read = AccessFs::from_read(KNOWN);
    // A device file made by the package would be a way around every rule for devices.
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev;
    for (paths, access) in [(&reach.read, read), (&reach.write, write), (&reach.devices, device)] {
        for path in paths {
            created = allow(created, path, access)?;
        }
    }
    if let Network::Only(Some(port)) = reach.network {
        created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(failed)?;
    }
    Ok(created)
}

/// Allows access at and below a path; what does not exist needs no rule.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let fd = match PathFd::new(path) {
        Ok(fd) => fd,
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(ruleset);
        }
        Err(error) => return Err(failed(error)),
    };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(fd, access)).map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> SandboxError {
    SandboxError::Landlock(Box::new(error))
}
