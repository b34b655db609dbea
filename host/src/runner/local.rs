//! The runner for one Linux machine: a sandbox of our own around each Job, no root and nothing installed.
//!
//! For each scan it asks the package manager for its registry, opens the one way out (`proxy`), starts `lanner agent`
//! with one end of a socket pair, and turns the agent's stream into reports (`stream`). It is the only module that
//! starts processes. It knows nothing of rules beyond their text, and never looks into the sandbox itself.
//!
//! The agent dies with the host (parent-death signal and end of stream) and the sandbox with the agent, so nothing is
//! left to sweep but folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::evidence::{Gap, GapKind};
use lanner_core::{Isolation, ScanId};
use tokio_util::sync::CancellationToken;

use crate::scan::ports::{Job, Report, ReportSender, Runner};

mod alert;
mod probe;
mod proxy;
mod spawn;
mod start;
mod stream;
mod tools;

#[derive(Clone, Debug)]
pub struct LocalConfig {
    pub isolation: Isolation,
    pub limits: Limits,
    /// Hosts that the proxy lets through beside the registry: `HOST` or `HOST:PORT`.
    pub allow_hosts: Vec<String>,
    /// Falco rules files: name and text.
    pub rules: Vec<(String, String)>,
    /// A private folder on the data directory's disk.
    pub work_dir: PathBuf,
    /// This program, for `lanner agent` and `lanner mark`.
    pub program: PathBuf,
    /// The environment that the package manager is asked in, and that names the machine's certificates.
    pub env: Vec<(String, String)>,
    /// Only for the benchmark that measures what watching costs: no sensor, so no scan is ever clean.
    pub unwatched: bool,
}

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

pub struct LocalRunner {
    config: Arc<LocalConfig>,
}

/// Why a Job could not be started or followed; every one becomes a gap.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
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

impl LocalRunner {
    pub fn new(config: LocalConfig) -> std::io::Result<Self> {
        private_dir(&config.work_dir)?;
        Ok(Self { config: Arc::new(config) })
    }
}

impl Runner for LocalRunner {
    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let config = self.config.clone();
        async move {
            let folder = config.work_dir.join(job.scan.id.as_str());
            let result = run(&config, &job, &folder, &reports, &cancel).await;
            remove(&folder);
            if let Err(error) = result {
                tracing::warn!(error = &error as &dyn std::error::Error, "the job could not be run");
                let gap = Gap { kind: GapKind::Sandbox, detail: error.to_string() };
                // A closed channel means that nobody wants to know any more.
                let _ = reports.send(Report::Gap(gap)).await;
            }
        }
        .boxed()
    }

    fn sweep(&self, _scans: Vec<ScanId>) -> BoxFuture<'static, ()> {
        let work_dir = self.config.work_dir.clone();
        async move {
            // Agents of an earlier life ended with it; whatever lies here belongs to nobody.
            for entry in std::fs::read_dir(&work_dir).into_iter().flatten().flatten() {
                remove(&entry.path());
            }
        }
        .boxed()
    }
}

async fn run(
    config: &LocalConfig,
    job: &Job,
    folder: &Path,
    reports: &ReportSender,
    cancel: &CancellationToken,
) -> Result<(), LocalError> {
    private_dir(folder).map_err(|e| LocalError::Io("the scan's folder cannot be made".into(), e))?;
    let tools = tools::find(&job.scan.spec.tools, &config.env)?;
    let probed = match &job.scan.spec.probe {
        Some(probe) => probe::ask(probe, &tools, config, folder).await?,
        None => probe::Probed::default(),
    };
    let proxy = proxy::Proxy::listen(&folder.join("proxy"), probed.allowed(&config.allow_hosts))
        .map_err(|e| LocalError::Io("the proxy's socket cannot be made".into(), e))?;
    let start = start::message(config, job, folder, &tools, probed, proxy.socket());
    let agent = spawn::agent(config).map_err(|e| LocalError::Io("the agent cannot be started".into(), e))?;
    let limit = config.limits.wall + AGENT_MARGIN;
    let follow = stream::follow(agent, start, reports, cancel, limit, job.fence.clone());
    let result = tokio::select! {
        result = follow => result,
        () = proxy.serve() => Ok(()),
    };
    let _ = reports.send(Report::Network(proxy.attempts())).await;
    result
}

fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a scan's folder could not be removed");
    }
}
