//! The one binary. `agent` and `mark` are told apart before anything else happens: they run inside the sandbox, must
//! be single-threaded while it is built, and start often.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_ref().and_then(|a| a.to_str()) {
        Some("mark") => lanner_agent::mark(),
        Some("agent") => lanner_agent::main(),
        _ => lanner::cli::main(),
    }
}
