//! The host in a cluster, asked from a desk: the current kubeconfig finds its pod, and the API server carries the connection
//! there, as for `kubectl port-forward`. No address of the host is needed, and nothing listens here.

use std::path::PathBuf;
use std::pin::pin;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Config, ResourceExt};
use serde_json::Value;

use super::answer;
use super::remote::{problem, secret_in};
use crate::http::Body;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum On {
    /// By the host that is installed in the cluster of the current kubeconfig
    Kubernetes,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ClusterArgs {
    /// The namespace that the chart was installed in
    #[arg(long, value_name = "NAME", default_value = "lanner", requires = "on")]
    namespace: String,
    /// The chart's release, where the namespace has more than one
    #[arg(long, value_name = "NAME", requires = "on")]
    release: Option<String>,
    /// A file with the credential's secret; the chart's own credentials otherwise, if they may be read
    #[arg(long, value_name = "FILE", requires = "on", conflicts_with = "service_account")]
    token_file: Option<PathBuf>,
    /// Come as this service account of the namespace, by a token that is asked for now
    #[arg(long, value_name = "NAME", requires = "on")]
    service_account: Option<String>,
}

/// Of tokens that are asked for: the host's audience, and longer than a scan may take.
const AUDIENCE: &str = "lanner";
const TOKEN_SECONDS: i64 = 3600;
/// Credentials of the chart that may submit, in this order.
const NAMES: [&str; 2] = ["submit", "admin"];
/// More of them are not looked through.
const PAGE: u32 = 100;

pub(in crate::cli) struct InCluster {
    pub(in crate::cli) client: Client,
    pub(in crate::cli) namespace: String,
    selector: String,
    authorization: String,
}

impl InCluster {
    pub(in crate::cli) async fn find(args: &ClusterArgs) -> anyhow::Result<Self> {
        let mut found = Self::anonymous(args).await?;
        let secret = found.credential(args).await?;
        found.authorization = format!("Bearer {secret}");
        Ok(found)
    }

    /// Without a credential of the host.
    pub(in crate::cli) async fn anonymous(args: &ClusterArgs) -> anyhow::Result<Self> {
        let config = Config::infer().await.context("there is no kubeconfig, and this is no pod")?;
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        let release = args
            .release
            .as_ref()
            .map(|name| format!(",app.kubernetes.io/instance={name}"))
            .unwrap_or_default();
        let selector = format!("app.kubernetes.io/name=lanner{release}");
        Ok(Self { client, namespace: args.namespace.clone(), selector, authorization: String::new() })
    }

    async fn credential(&self, args: &ClusterArgs) -> anyhow::Result<String> {
        if let Some(file) = &args.token_file {
            return secret_in(file);
        }
        match &args.service_account {
            Some(account) => self.token(account).await,
            None => self.chart_credential().await,
        }
    }

    async fn token(&self, account: &str) -> anyhow::Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        };
        let asked = TokenRequest { spec, ..TokenRequest::default() };
        let given = accounts.create_token_request(account, &PostParams::default(), &asked).await;
        let given = given.with_context(|| format!("no token is given for the service account {account}"))?;
        Ok(given.status.context("the API server gave an empty token")?.token)
    }

    async fn chart_credential(&self) -> anyhow::Result<String> {
        let help = "give a credential with --token-file, or come as a --service-account";
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let labelled = ListParams::default().labels(&self.selector).limit(PAGE);
        let found = secrets.list(&labelled).await;
        let found = found.with_context(|| format!("the chart's credentials cannot be read: {help}"))?.items;
        let credentials = found.into_iter().filter(|secret| secret.name_any().ends_with("-credentials"));
        let data: Vec<_> = credentials.filter_map(|secret| secret.data).collect();
        let [data] = data.as_slice() else {
            bail!(
                "{} releases have credentials in {}: say which with --release, or {help}",
                data.len(),
                self.namespace
            );
        };
        let secret = NAMES.iter().find_map(|name| data.get(*name));
        let secret = secret.with_context(|| format!("no credential is called submit or admin: {help}"))?;
        String::from_utf8(secret.0.clone()).context("the chart's credential is no text")
    }

    /// The host's pod that is ready.
    pub(in crate::cli) async fn host(&self) -> anyhow::Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let labels = format!("{},app.kubernetes.io/component=host", self.selector);
        let found = pods.list(&ListParams::default().labels(&labels).limit(PAGE)).await;
        let found = found.with_context(|| format!("the pods of {} cannot be listed", self.namespace))?;
        let ready: Vec<Pod> = found.items.into_iter().filter(is_ready).collect();
        match <[Pod; 1]>::try_from(ready) {
            Ok([pod]) => Ok(pod),
            Err(none) if none.is_empty() => bail!(
                "no pod of a host is ready in the namespace {}: is the chart installed there? see --namespace",
                self.namespace
            ),
            Err(more) => {
                bail!("{} hosts are ready in {}: say which with --release", more.len(), self.namespace)
            }
        }
    }

    /// One request on a connection of its own; `read` takes the answer.
    pub(in crate::cli) async fn exchange<T>(
        &self,
        mut request: http::Request<Body>,
        read: impl AsyncFnOnce(http::Response<Incoming>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let host = self.host().await?;
        let (pod, port) = (host.name_any(), port(&host).context("the host's pod has no port called http")?);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let forward = pods.portforward(&pod, &[port]).await;
        let mut forward = forward.with_context(|| format!("no connection to the pod {pod}"))?;
        let stream = forward.take_stream(port).context("the connection to the pod has no stream")?;
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, http::HeaderValue::from_static("lanner"));
        if !self.authorization.is_empty() {
            let value = self.authorization.parse().context("the credential has characters that none has")?;
            headers.insert(http::header::AUTHORIZATION, value);
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut work = pin!(async {
            let response = sender.send_request(request).await.context("the host did not answer")?;
            read(response).await
        });
        let mut connection = pin!(connection);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                // What it has brought is still to be read.
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    }

    pub(in crate::cli) async fn ask(
        &self,
        request: http::Request<Body>,
    ) -> anyhow::Result<(http::StatusCode, Value)> {
        self.exchange(request, async |response| answer::read(response, "the answer").await).await
    }

    pub(in crate::cli) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(path).body(Body::default())?;
        match self.ask(request).await? {
            (http::StatusCode::OK, document) => Ok(document),
            (status, document) => bail!("{}", problem(status, &document)),
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_going = pod.metadata.deletion_timestamp.is_some();
    !is_going && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn port(pod: &Pod) -> Option<u16> {
    let ports = pod.spec.as_ref()?.containers.iter().flat_map(|c| c.ports.iter().flatten());
    let http = ports.into_iter().find(|port| port.name.as_deref() == Some("http"))?;
    http.container_port.try_into().ok()
}
