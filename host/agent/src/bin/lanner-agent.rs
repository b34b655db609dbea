//! The agent as a program of its own: `lanner-agent agent` serves one scan over its standard input, `lanner-agent mark
//! HEX` is a mark, `lanner-agent check` says what this machine can do. The same as `lanner`'s commands of these names,
//! without the host around them.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_deref().and_then(|verb| verb.to_str()) {
        Some("agent") => lanner_agent::main(),
        Some("mark") => lanner_agent::mark(),
        Some("check") => check(),
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: lanner-agent agent | mark HEX | check");
            ExitCode::from(2)
        }
    }
}

fn check() -> ExitCode {
    let checks = lanner_agent::check();
    for check in &checks {
        let _ = writeln!(std::io::stdout(), "{check}");
    }
    let missing = checks.iter().any(|check| check.health == lanner_agent::Health::Missing);
    if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
