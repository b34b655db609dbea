//! The host's log: one line an event on stderr, so that answers on stdout stay clean.
//!
//! What is logged is chosen by `LANNER_LOG` (the syntax of `RUST_LOG`), its shape by `LANNER_LOG_FORMAT=json`. Both come
//! through the configuration; nothing here reads the environment. Numbers for machines are in `http::metrics`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Shows whole addresses, and what is signed in them, to whoever traces everything.
const NEVER: [&str; 2] = ["ureq::util=off", "ureq_proto::util=off"];

/// Sets up the log of this process; a second call changes nothing.
pub fn init(env: &[(String, String)], default: &str) {
    let var = |name: &str| env.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str());
    let (filter, mistake) = match EnvFilter::try_new(var("LANNER_LOG").unwrap_or(default)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let filter = NEVER.iter().filter_map(|d| d.parse().ok()).fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let set = match var("LANNER_LOG_FORMAT") {
        Some("json") => builder.json().try_init(),
        _ => builder.try_init(),
    };
    if let (Ok(()), Some(error)) = (set, mistake) {
        tracing::warn!(%error, "LANNER_LOG cannot be read and is ignored");
    }
}
