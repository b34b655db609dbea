//! What runs in a scan's pod beside the agent (`lanner pod`): it comes to the host's door by the scan's token, finds the
//! package manager, fetches the project, starts the agent, and carries its stream and the package's way out.
//!
//! It is the host's hand in the pod and decides nothing. The package runs beside it under the same user: what keeps them apart
//! is what keeps the package from the agent (Landlock), and the token is worth nothing once it was used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lanner_core::Probe;
use lanner_core::text::chain;
use lanner_proto::pod::pod_client::PodClient;
use lanner_proto::pod::{Asked, Chunk, Come, Found, FromPod, Registry, ToPod, Variable};
use lanner_proto::pod::{from_pod, to_pod};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Status, Streaming};

use super::door::{self, KEY, MAX_MESSAGE};
use super::pieces::pieces;
use super::project::project;
use super::relay::{Carried, Relay};
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
    Unreached(String, #[source] Box<Status>),
    #[error("the host said no")]
    Refused(#[source] Box<Status>),
    #[error("the host asked nothing")]
    Unasked,
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
}

/// The host may be starting anew while pods come up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// A host that restarts or moves is back by then; the package waits once too much is unsaid.
const AWAY: Duration = Duration::from_secs(300);
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How long the host may take to read a refusal.
const CLOSE: Duration = Duration::from_secs(20);
/// Of the agent's stream, on its way into a call.
const PIECES: usize = 16;

pub(super) type Client = PodClient<Channel>;

/// The agent's stream on one connection.
struct Attached {
    up: mpsc::Sender<FromPod>,
    down: Streaming<ToPod>,
    /// What the host wants to know, or from where it goes on.
    first: to_pod::Body,
}

/// Until the agent has ended and the host knows all of it, or the host does not come back.
pub async fn attend(pod: Pod) -> Result<(), PodError> {
    let client = PodClient::new(channel(&pod)?).max_decoding_message_size(MAX_MESSAGE);
    let socket = pod.work_dir.join("proxy");
    let listener = proxy::listen(&socket).map_err(|e| PodError::Io("the way out cannot be made", e))?;
    let key = door::word();
    let connected = watch::Sender::new(false);
    let ways = async {
        let mut open = FuturesUnordered::new();
        let mut incoming = std::pin::pin!(proxy::accepted(&listener));
        loop {
            tokio::select! {
                Some(stream) = incoming.next() => {
                    open.push(way_out(client.clone(), &key, connected.subscribe(), stream));
                }
                Some(()) = open.next() => {}
            }
        }
    };
    let stay = Stay { pod: &pod, socket: &socket, key: &key, client: client.clone(), connected: &connected };
    tokio::select! {
        ended = stay.until_over() => ended,
        () = ways => Ok(()),
    }
}

/// All that stays the same while connections come and go.
struct Stay<'a> {
    pod: &'a Pod,
    socket: &'a Path,
    key: &'a str,
    client: Client,
    /// Whether the host hears us now.
    connected: &'a watch::Sender<bool>,
}

impl Stay<'_> {
    async fn until_over(mut self) -> Result<(), PodError> {
        let mut agent: Option<Agent> = None;
        let mut found: Option<Found> = None;
        let mut patience = PATIENCE;
        loop {
            let orders = agent.as_ref().map_or(0, |agent| agent.relay.orders());
            let Attached { up, mut down, first } = self.attached(found.is_some(), orders, patience).await?;
            patience = AWAY;
            self.connected.send_replace(true);
            let known = match first {
                to_pod::Body::Asked(asked) => {
                    let told = match found.take() {
                        Some(told) => told,
                        None => self.look(&asked).await,
                    };
                    let is_refused = !told.refused.is_empty();
                    found = Some(told.clone());
                    let _ = up.send(FromPod { body: Some(from_pod::Body::Found(told)) }).await;
                    if is_refused {
                        drop(up);
                        heard_out(down).await;
                        return Ok(());
                    }
                    0
                }
                to_pod::Body::Resume(resume) => resume.seq,
                to_pod::Body::Agent(_) => return Err(PodError::Unasked),
            };
            let agent = match &mut agent {
                Some(agent) => agent,
                none => none.insert(Agent::start(&self.pod.program)?),
            };
            let carried = agent.carried(known, &up, &mut down).await;
            self.connected.send_replace(false);
            if carried == Carried::Over {
                agent.end().await;
                drop(up);
                heard_out(down).await;
                return Ok(());
            }
            tracing::warn!("the connection to the host broke");
        }
    }

    async fn look(&mut self, asked: &Asked) -> Found {
        match found(&mut self.client, self.pod, asked, self.key, self.socket).await {
            Ok(found) => found,
            Err(why) => Found { refused: why, ..Found::default() },
        }
    }

    /// By the token the first time, by the key from then on. A first call that broke off may have used the token up.
    async fn attached(
        &mut self,
        is_known: bool,
        orders: u64,
        patience: Duration,
    ) -> Result<Attached, PodError> {
        let begun = tokio::time::Instant::now();
        let mut is_inside = is_known;
        let mut has_tried = is_known;
        loop {
            let word = if is_inside { self.key } else { &self.pod.token };
            let why = match self.call(word, is_inside, orders).await {
                Ok(attached) => return Ok(attached),
                Err(why) => why,
            };
            if is_final(&why) && has_tried {
                return Err(refused(why));
            }
            has_tried |= is_final(&why);
            is_inside = is_known || is_final(&why);
            if begun.elapsed() > patience {
                return Err(PodError::Unreached(self.pod.url.clone(), Box::new(why)));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn call(&mut self, word: &str, is_inside: bool, orders: u64) -> Result<Attached, Status> {
        let (up, messages) = mpsc::channel(PIECES);
        let mut call = with(ReceiverStream::new(messages), word);
        if !is_inside && let Ok(key) = self.key.parse() {
            call.metadata_mut().insert(KEY, key);
        }
        let come = FromPod { body: Some(from_pod::Body::Come(Come { orders })) };
        // There is a place for it.
        let _ = up.try_send(come);
        let mut down = self.client.attend(call).await?.into_inner();
        let first = down.message().await?.and_then(|message| message.body);
        let first = first.ok_or_else(|| Status::unavailable("the host said nothing"))?;
        Ok(Attached { up, down, first })
    }
}

/// Our end is closed; the host closes its own when it has read that.
async fn heard_out(mut down: Streaming<ToPod>) {
    let read = async { while let Ok(Some(_)) = down.message().await {} };
    let _ = tokio::time::timeout(CLOSE, read).await;
}

/// The host has made up its mind; anything else may pass.
fn is_final(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument | Code::PermissionDenied)
}

/// Connects when it is first used, and again when it must.
fn channel(pod: &Pod) -> Result<Channel, PodError> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pod.authority));
    let endpoint = Channel::from_shared(pod.url.clone())
        .map_err(|_| PodError::NoAddress(pod.url.clone()))?
        .tls_config(tls)
        .map_err(|e| PodError::Address(pod.url.clone(), e))?
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    Ok(endpoint.connect_lazy())
}

/// Everything that the host wants to know before the agent starts, or why it cannot.
async fn found(
    client: &mut Client,
    pod: &Pod,
    asked: &Asked,
    key: &str,
    socket: &Path,
) -> Result<Found, String> {
    let probe: Option<Probe> = match asked.probe.as_str() {
        "" => None,
        probe => Some(serde_json::from_str(probe).map_err(|e| format!("the probe cannot be read: {e}"))?),
    };
    let folder = pod.work_dir.join(lanner_kubernetes::job::SCAN_FOLDER);
    local::private_dir(&folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    let found = local::find(&asked.tools, probe.as_ref(), &pod.env, &folder).await.map_err(|e| chain(&e))?;
    let source = match asked.source {
        true => Some(project(client, key, asked, pod.work_dir.join("source.tgz")).await?),
        false => None,
    };
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
        source_path: source.as_deref().map(text).unwrap_or_default(),
        work_dir: text(&folder),
    })
}

/// The agent and what carries its stream.
struct Agent {
    child: tokio::process::Child,
    relay: Relay<UnixStream>,
}

impl Agent {
    fn start(program: &Path) -> Result<Self, PodError> {
        let agent = local::agent(program).map_err(|e| PodError::Io("the agent cannot be started", e))?;
        Ok(Self { child: agent.child, relay: Relay::new(agent.stream) })
    }

    async fn carried(
        &mut self,
        known: u64,
        up: &mpsc::Sender<FromPod>,
        down: &mut Streaming<ToPod>,
    ) -> Carried {
        let down = down.map(|order| match order.ok()?.body? {
            to_pod::Body::Agent(bytes) => Some(bytes),
            _ => None,
        });
        let down =
            down.take_while(|bytes| std::future::ready(bytes.is_some())).filter_map(std::future::ready);
        let message = |bytes| FromPod { body: Some(from_pod::Body::Agent(bytes)) };
        self.relay.carry(known, up, message, std::pin::pin!(down)).await
    }

    async fn end(&mut self) {
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
    }
}

/// One connection of the package, to the host's proxy and back.
async fn way_out(mut client: Client, key: &str, mut connected: watch::Receiver<bool>, stream: UnixStream) {
    // What begins while the host is away waits for it, as long as the package's own patience lasts.
    let _ = connected.wait_for(|connected| *connected).await;
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

pub(super) fn with<T>(message: T, secret: &str) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(value) = format!("Bearer {secret}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

pub(super) fn refused(status: Status) -> PodError {
    PodError::Refused(Box::new(status))
}
