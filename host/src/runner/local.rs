//! The runner for one Linux machine: a sandbox of our own around each Job, no root and nothing installed.
//!
//! For each scan it asks the package manager for its registry, opens the one way out (`proxy`), starts `lanner agent`
//! with one end of a socket pair, and has the agent's stream turned into reports (`follow`). It is the only module that
//! starts processes. It knows nothing of rules beyond their text, and never looks into the sandbox itself.
//!
//! The agent dies with the host (parent-death signal and end of stream) and the sandbox with the agent, so nothing is
//! left to sweep but folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::evidence::{Gap, GapKind};
use tokio_util::sync::CancellationToken;

use super::follow::{Course, Ended, Line, Listeners, follow};
use super::proxy::{self, Proxy};
use super::start::{self, Place, Terms};
use super::{AGENT_MARGIN, RunError, told};
use crate::scan::ports::{Job, Left, Report, ReportSender, Runner};

mod probe;
mod spawn;
mod tools;

pub(super) use probe::find;
pub(super) use spawn::agent;

#[derive(Clone, Debug)]
pub struct LocalConfig {
    pub terms: Terms,
    /// Hosts that the proxy lets through beside the registry: `HOST` or `HOST:PORT`.
    pub allow_hosts: Vec<String>,
    /// A private folder on the data directory's disk.
    pub work_dir: PathBuf,
    /// This program, for `lanner agent` and `lanner mark`.
    pub program: PathBuf,
    /// The environment that the package manager is asked in, and that names the machine's certificates.
    pub env: Vec<(String, String)>,
}

pub struct LocalRunner {
    config: Arc<LocalConfig>,
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
            told(&reports, result).await;
        }
        .boxed()
    }

    fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
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
) -> Result<(), RunError> {
    private_dir(folder).map_err(|e| RunError::Io("the scan's folder cannot be made".into(), e))?;
    let spec = &job.scan.spec;
    let found = find(&spec.tools, spec.probe.as_ref(), &config.env, folder).await?;
    let proxy = Proxy::new(found.allowed(&config.allow_hosts), &[]);
    let socket = folder.join("proxy");
    let listener =
        proxy::listen(&socket).map_err(|e| RunError::Io("the proxy's socket cannot be made".into(), e))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let place = Place {
        found,
        proxy: text(&socket),
        source: job.source.as_deref().map(text).unwrap_or_default(),
        work_dir: text(folder),
    };
    let start = start::message(&config.terms, &job.scan, place, start::persona());
    let mut agent =
        agent(&config.program).map_err(|e| RunError::Io("the agent cannot be started".into(), e))?;
    let limit = config.terms.limits.wall + AGENT_MARGIN;
    let course = Course { start, is_marked: false, end_nonce: None, taken: 0 };
    let to = Listeners { reports, cancel, fence: job.fence.clone(), lasting: None };
    let result = tokio::select! {
        result = follow(Line::once(&mut agent.stream), course, to, limit) => result,
        never = proxy.serve(proxy::accepted(&listener)) => match never {},
    };
    // Dropping the child kills it; the sandbox ends with it. Wait, so that the next scan finds the machine free.
    let _ = agent.child.start_kill();
    let _ = agent.child.wait().await;
    let _ = reports.send(Report::Network(proxy.attempts())).await;
    if let Ended::Lost(why) = result? {
        let gap = Gap { kind: GapKind::AgentLost, detail: why.to_owned() };
        let _ = reports.send(Report::Gap(gap)).await;
    }
    Ok(())
}

pub(super) fn private_dir(path: &Path) -> std::io::Result<()> {
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
