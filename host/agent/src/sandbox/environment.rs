//! The environment of every phase: an ordinary user's, the job's own variables, the proxy, and decoy tokens.
//!
//! Later entries win over earlier ones of the same name, except what the sandbox itself decides: a job cannot move
//! the home or the temporary folder.

use std::path::Path;

use super::decoys;
use super::plan::Plan;

/// Where things are, as seen inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) home: &'a Path,
    pub(crate) tmp: &'a Path,
    /// The loopback port of the way out.
    pub(crate) port: Option<u16>,
}

pub(crate) fn variables(plan: &Plan, places: Places<'_>) -> Vec<(String, String)> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut variables = decoys::variables(&plan.seed);
    let mut set = |name: &str, value: String| {
        variables.retain(|(n, _)| n != name);
        variables.push((name.to_owned(), value));
    };
    for (name, value) in
        [("LANG", "C.UTF-8"), ("SHELL", shell), ("TERM", "dumb"), ("PATH", plan.search_path.as_str())]
    {
        set(name, value.to_owned());
    }
    for (name, value) in &plan.env {
        set(name, value.clone());
    }
    if let Some(port) = places.port {
        for name in &plan.proxy_env {
            set(name, format!("http://127.0.0.1:{port}"));
        }
    }
    set("HOME", text(places.home));
    set("TMPDIR", text(places.tmp));
    for name in ["USER", "LOGNAME"] {
        set(name, plan.user.clone());
    }
    set("HOSTNAME", plan.hostname.clone());
    variables
}
