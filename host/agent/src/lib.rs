//! The agent: runs the phases of one scan inside a sandbox, watches them, and streams the evidence to the host.
//!
//! Three processes, each the parent of the next: the guard (the process that the host started; it makes the
//! namespaces and waits), the supervisor (the host's stream, the order of things, limits, the way out), and the
//! watcher (launches the phases, sees their calls, judges them by the rules). The package's processes are the
//! watcher's descendants. [`run`] is the one way in, the stream the one way out. Nothing here knows of scans'
//! states, stores, HTTP or Kubernetes; what a mark or an alert means for a scan is the host's decision.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

mod doctor;
mod fork;
mod forward;
mod guard;
mod process;
mod sandbox;
mod stream;
mod supervisor;
mod token;
pub mod watch;

pub use doctor::{Check, Health, check};
pub use token::{TokenError, take_token};

/// Version of the stream's meaning, in `Hello`.
pub const PROTOCOL: u32 = 1;

/// `lanner agent`: serves one scan over the unix stream that the host passed as standard input, then returns. To be
/// called before the process has any other thread, because it forks.
pub fn main() -> ExitCode {
    match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(stream) => run(stream),
        Err(_) => ExitCode::from(2),
    }
}

/// The same over a stream that the caller has.
pub fn run(stream: OwnedFd) -> ExitCode {
    guard::run(stream)
}

/// `lanner mark HEX`: exists, so that a sensor sees it being executed, and does nothing else.
pub fn mark() -> ExitCode {
    ExitCode::SUCCESS
}
