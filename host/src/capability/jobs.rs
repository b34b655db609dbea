//! `jobs`: start a scan, ask after one, end one.

use lanner_core::{JobSpec, PhaseSpec, Probe, ProbeKey, ProbeUse, ScanId, Subject};
use wasmtime::component::{Accessor, HasSelf};

use super::State;
use super::generated::lanner::platform::jobs::{self as wit, Host, HostWithStore, JobError};
use super::generated::lanner::platform::types as wit_types;
use super::view;
use crate::http::Caller;
use crate::scan::ports::StoreError;
use crate::scan::{QueryError, Scans, Submission, SubmitError};

const MAX_PAGE: usize = 100;
/// What a client is told when the queue is full: about how long one place takes to become free.
const RETRY_SECONDS: u32 = 10;

impl Host for State {}

const DRY: &str = "this is a trial: nothing is changed";

/// The verbs, and on whose behalf they are called; outside a request nobody's.
pub(super) fn on_behalf<T>(accessor: &Accessor<T, HasSelf<State>>) -> Result<(Scans, Caller), JobError> {
    accessor.with(|mut access| {
        let state = access.get();
        Ok((state.scans.clone(), state.caller.clone().ok_or(JobError::Unknown)?))
    })
}

/// The same for verbs that change something.
fn in_earnest<T>(accessor: &Accessor<T, HasSelf<State>>) -> Result<(Scans, Caller), JobError> {
    match accessor.with(|mut access| access.get().dry) {
        true => Err(JobError::Refused(DRY.into())),
        false => on_behalf(accessor),
    }
}

impl<T: Send> HostWithStore<T> for HasSelf<State> {
    async fn start(
        accessor: &Accessor<T, Self>,
        spec: wit::JobSpec,
        source: Option<u64>,
        key: Option<String>,
    ) -> Result<String, JobError> {
        let (scans, caller) = in_earnest(accessor)?;
        let source = match source {
            None => None,
            Some(handle) => {
                Some(accessor.with(|mut access| access.get().sources.remove(&handle)).ok_or_else(|| {
                    JobError::Refused("the source was not stored during this request".into())
                })?)
            }
        };
        let submission = Submission { owner: caller.owner, spec: spec_of(spec), source, key };
        scans.submit(submission).await.map(|id| id.to_string()).map_err(of_submit)
    }

    async fn get(accessor: &Accessor<T, Self>, id: String) -> Result<String, JobError> {
        let (scans, caller) = on_behalf(accessor)?;
        let scan = scans.get(&caller.reach, &parse(&id)?).await.map_err(of_query)?;
        Ok(view::scan(&scan).to_string())
    }

    async fn list(
        accessor: &Accessor<T, Self>,
        before: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, JobError> {
        let (scans, caller) = on_behalf(accessor)?;
        let before = before.as_deref().map(parse).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let page = scans.list(&caller.reach, before, limit).await.map_err(of_query)?;
        Ok(page.iter().map(|s| view::scan(s).to_string()).collect())
    }

    async fn cancel(accessor: &Accessor<T, Self>, id: String) -> Result<String, JobError> {
        let (scans, caller) = in_earnest(accessor)?;
        let was = scans.delete(&caller.reach, &parse(&id)?).await.map_err(of_query)?;
        Ok(was.state.as_str().to_owned())
    }
}

pub(super) fn parse(id: &str) -> Result<ScanId, JobError> {
    id.parse().map_err(|_| JobError::Unknown)
}

fn spec_of(spec: wit::JobSpec) -> JobSpec {
    JobSpec {
        manager: spec.manager,
        subject: match spec.subject {
            wit_types::Subject::Project(name) => Subject::Project { name },
            wit_types::Subject::Package(p) => Subject::Package { name: p.name, version: p.version },
        },
        tools: spec.tools,
        probe: spec.probe.map(|p| Probe {
            program: p.program,
            keys: p.keys.into_iter().map(|k| ProbeKey { key: k.key, used_as: use_of(k.used_as) }).collect(),
        }),
        phases: spec.phases.into_iter().map(|p| PhaseSpec { name: p.name, argv: p.argv }).collect(),
        env: spec.env,
        proxy_env: spec.proxy_env,
        package_roots: spec.package_roots,
        manifests: Vec::new(),
        files: spec.files,
    }
}

fn use_of(used: wit::ProbeUse) -> ProbeUse {
    match used {
        wit::ProbeUse::Registry(env) => ProbeUse::Registry { env },
        wit::ProbeUse::CaFile(env) => ProbeUse::CaFile { env },
        wit::ProbeUse::Folder((env, marker)) => ProbeUse::Folder { env, marker },
    }
}

fn of_submit(error: SubmitError) -> JobError {
    match error {
        SubmitError::Job(error) => JobError::Refused(error.to_string()),
        SubmitError::QueueFull(_) => JobError::QueueFull(RETRY_SECONDS),
        SubmitError::Stopping => JobError::Stopping,
        SubmitError::Store(error) => of_store(&error),
    }
}

pub(super) fn of_query(error: QueryError) -> JobError {
    match error {
        QueryError::Unknown => JobError::Unknown,
        QueryError::Store(error) => of_store(&error),
    }
}

fn of_store(error: &StoreError) -> JobError {
    match error {
        StoreError::Full => JobError::DiskFull,
        StoreError::Failed(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "the store failed");
            JobError::Failed
        }
    }
}
