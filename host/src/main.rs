//! The one binary. `agent`, `mark` and `compile` are told apart before anything else happens: the first two run inside the
//! sandbox, must be single-threaded while it is built, and start often; the third lays limits on itself.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// musl's own takes four to seven times the CPU when four threads allocate (docs/performance.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_ref().and_then(|a| a.to_str()) {
        Some("mark") => lanner_agent::mark(),
        Some("agent") => lanner_agent::main(),
        Some("compile") => lanner::engine::compile_main(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => lanner::cli::main(),
    }
}
