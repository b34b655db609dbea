//! What runs in a scan's pod beside the agent (`lanner pod`): it comes to the host's door by the scan's token, finds the
//! package manager, fetches the project, starts the agent, and carries its stream and the package's way out.
//!
//! It is the host's hand in the pod and decides nothing. The package runs beside it under the same user: what keeps them apart
//! is what keeps the package from the agent (Landlock), and the token is worth nothing once it was used.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lanner_core::Probe;
use lanner_core::text::chain;
use lanner_proto::pod::pod_client::PodClient;
use lanner_proto::pod::{Asked, Chunk, Found, FromPod, Registry, SourceRequest, ToPod, Variable};
use lanner_proto::pod::{from_pod, to_pod};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Status, Streaming};

use super::door::MAX_MESSAGE;
use super::pieces::pieces;
use crate::runner::{local, proxy};

/// What the Job's manifest gives to the pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub url: String,
    /// In PEM.
    pub authority: String,
    pub token: String,
    pub work_dir: PathBuf,
    /// This program.
    pub program: PathBuf,
    pub env: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error("{0} is no address of a host")]
    NoAddress(String),
    #[error("the host's address {0} is none")]
    Address(String, #[source] tonic::transport::Error),
    #[error("the host cannot be reached at {0}")]
    Unreached(String, #[source] tonic::transport::Error),
    #[error("the host said no")]
    Refused(#[source] Box<Status>),
    #[error("the host asked nothing")]
    Unasked,
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
}

/// The host may be starting anew while pods come up.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);
/// How long the host may take to close the stream once the agent has.
const CLOSE: Duration = Duration::from_secs(20);

type Client = PodClient<Channel>;

/// Until the agent has ended.
pub async fn attend(pod: Pod) -> Result<(), PodError> {
    let mut client = PodClient::new(reached(&pod).await?).max_decoding_message_size(MAX_MESSAGE);
    let (up, messages) = mpsc::channel(16);
    let call = with(ReceiverStream::new(messages), &pod.token);
    let mut orders = client.attend(call).await.map_err(refused)?.into_inner();
    let Some(ToPod { body: Some(to_pod::Body::Asked(asked)) }) = orders.message().await.map_err(refused)?
    else {
        return Err(PodError::Unasked);
    };
    let socket = pod.work_dir.join("proxy");
    let listener = proxy::listen(&socket).map_err(|e| PodError::Io("the way out cannot be made", e))?;
    let found = match found(&mut client, &pod, &asked, &socket).await {
        Ok(found) => found,
        Err(why) => Found { refused: why, ..Found::default() },
    };
    let is_refused = !found.refused.is_empty();
    let _ = up.send(FromPod { body: Some(from_pod::Body::Found(found)) }).await;
    if is_refused {
        drop(up);
        // Until it was read.
        let _ = tokio::time::timeout(CLOSE, orders.message()).await;
        return Ok(());
    }
    let ways = async {
        let mut open = FuturesUnordered::new();
        let mut incoming = std::pin::pin!(proxy::accepted(&listener));
        loop {
            tokio::select! {
                Some(stream) = incoming.next() => open.push(way_out(client.clone(), &asked.key, stream)),
                Some(()) = open.next() => {}
            }
        }
    };
    tokio::select! {
        carried = carried(&pod, up, orders) => carried,
        () = ways => Ok(()),
    }
}

async fn reached(pod: &Pod) -> Result<Channel, PodError> {
    let address = |e| PodError::Address(pod.url.clone(), e);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pod.authority));
    let endpoint = Channel::from_shared(pod.url.clone())
        .map_err(|_| PodError::NoAddress(pod.url.clone()))?
        .tls_config(tls)
        .map_err(address)?
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let begun = tokio::time::Instant::now();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(PodError::Unreached(pod.url.clone(), error));
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Everything that the host wants to know before the agent starts, or why it cannot.
async fn found(client: &mut Client, pod: &Pod, asked: &Asked, socket: &Path) -> Result<Found, String> {
    let probe: Option<Probe> = match asked.probe.as_str() {
        "" => None,
        probe => Some(serde_json::from_str(probe).map_err(|e| format!("the probe cannot be read: {e}"))?),
    };
    let folder = pod.work_dir.join(lanner_kubernetes::job::SCAN_FOLDER);
    local::private_dir(&folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    let found = local::find(&asked.tools, probe.as_ref(), &pod.env, &folder).await.map_err(|e| chain(&e))?;
    let source = pod.work_dir.join("source.tgz");
    if asked.source {
        fetch(client, &asked.key, &source)
            .await
            .map_err(|e| format!("the project did not come: {}", chain(&e)))?;
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let registry = |(host, port): (String, u16)| Registry { host, port: port.into() };
    Ok(Found {
        refused: String::new(),
        path: found.path,
        dirs: found.dirs,
        files: found.files,
        env: found.env.into_iter().map(|(name, value)| Variable { name, value }).collect(),
        registries: found.registries.into_iter().map(registry).collect(),
        proxy_socket: text(socket),
        source_path: if asked.source { text(&source) } else { String::new() },
        work_dir: text(&folder),
    })
}

async fn fetch(client: &mut Client, key: &str, to: &Path) -> Result<(), PodError> {
    let failed = |e| PodError::Io("it cannot be written", e);
    let mut file =
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let call = with(SourceRequest {}, key);
    let mut pieces = client.source(call).await.map_err(refused)?.into_inner();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        file.write_all(&piece.bytes).map_err(failed)?;
    }
    Ok(())
}

/// The agent's stream in both directions, until the agent closes it; then until the host has read it all.
async fn carried(pod: &Pod, up: mpsc::Sender<FromPod>, mut orders: Streaming<ToPod>) -> Result<(), PodError> {
    let mut agent = local::agent(&pod.program).map_err(|e| PodError::Io("the agent cannot be started", e))?;
    let (reader, mut writer) = agent.stream.split();
    let upward = pieces(reader, up, |bytes| FromPod { body: Some(from_pod::Body::Agent(bytes)) });
    let downward = async {
        while let Ok(Some(order)) = orders.message().await {
            let Some(to_pod::Body::Agent(bytes)) = order.body else { break };
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // A host that is gone is an end for the agent, too: nobody would hear it.
        let _ = writer.shutdown().await;
    };
    let mut downward = std::pin::pin!(downward);
    tokio::select! {
        () = upward => drop(tokio::time::timeout(CLOSE, downward).await),
        () = &mut downward => {}
    }
    let _ = agent.child.start_kill();
    let _ = agent.child.wait().await;
    Ok(())
}

/// One connection of the package, to the host's proxy and back.
async fn way_out(mut client: Client, key: &str, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let (up, chunks) = mpsc::channel(4);
    let upward = pieces(reader, up, |bytes| Chunk { bytes });
    let downward = async {
        let Ok(answer) = client.way_out(with(ReceiverStream::new(chunks), key)).await else { return };
        let mut answer = answer.into_inner();
        while let Ok(Some(chunk)) = answer.message().await {
            if writer.write_all(&chunk.bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    };
    // What the host closed is over, whatever the package still sends.
    tokio::select! {
        () = downward => {}
        () = async { upward.await; std::future::pending().await } => {}
    }
}

fn with<T>(message: T, secret: &str) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(value) = format!("Bearer {secret}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn refused(status: Status) -> PodError {
    PodError::Refused(Box::new(status))
}
