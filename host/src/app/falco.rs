//! Falco's doors, opened as configured: the listener, the subscriptions, and the pump behind them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use super::Host;
use crate::config::{Config, FalcoConfig, FalcoInstance};
use crate::intake::grpc::{self, Address, Instance};
use crate::intake::pods::{Pods, follow_pods};
use crate::intake::webhook::{Lock, Webhook};
use crate::intake::{self, Intake};
use crate::net::tls::Tls;
use crate::net::{self, Bounds};
use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};

const PUMP: TaskKind = TaskKind { name: "intake", on_error: OnError::Stop, on_stop: OnStop::Finish };
const ALERTS: TaskKind =
    TaskKind { name: "intake listener", on_error: OnError::Stop, on_stop: OnStop::Finish };
const SUBSCRIBER: TaskKind =
    TaskKind { name: "falco subscriber", on_error: OnError::Stop, on_stop: OnStop::Abort };

/// Falco keeps its connection for hours of quiet, and a scan whose connection was closed has lost its witness.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The intake's listener, bound, and who may come in.
pub(super) struct Entrance {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    lock: Lock,
}

pub(super) async fn entrance(config: &Config) -> anyhow::Result<Option<Entrance>> {
    let config = &config.intake;
    let Some(address) = config.listen else { return Ok(None) };
    let certified = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let lock = Lock::load(config.secret_file.as_deref(), config.allow.clone(), certified, address)?;
    let tls = config.tls.clone().map(Tls::load).transpose().context("intake.tls is not right")?;
    let listener = net::bind(address, "intake.listen").await?;
    Ok(Some(Entrance { listener, tls: tls.map(Arc::new), lock }))
}

pub(super) fn pump(host: &Host, supervisor: &Supervisor) -> Intake {
    let intake = Intake::new(intake::Bounds::default());
    supervisor.spawn(PUMP, intake.clone().run(host.scans.clone(), supervisor.stop().clone()));
    intake
}

pub(super) fn listen(
    config: &Config,
    intake: &Intake,
    supervisor: &Supervisor,
    entrance: Entrance,
) -> anyhow::Result<()> {
    let Entrance { listener, tls, lock } = entrance;
    tracing::info!(address = %listener.local_addr()?, "taking in alerts");
    let bounds = Bounds {
        connections: config.intake.connections.unwrap_or(256),
        head: IDLE,
        pause: config.http.body_pause,
    };
    let webhook = Arc::new(Webhook::new(intake.clone(), lock));
    let answer = move |request| {
        let webhook = webhook.clone();
        async move { webhook.answer(request).await }
    };
    supervisor.spawn(ALERTS, net::serve(listener, tls, bounds, supervisor.clone(), answer));
    Ok(())
}

pub(super) fn subscribe(instances: Vec<Instance>, intake: &Intake, supervisor: &Supervisor) {
    for instance in instances {
        supervisor.spawn(SUBSCRIBER, grpc::follow(instance, intake.clone()));
    }
}

/// Follows the Falcos of a DaemonSet, where that is configured.
pub(super) async fn discover(
    config: &FalcoConfig,
    intake: &Intake,
    supervisor: &Supervisor,
) -> anyhow::Result<()> {
    let Some(pods) = &config.pods else { return Ok(()) };
    let client = kube::Client::try_default().await.context(
        "falco.pods needs a Kubernetes API server: run in a pod with a service account, or with a kubeconfig",
    )?;
    let pods = Pods {
        namespace: pods.namespace.clone().unwrap_or_else(|| "falco".into()),
        labels: pods.labels.clone().unwrap_or_else(|| "app.kubernetes.io/name=falco".into()),
        port: pods.port.unwrap_or(5060),
        server_name: pods.server_name.clone(),
        ca: pods.ca_file.clone(),
        certificate: pods.certificate_file.clone(),
        key: pods.key_file.clone(),
    };
    tracing::info!(namespace = pods.namespace, labels = pods.labels, "following Falco's pods");
    let following = follow_pods(client, pods, intake.clone(), supervisor.clone());
    supervisor.spawn(SUBSCRIBER, following);
    Ok(())
}

pub(super) fn instances(configured: &[FalcoInstance]) -> anyhow::Result<Vec<Instance>> {
    let instances: Vec<Instance> = configured.iter().map(instance).collect::<anyhow::Result<_>>()?;
    for (at, one) in instances.iter().enumerate() {
        if instances.iter().skip(at + 1).any(|other| other.name == one.name) {
            bail!("falco.instances has two of the name {:?}: give each its own", one.name);
        }
    }
    Ok(instances)
}

fn instance(configured: &FalcoInstance) -> anyhow::Result<Instance> {
    let FalcoInstance { name, address, .. } = configured;
    if !intake::is_name(name) {
        bail!(
            "the name {name:?} in falco.instances is not one: letters, digits, dots, colons and hyphens, at most 100"
        );
    }
    let file = |file: &Option<std::path::PathBuf>, key: &str| {
        file.clone().with_context(|| format!("falco.instances: {name} speaks TLS and needs {key}"))
    };
    let address = if let Some(path) = address.strip_prefix("unix://") {
        Address::Unix(path.into())
    } else if address.starts_with("https://") {
        Address::Tcp {
            url: address.clone(),
            server_name: configured.server_name.clone(),
            ca: file(&configured.ca_file, "ca_file")?,
            certificate: file(&configured.certificate_file, "certificate_file")?,
            key: file(&configured.key_file, "key_file")?,
        }
    } else {
        bail!("the address {address:?} in falco.instances is neither unix:///PATH nor https://HOST:PORT");
    };
    Ok(Instance { name: name.clone(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> anyhow::Result<Vec<Instance>> {
        let file: crate::config::File = toml::from_str(text)?;
        instances(&file.falco.instances)
    }

    #[test]
    fn instances_are_checked_by_name_and_key() {
        let good = "[[falco.instances]]\nname = \"a\"\naddress = \"unix:///run/falco.sock\"\n";
        let address = Address::Unix("/run/falco.sock".into());
        assert_eq!(configured(good).unwrap(), [Instance { name: "a".into(), address }]);
        let rows = [
            (good.repeat(2), "falco.instances has two of the name \"a\": give each its own"),
            (
                good.replace("unix", "tcp"),
                "the address \"tcp:///run/falco.sock\" in falco.instances is neither",
            ),
            (good.replace("unix:///", "https://"), "falco.instances: a speaks TLS and needs ca_file"),
            (good.replace("\"a\"", "\"a b\""), "the name \"a b\" in falco.instances is not one"),
        ];
        for (text, message) in rows {
            let error = configured(&text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
