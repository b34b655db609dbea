//! The sandbox: what the package finds around it, and the walls that it does not get through.
//!
//! Two kinds, one result. `namespaces` builds a machine of its own: a private root, pid space and empty network.
//! `container` has only the container that the agent was started in, and needs Landlock for what namespaces would
//! do. Both give a home with decoys, a project folder, a temporary folder, an environment, limits, and a fence. The
//! supervisor asks for a sandbox once, before anything of the package exists; the sandbox knows nothing of phases,
//! rules or alerts.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

mod confinement;
pub(crate) mod container;
mod decoys;
mod disk;
mod environment;
mod etc;
mod fence;
mod home;
pub(crate) mod namespaces;
mod network;
mod plan;
mod privileges;
mod root;
mod seed;
mod source;

pub(crate) use confinement::{Confinement, THREADS_PER_PROCESS};
pub(crate) use disk::{Disk, Usage};
pub(crate) use fence::{LEAST_ABI, abi};
pub(crate) use plan::{Plan, PlanError};
pub(crate) use privileges::{die_with_parent, hide};

/// The user that the package is, inside.
pub(crate) const USER: u32 = 1000;
/// What that user is outside when the agent was started by root: nobody.
pub(crate) const NOBODY: u32 = 65534;

/// A sandbox that stands. This process is in it, without any privilege.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// As seen inside.
    pub(crate) home: PathBuf,
    pub(crate) project: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) decoys: Vec<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
    /// The agent's own program, as seen inside: what a mark executes.
    pub(crate) program: PathBuf,
    pub(crate) dns: Option<OwnedFd>,
    pub(crate) way_out: Option<WayOut>,
    pub(crate) confinement: Confinement,
    pub(crate) disk: Disk,
}

/// The one way out: a loopback port here, the host's proxy behind it.
#[derive(Debug)]
pub(crate) struct WayOut {
    pub(crate) listener: TcpListener,
    pub(crate) port: u16,
    /// An `O_PATH` descriptor of the proxy's socket; its path may be out of reach by now.
    pub(crate) proxy: OwnedFd,
}

/// What comes from outside, opened before the walls go up.
#[derive(Debug)]
pub(crate) struct Outside {
    source: Option<File>,
    proxy: Option<OwnedFd>,
    program: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error(
        "this machine does not let this user make namespaces ({0}): `lanner doctor` says how to allow it; inside a \
         container, choose --isolation container"
    )]
    NamespacesForbidden(&'static str, #[source] io::Error),
    #[error(
        "isolation by container needs Landlock ABI {LEAST_ABI} or later and this kernel has {0}: use Linux 5.19 or later with \
         `landlock` in its lsm= list, or --isolation namespaces"
    )]
    NoLandlock(u32),
    #[error("Landlock took no effect")]
    NotRestricted,
    #[error("the sandbox could not {0}")]
    Step(String, #[source] io::Error),
    #[error("the Landlock rules could not be made")]
    Landlock(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the project could not be unpacked")]
    Archive(#[source] lanner_archive::ArchiveError),
}

impl Outside {
    pub(crate) fn open(plan: &Plan) -> Result<Self, SandboxError> {
        let source = plan
            .source
            .as_ref()
            .map(|path| File::open(path).map_err(step(format!("open the source {}", path.display()))));
        let proxy = plan.proxy_socket.as_ref().map(|path| network::open_socket(path));
        Ok(Self { source: source.transpose()?, proxy: proxy.transpose()?, program: root::own_program()? })
    }
}

impl Sandbox {
    /// Builds the sandbox around this process and leaves every privilege behind.
    pub(crate) fn enter(plan: &Plan, outside: Outside) -> Result<Self, SandboxError> {
        let Outside { mut source, proxy, program } = outside;
        let sandbox = match plan.isolation {
            lanner_core::Isolation::Namespaces => namespaces::enter(plan, proxy, program)?,
            lanner_core::Isolation::Container => container::enter(plan, proxy)?,
        };
        // From here on this process is the package's user: a hostile archive meets the same walls.
        source::unpack(source.as_mut(), plan, &sandbox.project)?;
        Ok(sandbox)
    }
}

/// Names the step that an error belongs to.
fn step<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Step(what.into(), error.into())
}
