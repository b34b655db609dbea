//! The nodes that are not there: each pod that the Job controller makes is set running, sent to the host's door, and set
//! succeeded, as a kubelet would have it. So many at a time, once they may.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::pod::{Given, attend};

#[derive(Clone)]
pub(super) struct Nodes {
    pods: Api<Pod>,
    at_once: Arc<Semaphore>,
    /// A kubelet asks the API server about as much as its limits allow, and so do these.
    asking: Arc<Semaphore>,
    phase: Duration,
    seen: Arc<AtomicUsize>,
    over: Arc<AtomicUsize>,
}

/// Of one pod, from its place to its end.
const POD: Duration = Duration::from_secs(300);
const ASKING: usize = 32;

impl Nodes {
    pub(super) fn new(client: Client, namespace: &str, at_once: usize, phase: Duration) -> Self {
        let pods = Api::namespaced(client, namespace);
        let (at_once, asking) = (Arc::new(Semaphore::new(at_once)), Arc::new(Semaphore::new(ASKING)));
        Self { pods, at_once, asking, phase, seen: Arc::default(), over: Arc::default() }
    }

    /// Pods that were made, and that came to their end.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.seen.load(Ordering::Relaxed), self.over.load(Ordering::Relaxed))
    }

    /// For as long as it is polled; the first pod that fails ends it.
    pub(super) async fn run(self, open: watch::Receiver<bool>) -> Result<()> {
        let mut events = pin!(watcher(self.pods.clone(), watcher::Config::default()));
        let (mut known, mut running) = (HashSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                event = events.next() => {
                    let (Event::Apply(pod) | Event::InitApply(pod)) = event.context("the watch ended")?? else { continue };
                    let uid = pod.metadata.uid.clone().context("a pod without uid")?;
                    if known.insert(uid) {
                        self.seen.fetch_add(1, Ordering::Relaxed);
                        running.spawn(self.clone().pod(pod, open.clone()));
                    }
                }
                Some(ended) = running.join_next() => ended??,
            }
        }
    }

    async fn pod(self, pod: Pod, mut open: watch::Receiver<bool>) -> Result<()> {
        let name = pod.metadata.name.clone().context("a pod without name")?;
        open.wait_for(|open| *open).await?;
        let place = self.at_once.acquire().await?;
        let given = given(&pod)?;
        // A kubelet tells of a container when it gets to it, and the container does not wait for that.
        let run = async {
            let running = self.patch(&name, "Running", json!({ "running": {} }));
            let (told, attended) = tokio::join!(running, attend(&given, self.phase));
            told.and(attended)
        };
        let result = tokio::time::timeout(POD, run).await.context("it takes too long").and_then(|r| r);
        result.with_context(|| format!("the pod {name}"))?;
        drop(place);
        self.over.fetch_add(1, Ordering::Relaxed);
        self.patch(&name, "Succeeded", json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }))
            .await
    }

    async fn patch(&self, name: &str, phase: &str, state: Value) -> Result<()> {
        let _turn = self.asking.acquire().await?;
        let container = json!({ "name": "package", "image": "", "imageID": "", "ready": phase == "Running",
                                "restartCount": 0, "state": state });
        let status = json!({ "status": { "phase": phase, "containerStatuses": [container] } });
        match self.pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
            Ok(_) => Ok(()),
            // The scan was over, and its Job was deleted with all that it had.
            Err(kube::Error::Api(status)) if status.reason == "NotFound" => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn given(pod: &Pod) -> Result<Given> {
    let container =
        pod.spec.as_ref().and_then(|s| s.containers.first()).context("a pod without container")?;
    let env = container.env.iter().flatten();
    let value = |name: &str| {
        let value = env.clone().find(|v| v.name == name).and_then(|v| v.value.clone());
        value.with_context(|| format!("the pod is not given {name}"))
    };
    let args = container.command.iter().flatten().map(String::as_str).collect::<Vec<_>>();
    ensure!(args.ends_with(&["pod", "run"]), "the pod runs {args:?}");
    Ok(Given {
        url: value("LANNER_POD_URL")?,
        authority: value("LANNER_POD_AUTHORITY")?,
        token: value("LANNER_POD_TOKEN")?,
    })
}
