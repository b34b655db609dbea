//! The runner for a cluster: one batch/v1 Job a scan, in whose pod the agent watches the package as it does on one machine.
//!
//! What runs where: the Job's manifest is pure (`lanner_kubernetes::job`); in the pod, `inside` finds the package manager,
//! fetches the project and starts the agent; `door` is the one port of this host that pods reach; `board` says what the
//! cluster tells of Jobs and pods, from one watch each. The agent's stream is followed, and the package's way out served, by
//! what all runners have in common.
//!
//! Of the API server a scan asks two calls: create and delete.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use lanner_core::ScanId;
use lanner_core::evidence::{Gap, GapKind};
use lanner_core::text::chain;
use lanner_kubernetes::job::{self, PodConfig, PodRequest};
use lanner_kubernetes::trouble::Trouble;
use lanner_proto::{agent, pod};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::follow::{Ended, follow};
use super::proxy::Proxy;
use super::start::{self, Found, Place, Terms};
use super::{AGENT_MARGIN, RunError, told};
use crate::scan::ports::{Job, Report, ReportSender, Runner};
use board::Board;
use door::{Arrival, Door};

pub mod board;
pub mod door;
pub mod inside;
mod pieces;

pub struct KubernetesConfig {
    pub pods: PodConfig,
    /// Which host's the Jobs are.
    pub instance: String,
    /// `https://HOST:PORT` of the door, as pods reach it.
    pub url: String,
    /// The authority of the door's certificate, in PEM.
    pub authority: String,
    /// From the Job's creation until its pod has to be at the door: scheduling, pulling, starting.
    pub start_deadline: Duration,
    pub terms: Terms,
    pub allow_hosts: Vec<String>,
}

pub struct KubernetesRunner {
    inner: Arc<Inner>,
}

struct Inner {
    config: KubernetesConfig,
    jobs: Api<v1::Job>,
    door: Door,
    board: Board,
}

/// How long the cluster may take to say why a pod is gone.
const WHY: Duration = Duration::from_secs(10);
/// An API server that accepts a call answers it, or is asked again.
const ANSWER: Duration = Duration::from_secs(30);
/// A quota that is used up, and an API server that is busy or away, are asked again so often.
const AGAIN: Duration = Duration::from_secs(5);

impl KubernetesRunner {
    pub fn new(config: KubernetesConfig, client: Client, door: Door, board: Board) -> Self {
        let jobs = Api::namespaced(client, &config.pods.namespace);
        Self { inner: Arc::new(Inner { config, jobs, door, board }) }
    }
}

impl Runner for KubernetesRunner {
    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        async move {
            let result = inner.run(&job, &reports, &cancel).await;
            inner.board.forget(&job.scan.id);
            told(&reports, result).await;
            inner.delete(&job.scan.id).await;
        }
        .boxed()
    }

    fn sweep(&self, _scans: Vec<ScanId>) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        async move {
            // Agents of an earlier life lost their host, and have ended; whatever is there belongs to nobody.
            let ours = ListParams::default().labels(&job::selector(&inner.config.instance));
            let background = DeleteParams::background();
            if let Err(why) = answered(inner.jobs.delete_collection(&background, &ours)).await {
                tracing::warn!(why = why.text(), "the Jobs of an earlier life could not be deleted");
            }
        }
        .boxed()
    }
}

impl Inner {
    async fn run(
        &self,
        job: &Job,
        reports: &ReportSender,
        cancel: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut trouble = self.board.follow(&job.scan.id);
        let invitation = self.door.invite(asked(job)?, job.source.clone());
        let persona = start::persona();
        let manifest = self.manifest(job, &invitation.token, &persona)?;
        let arrived = async {
            self.create(&manifest).await?;
            self.arrival(invitation.arrival, &mut trouble).await
        };
        let Some(arrived) = cancel.run_until_cancelled(arrived).await else { return Ok(()) };
        let Arrival { found, stream, way_out } = arrived?;
        let place = place(found)?;
        let proxy = Proxy::new(place.found.allowed(&self.config.allow_hosts));
        let start = start::message(&self.config.terms, &job.scan, place, persona);
        let limit = self.config.terms.limits.wall + AGENT_MARGIN;
        let result = tokio::select! {
            result = follow(stream, start, reports, cancel, limit, job.fence.clone()) => result,
            never = proxy.serve(ReceiverStream::new(way_out)) => match never {},
        };
        let _ = reports.send(Report::Network(proxy.attempts())).await;
        if let Ended::Lost = result?
            && let Some(why) = ended(&mut trouble, WHY).await
        {
            let gap = Gap { kind: GapKind::AgentLost, detail: why.sentence };
            let _ = reports.send(Report::Gap(gap)).await;
        }
        Ok(())
    }

    fn manifest(&self, job: &Job, token: &str, persona: &agent::Persona) -> Result<v1::Job, RunError> {
        let limits = &self.config.terms.limits;
        let request = PodRequest {
            scan: &job.scan.id,
            manager: &job.scan.spec.manager,
            instance: &self.config.instance,
            memory_bytes: limits.memory_bytes,
            disk_bytes: limits.disk_bytes,
            deadline: self.config.start_deadline + limits.wall + 2 * AGENT_MARGIN,
            url: &self.config.url,
            authority: &self.config.authority,
            token,
            hostname: &persona.hostname,
            user: &persona.user,
        };
        job::manifest(&self.config.pods, &request).map_err(|e| RunError::Refused(e.to_string()))
    }

    /// A used-up quota and a busy API server are waited for: the scan is in no hurry, and has a place.
    async fn create(&self, manifest: &v1::Job) -> Result<(), RunError> {
        let deadline = tokio::time::Instant::now() + self.config.start_deadline;
        loop {
            let why = match answered(self.jobs.create(&PostParams::default(), manifest)).await {
                Ok(_) => return Ok(()),
                // An answer that got lost, and a Job that did not.
                Err(why) if why.is("AlreadyExists") => return Ok(()),
                Err(why) => why,
            };
            if !why.passes() || tokio::time::Instant::now() + AGAIN > deadline {
                return Err(RunError::Refused(format!("the Job cannot be created: {}", why.text())));
            }
            tracing::warn!(why = why.text(), "the Job cannot be created yet");
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn arrival(
        &self,
        arrival: tokio::sync::oneshot::Receiver<Arrival>,
        trouble: &mut watch::Receiver<Option<Trouble>>,
    ) -> Result<Arrival, RunError> {
        let last = trouble.clone();
        tokio::select! {
            arrival = arrival => arrival.map_err(|_| RunError::Refused("the host is stopping".into())),
            Some(why) = ended(trouble, Duration::MAX) => Err(RunError::Refused(why.sentence)),
            () = tokio::time::sleep(self.config.start_deadline) => {
                let seconds = self.config.start_deadline.as_secs();
                let why = last.borrow().as_ref().map_or_else(
                    || "the events of its Job may say why".to_owned(),
                    |trouble| trouble.sentence.clone(),
                );
                Err(RunError::Refused(format!("the pod did not come within {seconds} s: {why}")))
            }
        }
    }

    async fn delete(&self, scan: &ScanId) {
        let (name, background) = (job::name(scan), DeleteParams::background());
        match answered(self.jobs.delete(&name, &background)).await {
            Ok(_) => {}
            Err(why) if why.is("NotFound") => {}
            // It goes by itself, by its deadline and its ttl.
            Err(why) => tracing::warn!(%scan, why = why.text(), "a Job could not be deleted"),
        }
    }
}

/// Waits for what ends the Job; nothing if it does not come in time.
async fn ended(trouble: &mut watch::Receiver<Option<Trouble>>, within: Duration) -> Option<Trouble> {
    let is_final = |trouble: &Option<Trouble>| trouble.as_ref().is_some_and(|t| t.is_final);
    let found = tokio::time::timeout(within, trouble.wait_for(is_final)).await;
    found.ok()?.ok()?.clone()
}

/// An API server that did not do what it was asked.
enum No {
    Error(kube::Error),
    Silent,
}

/// The client itself would wait for ever.
async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, No> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(No::Error),
        Err(_) => Err(No::Silent),
    }
}

impl No {
    fn is(&self, reason: &str) -> bool {
        matches!(self, Self::Error(kube::Error::Api(status)) if status.reason == reason)
    }

    /// Asking again may help: a quota that is used up now, a server that is busy or away.
    fn passes(&self) -> bool {
        match self {
            Self::Error(kube::Error::Api(status)) => {
                let quota = status.code == 403 && status.message.contains("exceeded quota");
                quota || matches!(status.code, 409 | 429 | 500..)
            }
            Self::Error(kube::Error::Service(_) | kube::Error::HyperError(_)) | Self::Silent => true,
            Self::Error(_) => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Error(error) => lanner_core::text::escaped(&chain(error)),
            Self::Silent => format!("the API server did not answer within {} s", ANSWER.as_secs()),
        }
    }
}

fn asked(job: &Job) -> Result<pod::Asked, RunError> {
    let spec = &job.scan.spec;
    let probe = spec.probe.as_ref().map(serde_json::to_string).transpose();
    let probe = probe.map_err(|e| RunError::Refused(format!("the probe cannot be sent: {e}")))?;
    Ok(pod::Asked {
        scan_id: job.scan.id.to_string(),
        key: String::new(),
        tools: spec.tools.clone(),
        probe: probe.unwrap_or_default(),
        source: job.source.is_some(),
    })
}

fn place(found: pod::Found) -> Result<Place, RunError> {
    if !found.refused.is_empty() {
        return Err(RunError::Refused(lanner_core::text::escaped(&found.refused)));
    }
    let registry = |r: pod::Registry| Some((r.host, u16::try_from(r.port).ok()?));
    Ok(Place {
        found: Found {
            path: found.path,
            dirs: found.dirs,
            files: found.files,
            env: found.env.into_iter().map(|v| (v.name, v.value)).collect(),
            registries: found.registries.into_iter().filter_map(registry).collect(),
        },
        proxy: found.proxy_socket,
        source: found.source_path,
        work_dir: found.work_dir,
    })
}
