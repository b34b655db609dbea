//! Runners: each starts one isolated Job and reports what it sees. They know scans only as values: nothing here
//! settles one.
//!
//! What they have in common: what the agent is told (`start`), how its stream is followed (`follow`), and the one way out of a
//! sandbox (`proxy`). Where a sandbox stands is each one's own.

use std::time::Duration;

use lanner_core::evidence::{Gap, GapKind};
use lanner_core::text::chain;

use crate::scan::ports::{Report, ReportSender};

mod alert;
mod follow;
pub mod kubernetes;
pub mod local;
mod proxy;
mod start;

pub use start::Terms;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub wall: Duration,
    pub cpu: Duration,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub processes: u32,
    pub open_files: u32,
    pub alerts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(600),
            cpu: Duration::from_secs(600),
            memory_bytes: 4 << 30,
            disk_bytes: 2 << 30,
            processes: 512,
            open_files: 4096,
            alerts: 1000,
        }
    }
}

/// How long an agent may outlast its own wall clock limit before it is taken for dead.
const AGENT_MARGIN: Duration = Duration::from_secs(30);

/// Why a Job could not be started or followed; every one becomes a gap.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0} is not on this machine: install it, or put it on the PATH that lanner was started with")]
    NoTool(String),
    #[error("the package manager did not say what it is configured for: {0}")]
    Probe(String),
    #[error("{0}")]
    Io(String, #[source] std::io::Error),
    #[error("{0}")]
    Refused(String),
    #[error(
        "falco did not report the start mark in time, so nothing was run: see GET /v1/sensors and [falco] start_deadline"
    )]
    Unwitnessed,
}

/// A Job that could not be run is a gap of its scan.
async fn told(reports: &ReportSender, result: Result<(), RunError>) {
    let Err(error) = result else { return };
    tracing::warn!(error = &error as &dyn std::error::Error, "the job could not be run");
    let gap = Gap { kind: GapKind::Sandbox, detail: chain(&error) };
    // A closed channel means that nobody wants to know any more.
    let _ = reports.send(Report::Gap(gap)).await;
}
