//! Falcos as the pods of a DaemonSet: each that runs is followed for as long as it is there, under its node's name.
//!
//! One watch, of the pods with one label in one namespace; nothing else is asked of the API server, and nothing changed
//! there. How one Falco is followed is `grpc`'s business.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::grpc::{Address, Instance, follow};
use super::{Intake, is_name};
use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};

const FOLLOWER: TaskKind =
    TaskKind { name: "falco subscriber", on_error: OnError::Log, on_stop: OnStop::Abort };

/// Which pods, and how their Falco is spoken to.
#[derive(Clone, Debug)]
pub struct Pods {
    pub namespace: String,
    /// A label selector.
    pub labels: String,
    pub port: u16,
    /// In the certificate of every Falco.
    pub server_name: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The Falcos that there are, by their pods' uids.
#[derive(Debug, Default)]
struct Fleet {
    there: BTreeMap<String, Instance>,
    /// While the watch begins anew: what has been named so far.
    named: Option<BTreeMap<String, Instance>>,
}

/// Watches until the task is stopped. An API server that is away is waited for; who is followed stays so meanwhile.
pub async fn follow_pods(
    client: Client,
    pods: Pods,
    intake: Intake,
    supervisor: Supervisor,
) -> Result<(), Infallible> {
    let api: Api<Pod> = Api::namespaced(client, &pods.namespace);
    let config = watcher::Config::default().labels(&pods.labels);
    let mut events = pin!(watch(api, config).default_backoff());
    let mut fleet = Fleet::default();
    let mut followed: BTreeMap<String, (Instance, CancellationToken)> = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => fleet.apply(event, &pods),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Falco's pods cannot be watched");
                continue;
            }
        }
        followed.retain(|uid, (instance, end)| {
            let stays = fleet.there.get(uid) == Some(instance);
            if !stays {
                end.cancel();
            }
            stays
        });
        for (uid, instance) in &fleet.there {
            if followed.contains_key(uid) {
                continue;
            }
            let end = CancellationToken::new();
            followed.insert(uid.clone(), (instance.clone(), end.clone()));
            let following = follow(instance.clone(), intake.clone());
            supervisor.spawn(FOLLOWER, async move {
                end.run_until_cancelled_owned(following).await.unwrap_or(Ok::<_, Infallible>(()))
            });
        }
    }
    Ok(())
}

impl Fleet {
    fn apply(&mut self, event: Event<Pod>, pods: &Pods) {
        match event {
            Event::Init => self.named = Some(BTreeMap::new()),
            Event::InitApply(pod) => {
                if let (Some(named), Some((uid, Some(instance)))) = (&mut self.named, read(&pod, pods)) {
                    named.insert(uid, instance);
                }
            }
            Event::InitDone => {
                if let Some(named) = self.named.take() {
                    self.there = named;
                }
            }
            Event::Apply(pod) => match read(&pod, pods) {
                Some((uid, Some(instance))) => drop(self.there.insert(uid, instance)),
                Some((uid, None)) => drop(self.there.remove(&uid)),
                None => {}
            },
            Event::Delete(pod) => {
                if let Some(uid) = pod.metadata.uid {
                    self.there.remove(&uid);
                }
            }
        }
    }
}

/// A pod's uid, and its Falco if it can be spoken to.
fn read(pod: &Pod, pods: &Pods) -> Option<(String, Option<Instance>)> {
    let uid = pod.metadata.uid.clone()?;
    let reach = || {
        let status = pod.status.as_ref()?;
        let runs = status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
        let ip: std::net::IpAddr = status.pod_ip.as_ref().filter(|_| runs)?.parse().ok()?;
        let name = pod.spec.as_ref()?.node_name.clone().filter(|name| is_name(name))?;
        let address = Address::Tcp {
            url: format!("https://{}", std::net::SocketAddr::from((ip, pods.port))),
            server_name: Some(pods.server_name.clone()),
            ca: pods.ca.clone(),
            certificate: pods.certificate.clone(),
            key: pods.key.clone(),
        };
        Some(Instance { name, address })
    };
    Some((uid, reach()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> Pods {
        Pods {
            namespace: "falco".into(),
            labels: "app=falco".into(),
            port: 5060,
            server_name: "localhost".into(),
            ca: "ca".into(),
            certificate: "c".into(),
            key: "k".into(),
        }
    }

    fn pod(uid: &str, phase: &str, ip: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": uid, "uid": uid },
            "spec": { "nodeName": format!("node-{uid}"), "containers": [] },
            "status": { "phase": phase, "podIP": ip },
        }))
        .unwrap()
    }

    fn after(events: Vec<Event<Pod>>) -> Vec<(String, String)> {
        let mut fleet = Fleet::default();
        events.into_iter().for_each(|event| fleet.apply(event, &pods()));
        let url = |instance: &Instance| match &instance.address {
            Address::Tcp { url, .. } => url.clone(),
            Address::Unix(_) => unreachable!("pods have addresses"),
        };
        fleet.there.values().map(|i| (i.name.clone(), url(i))).collect()
    }

    fn one(uid: &str, url: &str) -> (String, String) {
        (format!("node-{uid}"), url.to_owned())
    }

    #[test]
    fn a_pod_is_there_from_when_it_runs_until_it_is_to_end() {
        use Event::{Apply, Delete};
        assert_eq!(after(vec![Apply(pod("a", "Pending", "10.0.0.1"))]), []);
        let running = || Apply(pod("a", "Running", "10.0.0.1"));
        assert_eq!(after(vec![running()]), [one("a", "https://10.0.0.1:5060")]);
        assert_eq!(after(vec![Apply(pod("a", "Running", "fd00::1"))]), [one("a", "https://[fd00::1]:5060")]);
        assert_eq!(after(vec![running(), Delete(pod("a", "Running", "10.0.0.1"))]), []);
        assert_eq!(after(vec![running(), Apply(pod("a", "Failed", "10.0.0.1"))]), []);
        let mut ending = pod("a", "Running", "10.0.0.1");
        ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-25T00:00:00Z")).unwrap();
        assert_eq!(after(vec![running(), Apply(ending)]), []);
    }

    #[test]
    fn a_watch_that_begins_anew_forgets_who_is_gone_and_nobody_before_it_is_told() {
        use Event::{Apply, Init, InitApply, InitDone};
        let before = || vec![Apply(pod("a", "Running", "10.0.0.1")), Init];
        assert_eq!(after(before()), [one("a", "https://10.0.0.1:5060")]);
        let mut anew = before();
        anew.extend([InitApply(pod("b", "Running", "10.0.0.2")), InitDone]);
        assert_eq!(after(anew), [one("b", "https://10.0.0.2:5060")]);
    }

    #[test]
    fn what_is_no_address_or_no_name_is_not_followed() {
        assert_eq!(after(vec![Event::Apply(pod("a", "Running", "10.0.0.1/x"))]), []);
        assert_eq!(after(vec![Event::Apply(pod("a b", "Running", "10.0.0.1"))]), []);
    }
}
