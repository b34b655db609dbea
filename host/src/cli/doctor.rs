//! `lanner doctor`: what this machine, or a cluster, has and lacks for scanning, and how to mend it.

use anyhow::Context;
use lanner_agent::{Check, Health};

use super::cluster::On;
use super::{DoctorArgs, Exit};

mod cluster;
mod probe;

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let checks = match args.on {
        // It tries namespaces in a child: no thread may be there yet.
        None => lanner_agent::check(),
        Some(On::Kubernetes) => {
            let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
            runtime.block_on(cluster::checks(args))?
        }
    };
    checks.iter().for_each(|check| println!("{check}"));
    let lacking = checks.iter().any(|check| check.health != Health::Good);
    Ok(if lacking { Exit::NoAnswer } else { Exit::Clean })
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, health: Health::Good, found: found.into(), remedy: String::new() }
}

fn weak(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, health: Health::Weak, found: found.into(), remedy: remedy.into() }
}

fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, health: Health::Missing, found: found.into(), remedy: remedy.into() }
}
