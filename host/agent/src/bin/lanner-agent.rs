//! The agent as a program of its own: `lanner-agent agent` serves one scan over descriptor 3, `lanner-agent mark HEX`
//! is a mark, `lanner-agent check` says what this machine can do. The same as `lanner`'s commands of these names,
//! without the host around them.

use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

/// Where the host puts its end of the stream.
const STREAM: i32 = 3;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_deref().and_then(|verb| verb.to_str()) {
        Some("agent") => agent(),
        Some("mark") => lanner_agent::mark(),
        Some("check") => check(),
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: lanner-agent agent | mark HEX | check");
            ExitCode::from(2)
        }
    }
}

fn agent() -> ExitCode {
    // SAFETY: fcntl takes no pointer here; it only says whether the descriptor is open.
    if unsafe { libc::fcntl(STREAM, libc::F_GETFD) } < 0 {
        let _ = writeln!(
            std::io::stderr(),
            "the host's stream is not open on descriptor 3: `lanner` starts the agent"
        );
        return ExitCode::from(2);
    }
    // SAFETY: the descriptor is open, the host passed it for us to own, and nothing else in this program uses it.
    lanner_agent::run(unsafe { OwnedFd::from_raw_fd(STREAM) })
}

fn check() -> ExitCode {
    let checks = lanner_agent::check();
    for check in &checks {
        let _ = writeln!(std::io::stdout(), "{check}");
    }
    if checks.iter().any(|c| c.health == lanner_agent::Health::Missing) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
