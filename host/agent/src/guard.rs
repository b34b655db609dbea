//! The process that the host started: reads what to do, makes the namespaces, starts the supervisor, and waits.
//!
//! It stays outside of the pid namespace that it makes. When it dies, the supervisor notices and ends everything;
//! when the supervisor dies, the kernel ends the pid namespace, and without one the guard ends what it inherits. It
//! closes its end of the stream, so that the host sees at once when the supervisor is gone.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use lanner_core::Isolation;
use lanner_proto::agent::{Refused, agent_message, host_message};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions};

use crate::fork::{self, Side};
use crate::process;
use crate::sandbox::{Plan, container, hide, namespaces};
use crate::stream::{self, Receiver, Sender};
use crate::supervisor;

/// Why the supervisor did not start.
#[derive(Debug, thiserror::Error)]
enum GuardError {
    #[error("the host's first message is not a start message")]
    NotAStart,
    #[error(transparent)]
    Plan(#[from] crate::sandbox::PlanError),
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    #[error(transparent)]
    Stream(#[from] stream::StreamError),
    #[error("the agent's processes could not be started")]
    Io(#[from] std::io::Error),
}

pub(crate) fn run(stream: OwnedFd) -> ExitCode {
    let (sender, mut receiver) = match own(stream).and_then(|stream| Ok(stream::open(stream)?)) {
        Ok(pair) => pair,
        Err(error) => return fail(&error),
    };
    let sender = Arc::new(sender);
    let started = plan(&mut receiver).and_then(|plan| start(plan, &sender, receiver));
    let supervisor = match started {
        Ok(guarded) => guarded,
        Err(error) => {
            let _ = sender.send(agent_message::Body::Refused(Refused { reason: sentence(&error) }));
            return fail(&error);
        }
    };
    drop(sender);
    wait(supervisor)
}

/// The stream, away from the standard descriptors: what is executed in the sandbox inherits those, and must find
/// nothing of the host's in them.
fn own(stream: OwnedFd) -> Result<OwnedFd, GuardError> {
    const AFTER_STANDARD: i32 = 3;
    let moved = rustix::io::fcntl_dupfd_cloexec(&stream, AFTER_STANDARD).map_err(std::io::Error::from)?;
    drop(stream);
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    rustix::stdio::dup2_stdin(null.map_err(std::io::Error::from)?).map_err(std::io::Error::from)?;
    Ok(moved)
}

/// An error and its sources, as one line for the host.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    lanner_core::text::bounded(&text, 4096)
}

fn plan(receiver: &mut Receiver) -> Result<Plan, GuardError> {
    match receiver.receive()? {
        host_message::Body::Start(start) => Ok(Plan::new(start)?),
        _ => Err(GuardError::NotAStart),
    }
}

/// Forks the supervisor; in the child this does not return.
fn start(mut plan: Plan, sender: &Arc<Sender>, receiver: Receiver) -> Result<Guarded, GuardError> {
    let isolation = plan.isolation;
    let shelter = container::shelter(&mut plan)?;
    match isolation {
        Isolation::Namespaces => namespaces::unshare()?,
        // What outlives the supervisor becomes the guard's child, and can be ended.
        Isolation::Container => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(std::io::Error::from)?,
    }
    // After the maps were written: of a process that is hidden they cannot be. The supervisor inherits it.
    hide()?;
    let (lifeline, held) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
    match fork::fork()? {
        Side::Child => {
            drop(held);
            fork::exit(supervisor::run(plan, Arc::clone(sender), receiver, lifeline, shelter))
        }
        Side::Parent(pid) => Ok(Guarded { pid, isolation, shelter, _lifeline: held }),
    }
}

/// The supervisor, as its parent knows it.
#[derive(Debug)]
struct Guarded {
    pid: Pid,
    isolation: Isolation,
    /// Removed by the supervisor, unless it is killed before.
    shelter: Option<PathBuf>,
    /// Closes when this process ends, however it ends.
    _lifeline: OwnedFd,
}

fn wait(guarded: Guarded) -> ExitCode {
    let ended = fork::wait(guarded.pid);
    if guarded.isolation == Isolation::Container {
        reap_all();
    }
    if let Some(shelter) = guarded.shelter {
        let _ = std::fs::remove_dir_all(shelter);
    }
    match ended.ok().and_then(|status| status.exit_status()).map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}

/// Ends everything that descends from this process, until nothing does.
pub(crate) fn reap_all() {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        process::kill_descendants(own);
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "lanner agent: {}", sentence(error));
    ExitCode::FAILURE
}
