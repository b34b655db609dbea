//! Starts `lanner agent` with one end of a socket pair as its standard input and nothing else of ours.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::Child;

pub(in crate::runner) struct Agent {
    pub(in crate::runner) child: Child,
    pub(in crate::runner) stream: UnixStream,
}

/// `program` is this one.
pub(in crate::runner) fn agent(program: &Path) -> std::io::Result<Agent> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    #[expect(clippy::disallowed_methods, reason = "runner/local is where processes are started")]
    let mut command = std::process::Command::new(program);
    // Nothing of the host's environment: the package must not find it in the agent either. Its own process group, so
    // that a Ctrl-C at the desk reaches the host alone, which ends the agent in order.
    command
        .arg("agent")
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    Ok(Agent { child, stream: UnixStream::from_std(ours)? })
}
