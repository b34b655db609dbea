//! The runner for a cluster: one batch/v1 Job a scan, in whose pod the agent watches the package as it does on one machine.
//!
//! What runs where: the Job's manifest is pure (`lanner_kubernetes::job`), and made in `place` with all else that a scan needs; in
//! the pod, `inside` finds the package manager, fetches the project and starts the agent; `door` is the one port of this host
//! that pods reach; `jobs` asks the cluster for Jobs, and `board` says what it tells of them and their pods, from one watch each.
//! The agent's stream is followed, and the package's way out served, by what all runners have in common. A connection that
//! breaks is made again by the pod (`relay`), and a host that restarts goes on with its pods by what it wrote down (`note`).
//!
//! A project is fetched from the door, or lies on a volume, or in a `bucket`; whichever it is, the pod sees that it is the one
//! that was submitted (`project`).
//!
//! Of the API server a scan asks two calls: create and delete.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use lanner_core::evidence::{BUILTIN, Gap, GapKind};
use lanner_core::{Scan, ScanId};
use lanner_kubernetes::job::PodConfig;
use lanner_kubernetes::trouble;
use lanner_proto::{agent, pod};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::follow::{Course, Ended, Lasting, Line, Listeners, follow};
use super::proxy::Proxy;
use super::start::{self, Found, Place, Terms};
use super::{AGENT_MARGIN, RunError, told};
use crate::scan::ports::{Job, Left, NoRoom, Report, ReportSender, Runner};
use board::{Board, Followed};
use bucket::Bucket;
use door::{Comes, Door, Invitation};
use jobs::Jobs;
use note::{InPod, Note};

pub mod board;
pub mod bucket;
pub mod door;
pub mod inside;
mod jobs;
mod note;
mod pieces;
mod place;
mod project;
mod relay;

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
    /// Where projects are put for their pods, if not fetched from the door.
    pub bucket: Option<Bucket>,
}

pub struct KubernetesRunner {
    inner: Arc<Inner>,
}

struct Inner {
    config: KubernetesConfig,
    jobs: Jobs,
    door: Door,
    board: Board,
    /// Of scans that have a place, from an earlier life of the host too, until they run.
    stays: Mutex<HashMap<ScanId, Result<Stay, RunError>>>,
}

/// How long the cluster may take to say why a pod is gone.
const WHY: Duration = Duration::from_secs(10);

impl KubernetesRunner {
    pub fn new(config: KubernetesConfig, client: Client, door: Door, board: Board) -> Self {
        let jobs = Jobs::new(client, &config.pods.namespace, &config.instance);
        Self { inner: Arc::new(Inner { config, jobs, door, board, stays: Mutex::default() }) }
    }
}

impl Runner for KubernetesRunner {
    fn place(&self, scan: Scan, source: Option<PathBuf>) -> BoxFuture<'static, Result<(), NoRoom>> {
        let inner = self.inner.clone();
        async move { inner.place(scan, source).await }.boxed()
    }

    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        async move {
            let stay = inner.stays().remove(&job.scan.id);
            let name = stay.as_ref().and_then(|stay| Some(stay.as_ref().ok()?.note.job.clone()));
            let result = inner.run(&job, stay, &reports, &cancel).await;
            told(&reports, result).await;
            let deleted = match name {
                Some(name) => inner.jobs.delete(&name).await,
                // Whoever asked for a place did not wait for the answer.
                None => inner.jobs.delete_all_of(&job.scan.id).await,
            };
            if let Err(why) = deleted {
                tracing::warn!(scan = %job.scan.id, why = why.text(), "a Job could not be deleted");
            }
            inner.clear(&job.scan).await;
        }
        .boxed()
    }

    fn recover(&self, left: Vec<Left>) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        async move {
            // Before the door opens and the watches begin, so that neither says that it knows nothing of them.
            let names = futures::future::join_all(left.into_iter().map(|left| inner.take_up(left))).await;
            let names: Vec<String> = names.into_iter().flatten().collect();
            if let Err(why) = inner.jobs.sweep(&names).await {
                tracing::warn!(why = why.text(), "the Jobs of an earlier life could not be deleted");
            }
        }
        .boxed()
    }
}

/// One scan's pod, from its Job's creation to its end.
struct Stay {
    note: Note,
    invitation: Invitation,
    followed: Followed,
}

type Trouble = watch::Receiver<Option<trouble::Trouble>>;

impl Inner {
    async fn run(
        &self,
        job: &Job,
        stay: Option<Result<Stay, RunError>>,
        reports: &ReportSender,
        cancel: &CancellationToken,
    ) -> Result<(), RunError> {
        if cancel.is_cancelled() {
            return Ok(());
        }
        let Some(mut stay) = stay.transpose()? else {
            let gap = Gap { kind: GapKind::HostRestarted, detail: "its pod cannot be found again".into() };
            let _ = reports.send(Report::Gap(gap)).await;
            return Ok(());
        };
        if stay.note.is_over {
            return Ok(());
        }
        if job.scan.passage.is_none() {
            let _ = reports.send(Report::Passage(stay.note.to_value())).await;
        }
        let first = match stay.note.pod {
            InPod::Inside(..) => None,
            InPod::Expected(_) => {
                let arrival = self.arrival(&mut stay, reports);
                let Some(stream) = cancel.run_until_cancelled(arrival).await else { return Ok(()) };
                Some(stream?)
            }
        };
        self.attend(job, stay, first, reports, cancel).await
    }

    fn stays(&self) -> MutexGuard<'_, HashMap<ScanId, Result<Stay, RunError>>> {
        self.stays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the pod, which is then in the note.
    async fn arrival(&self, stay: &mut Stay, reports: &ReportSender) -> Result<DuplexStream, RunError> {
        let Stay { note, invitation, followed } = stay;
        let trouble = &mut followed.trouble;
        let last = trouble.clone();
        let comes = tokio::select! {
            comes = invitation.comes.recv() => comes,
            Some(why) = ended(trouble, Duration::MAX) => return Err(RunError::Refused(why.sentence)),
            () = tokio::time::sleep(self.config.start_deadline) => {
                let seconds = self.config.start_deadline.as_secs();
                let why = last.borrow().as_ref().map_or_else(
                    || "the events of its Job may say why".to_owned(),
                    |trouble| trouble.sentence.clone(),
                );
                return Err(RunError::Refused(format!("the pod did not come within {seconds} s: {why}")));
            }
        };
        let Some(Comes::First { key, found, stream }) = comes else {
            return Err(RunError::Refused("the host is stopping".into()));
        };
        if !found.refused.is_empty() {
            return Err(RunError::Refused(lanner_core::text::escaped(&found.refused)));
        }
        note.pod = InPod::Inside(key, found);
        let _ = reports.send(Report::Passage(note.to_value())).await;
        Ok(stream)
    }

    /// Follows the agent until its end, by as many connections as it takes.
    async fn attend(
        &self,
        job: &Job,
        stay: Stay,
        first: Option<DuplexStream>,
        reports: &ReportSender,
        cancel: &CancellationToken,
    ) -> Result<(), RunError> {
        let Stay { note, invitation, mut followed } = stay;
        let Invitation { mut comes, way_out, .. } = invitation;
        let InPod::Inside(_, found) = note.pod.clone() else { return Ok(()) };
        let place = place(*found);
        let proxy = Proxy::new(place.found.allowed(&self.config.allow_hosts), &job.scan.network);
        let mut start = start::message(&self.config.terms, &job.scan, place, note.persona.clone());
        start.start_nonce.clone_from(&note.start_nonce);
        let remember = |end_nonce: Option<&[u8]>, is_over| {
            Note { end_nonce: end_nonce.map(<[u8]>::to_vec), is_over, ..note.clone() }.to_value()
        };
        let (again, comes_again) = mpsc::channel(1);
        let mut over = followed.trouble.clone();
        let coming = async move {
            loop {
                tokio::select! {
                    Some(Comes::Again(anew)) = comes.recv() => drop(again.send(anew).await),
                    Some(_) = ended(&mut over, Duration::MAX) => break,
                    else => break,
                }
            }
            drop(again);
            std::future::pending::<Infallible>().await
        };
        let line = Line::coming(first, comes_again);
        let to = Listeners {
            reports,
            cancel,
            fence: job.fence.clone(),
            lasting: Some(Lasting { note: &remember, stored: job.stored.clone() }),
        };
        let result = tokio::select! {
            result = follow(line, course(job, start, &note), to, self.limit(job)) => result,
            never = proxy.serve(ReceiverStream::new(way_out)) => match never {},
            never = proxy.tell(reports) => match never {},
            never = coming => match never {},
        };
        let _ = reports.send(Report::Network(proxy.attempts())).await;
        if let Ended::Lost(why) = result? {
            let told = ended(&mut followed.trouble, WHY).await.map(|trouble| trouble.sentence);
            let detail = told.unwrap_or_else(|| why.to_owned());
            let _ = reports.send(Report::Gap(Gap { kind: GapKind::AgentLost, detail })).await;
        }
        Ok(())
    }

    /// Of what is left of its time, should it have begun in an earlier life.
    fn limit(&self, job: &Job) -> Duration {
        let whole = self.config.terms.limits.wall + AGENT_MARGIN;
        if job.scan.passage.is_none() {
            return whole;
        }
        let since = crate::scan::now().saturating_sub(job.scan.started.unwrap_or_default());
        let since = Duration::from_nanos(u64::try_from(since).unwrap_or_default());
        (self.config.start_deadline + whole).saturating_sub(since).max(AGENT_MARGIN)
    }
}

/// Waits for what ends the Job; nothing if it does not come in time.
async fn ended(trouble: &mut Trouble, within: Duration) -> Option<trouble::Trouble> {
    let is_final = |trouble: &Option<trouble::Trouble>| trouble.as_ref().is_some_and(|t| t.is_final);
    let found = tokio::time::timeout(within, trouble.wait_for(is_final)).await;
    found.ok()?.ok()?.clone()
}

fn place(found: pod::Found) -> Place {
    let registry = |r: pod::Registry| Some((r.host, u16::try_from(r.port).ok()?));
    Place {
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
    }
}

/// From the beginning, or from where an earlier life of the host was.
fn course(job: &Job, start: agent::Start, note: &Note) -> Course {
    let builtin = job.scan.evidence.sensors.iter().find(|sensor| sensor.name == BUILTIN);
    let unwatched = start.unwatched && job.scan.isolation.is_some();
    Course {
        is_marked: unwatched || builtin.is_some_and(|sensor| sensor.start_mark),
        end_nonce: note.end_nonce.clone(),
        taken: job.scan.passage.as_ref().map_or(0, |passage| passage.taken),
        start,
    }
}

#[cfg(test)]
mod tests;
