//! What is asked of the API server about Jobs: made, deleted, and swept at the start of the host. A server that is busy or away is
//! asked again for a while; who runs a scan sees only how it ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use lanner_core::ScanId;
use lanner_core::text::{bounded, chain, escaped};
use lanner_kubernetes::{job, trouble};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(super) struct Jobs {
    api: Api<Job>,
    /// Of our own.
    labels: String,
    /// Calls on their way: each has a connection of its own, and a server that is asked too much says no.
    calls: Semaphore,
    pace: Pace,
    /// Names of those that may be there, though whoever asked for them has been told that they are not.
    doubtful: Mutex<Vec<String>>,
}

#[derive(Clone, Copy)]
struct Pace {
    /// So often a server is asked again.
    again: Duration,
    /// For so long to create a Job, by one that does not answer.
    create: Duration,
    /// For so long to delete one, which goes by its deadline and its ttl otherwise.
    delete: Duration,
}

const PACE: Pace =
    Pace { again: Duration::from_secs(5), create: Duration::from_secs(30), delete: Duration::from_secs(30) };
/// What the API server says of a ResourceQuota that is used up.
const QUOTA: &str = "exceeded quota";
/// Of what it says, in bytes.
const MAX_SHOWN: usize = 500;
/// Calls at the same time.
const CALLS: usize = 32;
/// An API server that accepts a call answers it, or is asked again.
const ANSWER: Duration = Duration::from_secs(30);

impl Jobs {
    pub(super) fn new(client: Client, namespace: &str, instance: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        let (labels, calls) = (job::selector(instance), Semaphore::new(CALLS));
        Self { api, labels, calls, pace: PACE, doubtful: Mutex::default() }
    }

    /// Whether it is suspended: then it is for the cluster to say when it begins. No other has its name. Where it may have been made though no answer says so, it is deleted before the next one is asked for.
    pub(super) async fn create(&self, manifest: &Job) -> Result<bool, No> {
        self.clear_doubtful().await?;
        let mut is_doubtful = false;
        let answer = self.until(self.pace.create, &Call::Create(manifest), &mut is_doubtful).await;
        if let (Err(_), true, Some(name)) = (&answer, is_doubtful, &manifest.metadata.name) {
            self.doubtful().push(name.clone());
        }
        answer
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), No> {
        self.until(self.pace.delete, &Call::Delete(name), &mut false).await.map(drop)
    }

    pub(super) async fn delete_all_of(&self, scan: &ScanId) -> Result<(), No> {
        let labels = job::selector_of(scan);
        self.until(self.pace.delete, &Call::DeleteAll(&labels), &mut false).await.map(drop)
    }

    async fn clear_doubtful(&self) -> Result<(), No> {
        let names = self.doubtful().clone();
        for name in names {
            self.once(&Call::Delete(&name)).await?;
            self.doubtful().retain(|other| *other != name);
        }
        Ok(())
    }

    fn doubtful(&self) -> MutexGuard<'_, Vec<String>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes those of an earlier life that belong to nobody.
    pub(super) async fn sweep(&self, kept: &[String]) -> Result<(), No> {
        if kept.is_empty() {
            return self.once(&Call::DeleteAll(&self.labels)).await.map(drop);
        }
        let ours = ListParams::default().labels(&self.labels);
        for job in answered(self.api.list_metadata(&ours)).await? {
            let name = job.metadata.name.unwrap_or_default();
            if !kept.contains(&name) {
                self.once(&Call::Delete(&name)).await?;
            }
        }
        Ok(())
    }

    /// Whether what it made is suspended. What is so already is done.
    async fn once(&self, call: &Call<'_>) -> Result<bool, No> {
        let _place = self.calls.acquire().await;
        let background = DeleteParams::background();
        let answer = match call {
            Call::Create(job) => {
                let made = answered(self.api.create(&PostParams::default(), job)).await;
                made.map(|job| trouble::is_suspended(&job))
            }
            Call::Delete(name) => answered(self.api.delete(name, &background)).await.map(|_| false),
            Call::DeleteAll(labels) => {
                let labels = ListParams::default().labels(labels);
                answered(self.api.delete_collection(&background, &labels)).await.map(|_| false)
            }
        };
        answer.or_else(|why| if call.is_done(&why) { Ok(false) } else { Err(why) })
    }

    /// Asks until it is done, or asking again is of no use or takes longer than `within`. `is_doubtful`: it may have been done by a
    /// call that has no answer.
    async fn until(&self, within: Duration, call: &Call<'_>, is_doubtful: &mut bool) -> Result<bool, No> {
        let deadline = Instant::now() + within;
        loop {
            let why = match self.once(call).await {
                Ok(is_suspended) => return Ok(is_suspended),
                Err(why) => why,
            };
            *is_doubtful |= why.is_unclear();
            if !call.is_asked_again(&why) || Instant::now() + self.pace.again > deadline {
                return Err(why);
            }
            tracing::warn!(why = why.text(), "the API server does not answer, or is busy: it is asked again");
            tokio::time::sleep(self.pace.again).await;
        }
    }
}

enum Call<'a> {
    Create(&'a Job),
    Delete(&'a str),
    /// By labels.
    DeleteAll(&'a str),
}

impl Call<'_> {
    /// By an earlier call.
    fn is_done(&self, why: &No) -> bool {
        match self {
            Self::Create(_) => why.is("AlreadyExists"),
            Self::Delete(_) => why.is("NotFound"),
            Self::DeleteAll(_) => false,
        }
    }

    /// Who wants to create one can wait in the queue as soon as the server has said no.
    fn is_asked_again(&self, why: &No) -> bool {
        match self {
            Self::Create(_) => why.is_unclear(),
            Self::Delete(_) | Self::DeleteAll(_) => why.passes(),
        }
    }
}

/// An API server that did not do what it was asked.
pub(super) enum No {
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
    pub(super) fn passes(&self) -> bool {
        let quota = matches!(self, Self::Error(kube::Error::Api(status))
            if status.code == 403 && status.message.contains(QUOTA));
        let is_busy =
            matches!(self, Self::Error(kube::Error::Api(status)) if matches!(status.code, 409 | 429));
        quota || is_busy || self.is_unclear()
    }

    /// It may have been done all the same.
    fn is_unclear(&self) -> bool {
        match self {
            Self::Error(kube::Error::Api(status)) => status.code >= 500,
            Self::Error(kube::Error::Service(_) | kube::Error::HyperError(_)) | Self::Silent => true,
            Self::Error(_) => false,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            // With the name of the Job before it, which is another each time.
            Self::Error(kube::Error::Api(status)) => {
                let message = status.message.as_str();
                let quota = message.find(QUOTA).and_then(|at| message.get(at..));
                bounded(&escaped(quota.unwrap_or(message)), MAX_SHOWN)
            }
            Self::Error(error) => bounded(&escaped(&chain(error)), MAX_SHOWN),
            Self::Silent => format!("the API server did not answer within {} s", ANSWER.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests;
