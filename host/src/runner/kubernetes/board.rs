//! What the cluster says of our Jobs and their pods: one watch for all Jobs, one for all pods, each by label. Who runs a scan
//! looks here and asks the API server nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_all};
use kube::{Api, Client, Resource};
use lanner_kubernetes::job;
use lanner_kubernetes::trouble::{self, Trouble};
use tokio::sync::watch;

/// By the names of Jobs: a scan may have had one before.
#[derive(Clone, Default)]
pub struct Board {
    jobs: Arc<Mutex<HashMap<String, Told>>>,
}

#[derive(Default)]
struct Told {
    trouble: watch::Sender<Option<Trouble>>,
    is_suspended: watch::Sender<Option<bool>>,
}

/// What the cluster says of one Job, as long as somebody has this.
pub(super) struct Followed {
    board: Board,
    job: String,
    pub(super) trouble: watch::Receiver<Option<Trouble>>,
    /// Nothing until the Job has been seen.
    is_suspended: watch::Receiver<Option<bool>>,
}

impl Followed {
    /// Ends when the Job may begin.
    pub(super) async fn resumed(&mut self) {
        // Its sender lives as long as this does.
        let _ = self.is_suspended.wait_for(|is_suspended| *is_suspended == Some(false)).await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.board.jobs().remove(&self.job);
    }
}

impl Board {
    pub(super) fn follow(&self, job: &str) -> Followed {
        let mut jobs = self.jobs();
        let told = jobs.entry(job.to_owned()).or_default();
        let (trouble, is_suspended) = (told.trouble.subscribe(), told.is_suspended.subscribe());
        Followed { board: self.clone(), job: job.to_owned(), trouble, is_suspended }
    }

    /// The first final word stays; before it the latest counts, and nothing, once it has passed.
    fn note(&self, job: &str, trouble: Option<Trouble>) {
        if let Some(told) = self.jobs().get(job) {
            told.trouble.send_if_modified(|last| {
                let news = last.as_ref().is_none_or(|l| !l.is_final) && *last != trouble;
                if news {
                    let sentence = trouble.as_ref().map_or("it goes its way", |t| t.sentence.as_str());
                    tracing::info!(job, sentence, "the cluster says of a scan's Job");
                    *last = trouble;
                }
                news
            });
        }
    }

    fn note_suspended(&self, job: &str, is_suspended: bool) {
        if let Some(told) = self.jobs().get(job) {
            told.is_suspended.send_replace(Some(is_suspended));
        }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn watch_jobs(
        self,
        client: Client,
        namespace: String,
        labels: String,
    ) -> Result<(), Infallible> {
        let gone = "the Job was deleted by somebody else";
        let of = |job: &Job| {
            if let Some(name) = &job.metadata.name {
                self.note_suspended(name, trouble::is_suspended(job));
            }
            trouble::of_job(job)
        };
        self.watch(Api::<Job>::namespaced(client, &namespace), &labels, of, gone, false).await
    }

    pub async fn watch_pods(
        self,
        client: Client,
        namespace: String,
        labels: String,
    ) -> Result<(), Infallible> {
        let gone = "the pod was deleted while it ran";
        self.watch(Api::<Pod>::namespaced(client, &namespace), &labels, trouble::of_pod, gone, true).await
    }

    /// Until the task is stopped. An API server that is away is waited for. `clears`: no trouble is news, too.
    async fn watch<K>(
        &self,
        api: Api<K>,
        labels: &str,
        of: impl Fn(&K) -> Option<Trouble>,
        gone: &str,
        clears: bool,
    ) -> Result<(), Infallible>
    where
        K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let config = watcher::Config::default().labels(labels);
        let mut events = pin!(watch_all(api, config).default_backoff());
        while let Some(event) = events.next().await {
            let (object, trouble) = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    let trouble = of(&object);
                    (object, trouble)
                }
                Ok(Event::Delete(object)) => {
                    (object, Some(Trouble { sentence: gone.to_owned(), is_final: true }))
                }
                Ok(Event::Init | Event::InitDone) => continue,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the Jobs of scans cannot be watched");
                    continue;
                }
            };
            let its = object.meta();
            let job = its.labels.as_ref().and_then(|labels| labels.get(job::JOB_NAME)).or(its.name.as_ref());
            // A Job without trouble says nothing of its pod's, which passes by itself or is told by the pod.
            if let Some(job) = job.filter(|_| trouble.is_some() || clears) {
                self.note(job, trouble);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[test]
    fn the_first_final_word_stays() {
        let board = Board::default();
        let told = board.follow("lanner-1");
        let last = || told.trouble.borrow().clone();
        let trouble = |text: &str, is_final| Trouble { sentence: text.into(), is_final };
        board.note("lanner-2", Some(trouble("not ours", true)));
        assert_eq!(last(), None);
        board.note("lanner-1", Some(trouble("waits", false)));
        assert_eq!(last(), Some(trouble("waits", false)));
        board.note("lanner-1", None);
        assert_eq!(last(), None);
        board.note("lanner-1", Some(trouble("killed", true)));
        board.note("lanner-1", None);
        board.note("lanner-1", Some(trouble("deleted", true)));
        assert_eq!(last(), Some(trouble("killed", true)));
        drop(told);
        assert!(board.jobs().is_empty());
        board.note_suspended("lanner-1", false);
        board.note("lanner-1", Some(trouble("late", true)));
        assert_eq!(*board.follow("lanner-1").trouble.borrow(), None);
    }

    #[tokio::test]
    async fn one_that_is_suspended_is_waited_for() {
        let board = Board::default();
        let mut followed = board.follow("lanner-1");
        let mut resumed = pin!(followed.resumed());
        assert_eq!(futures::poll!(&mut resumed), Poll::Pending, "nothing is known of it");
        board.note_suspended("lanner-1", true);
        board.note_suspended("lanner-2", false);
        assert_eq!(futures::poll!(&mut resumed), Poll::Pending);
        board.note_suspended("lanner-1", false);
        assert_eq!(futures::poll!(&mut resumed), Poll::Ready(()));
    }
}
