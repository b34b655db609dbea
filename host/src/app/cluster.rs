//! Scans as Jobs of a cluster, as configured: the client, the door for pods, the watches, and the runner over them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lanner_kubernetes::job;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::config::{BucketConfig, Config, KubernetesConfig};
use crate::net::{self, places::places};
use crate::runner::Terms;
use crate::runner::kubernetes::board::Board;
use crate::runner::kubernetes::bucket::{self, Bucket};
use crate::runner::kubernetes::door::Door;
use crate::runner::kubernetes::{self, KubernetesRunner};
use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};

const DOOR: TaskKind = TaskKind { name: "door for pods", on_error: OnError::Stop, on_stop: OnStop::Abort };
const JOBS: TaskKind = TaskKind { name: "watch of Jobs", on_error: OnError::Stop, on_stop: OnStop::Abort };
const PODS: TaskKind = TaskKind { name: "watch of pods", on_error: OnError::Stop, on_stop: OnStop::Abort };
/// A pod has one connection, and comes by a new one before the old is known to be broken.
const CONNECTIONS_A_SCAN: usize = 2;
const LEAST_CONNECTIONS: usize = 1024;
/// Of one connection: the agent's stream, the project, and the package's ways out.
const STREAMS: u32 = 300;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A pod that is gone without a word is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

pub(super) struct Cluster {
    client: kube::Client,
    config: KubernetesConfig,
    door: Door,
    board: Board,
    listener: TcpListener,
    connections: usize,
    server: Server,
}

impl Cluster {
    /// Nothing where scans run on this machine.
    pub(super) async fn connect(config: &Config, stop: &CancellationToken) -> anyhow::Result<Option<Self>> {
        let connections = config.parallel.saturating_mul(CONNECTIONS_A_SCAN).max(LEAST_CONNECTIONS);
        let Some(config) = config.kubernetes.clone() else { return Ok(None) };
        let listener = net::bind(config.listen, "kubernetes.listen").await?;
        let identity = Identity::from_pem(read(&config.certificate_file)?, read(&config.key_file)?);
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE))
            .context("kubernetes.certificate_file and key_file cannot be used")?
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(STREAMS);
        let client = kube::Client::try_default().await.context(
            "scans run on Kubernetes and need its API server: run in a pod with a service account, or with a kubeconfig",
        )?;
        let (door, board) = (Door::new(stop.clone()), Board::default());
        Ok(Some(Self { client, config, door, board, listener, connections, server }))
    }

    /// The API server, for others who ask it.
    pub(super) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub(super) fn runner(&self, terms: Terms, allow_hosts: Vec<String>) -> anyhow::Result<KubernetesRunner> {
        let config = &self.config;
        let authority = read(&config.authority_file)?;
        let settings = kubernetes::KubernetesConfig {
            pods: config.pods.clone(),
            instance: config.instance(),
            url: config.url.clone(),
            authority,
            start_deadline: config.start_deadline(),
            // The pod is the sandbox: there are no namespaces to be had in it.
            terms: Terms { isolation: lanner_core::Isolation::Container, ..terms },
            allow_hosts,
            bucket: config.bucket.as_ref().map(bucket).transpose()?,
        };
        Ok(KubernetesRunner::new(settings, self.client.clone(), self.door.clone(), self.board.clone()))
    }

    pub(super) fn start(mut self, supervisor: &Supervisor) -> anyhow::Result<()> {
        let (namespace, labels) =
            (self.config.pods.namespace.clone(), job::selector(&self.config.instance()));
        tracing::info!(address = %self.listener.local_addr()?, namespace, "scans run as Jobs; the door for pods");
        let (board, client) = (self.board, self.client);
        supervisor.spawn(JOBS, board.clone().watch_jobs(client.clone(), namespace.clone(), labels.clone()));
        supervisor.spawn(PODS, board.watch_pods(client, namespace, labels));
        let incoming = places(self.listener, self.connections);
        supervisor.spawn(DOOR, self.server.add_service(self.door.service()).serve_with_incoming(incoming));
        Ok(())
    }
}

/// A line end behind a key does not count.
fn bucket(config: &BucketConfig) -> anyhow::Result<Bucket> {
    let keys = match (&config.access_key_file, &config.secret_key_file) {
        (Some(access), Some(secret)) => {
            Some((read(access)?.trim().to_owned(), read(secret)?.trim().to_owned()))
        }
        _ => None,
    };
    let (name, prefix) = config.place();
    let settings = bucket::BucketConfig {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: config.endpoint.clone(),
        region: config.region.clone(),
        keys,
        authority: config.authority_file.as_deref().map(read).transpose()?,
        allow_http: config.allow_http,
    };
    Ok(Bucket::open(settings)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
