//! What is asked of the API server about Jobs: made, deleted, and swept at the start of the host. A server that is busy or away,
//! or a quota that is used up, is asked again for a while; who runs a scan sees only how it ended.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use lanner_core::ScanId;
use lanner_core::text::chain;
use lanner_kubernetes::job;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(super) struct Jobs {
    api: Api<Job>,
    /// Of our own.
    labels: String,
    /// Calls on their way: each has a connection of its own, and a server that is asked too much says no.
    calls: Semaphore,
}

/// Calls at the same time.
const CALLS: usize = 32;
/// An API server that accepts a call answers it, or is asked again.
const ANSWER: Duration = Duration::from_secs(30);
/// So often it is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// For so long to delete a Job, which goes by its deadline and its ttl otherwise.
const DELETE: Duration = Duration::from_secs(30);

impl Jobs {
    pub(super) fn new(client: Client, namespace: &str, instance: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, labels: job::selector(instance), calls: Semaphore::new(CALLS) }
    }

    /// The scan is in no hurry, and has a place. One that is there already is an answer that got lost, and a Job that did not.
    pub(super) async fn create(&self, manifest: &Job, within: Duration) -> Result<(), No> {
        let call = async || self.api.create(&PostParams::default(), manifest).await;
        self.until(within, "AlreadyExists", "a Job cannot be created yet", call).await
    }

    pub(super) async fn delete(&self, scan: &ScanId) -> Result<(), No> {
        let (name, background) = (job::name(scan), DeleteParams::background());
        let call = async || self.api.delete(&name, &background).await;
        self.until(DELETE, "NotFound", "a Job cannot be deleted yet", call).await
    }

    /// Deletes those of an earlier life that belong to nobody.
    pub(super) async fn sweep(&self, kept: &[String]) -> Result<(), No> {
        let ours = ListParams::default().labels(&self.labels);
        let background = DeleteParams::background();
        if kept.is_empty() {
            return answered(self.api.delete_collection(&background, &ours)).await.map(drop);
        }
        for job in answered(self.api.list_metadata(&ours)).await? {
            let name = job.metadata.name.unwrap_or_default();
            if !kept.contains(&name) {
                answered(self.api.delete(&name, &background)).await?;
            }
        }
        Ok(())
    }

    /// Asks until it is done, which the reason `done` says too, or asking again is of no use or takes longer than `within`.
    async fn until<T>(
        &self,
        within: Duration,
        done: &str,
        not_yet: &str,
        call: impl AsyncFn() -> kube::Result<T>,
    ) -> Result<(), No> {
        let deadline = Instant::now() + within;
        loop {
            let place = self.calls.acquire().await;
            let answer = answered(call()).await;
            drop(place);
            let why = match answer {
                Ok(_) => return Ok(()),
                Err(why) if why.is(done) => return Ok(()),
                Err(why) => why,
            };
            if !why.passes() || Instant::now() + AGAIN > deadline {
                return Err(why);
            }
            tracing::warn!(why = why.text(), "{not_yet}");
            tokio::time::sleep(AGAIN).await;
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

    pub(super) fn text(&self) -> String {
        match self {
            Self::Error(error) => lanner_core::text::escaped(&chain(error)),
            Self::Silent => format!("the API server did not answer within {} s", ANSWER.as_secs()),
        }
    }
}
