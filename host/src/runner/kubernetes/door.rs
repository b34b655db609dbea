//! The one port of this host that pods reach: a scan's agent comes in by a token that is good for one call, its project and
//! its way out by a key that was given to that call alone.
//!
//! What comes in is bytes of the agent's stream, which `follow` reads; nothing is believed here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, Stream, StreamExt};
use lanner_proto::pod::pod_server::{Pod, PodServer};
use lanner_proto::pod::{self, Chunk, FromPod, SourceRequest, ToPod, from_pod, to_pod};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::pieces::{PIECE, pieces};
use crate::runner::start::random;

#[derive(Clone, Default)]
pub struct Door {
    rooms: Arc<Mutex<Rooms>>,
}

#[derive(Default)]
struct Rooms {
    /// By the token's digest.
    expected: HashMap<Secret, Expected>,
    /// By the key's digest.
    inside: HashMap<Secret, Inside>,
}

/// Digests are looked up: how long that takes says nothing about a token.
type Secret = [u8; 32];

struct Expected {
    asked: pod::Asked,
    source: Option<PathBuf>,
    arrival: oneshot::Sender<Arrival>,
}

#[derive(Clone)]
struct Inside {
    source: Option<PathBuf>,
    way_out: mpsc::Sender<DuplexStream>,
}

/// A pod that came.
pub(super) struct Arrival {
    pub(super) found: pod::Found,
    /// The agent's stream.
    pub(super) stream: DuplexStream,
    /// The package's connections to the proxy.
    pub(super) way_out: mpsc::Receiver<DuplexStream>,
}

/// Held while a scan's pod may come and be inside.
pub(super) struct Invitation {
    pub(super) token: String,
    pub(super) arrival: oneshot::Receiver<Arrival>,
    _held: Held,
}

struct Held {
    door: Door,
    token: Secret,
    key: Secret,
}

/// Connections to the proxy that wait to be taken.
const WAYS: usize = 64;
/// Of the agent's stream in either direction.
const BUFFER: usize = 256 * 1024;
/// Nothing that a pod sends in one piece is longer.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024;

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Door {
    pub fn service(&self) -> PodServer<Self> {
        PodServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn invite(&self, asked: pod::Asked, source: Option<PathBuf>) -> Invitation {
        let (token, key) = (word(), word());
        let asked = pod::Asked { key: key.clone(), ..asked };
        let (sender, arrival) = oneshot::channel();
        let held = Held { door: self.clone(), token: secret(&token), key: secret(&key) };
        self.rooms().expected.insert(held.token, Expected { asked, source, arrival: sender });
        Invitation { token, arrival, _held: held }
    }

    /// Out of those who are expected, and in: whoever comes second with a token comes in vain. At once, so that a scan that
    /// ends meanwhile leaves nothing behind.
    fn admit(&self, token: &Secret, way_out: mpsc::Sender<DuplexStream>) -> Option<Expected> {
        let mut rooms = self.rooms();
        let expected = rooms.expected.remove(token)?;
        rooms.inside.insert(secret(&expected.asked.key), Inside { source: expected.source.clone(), way_out });
        Some(expected)
    }

    fn inside(&self, metadata: &tonic::metadata::MetadataMap) -> Result<Inside, Status> {
        let inside = self.rooms().inside.get(&bearer(metadata)?).cloned();
        inside.ok_or_else(|| Status::unauthenticated("this key opens nothing"))
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut rooms = self.door.rooms();
        rooms.expected.remove(&self.token);
        rooms.inside.remove(&self.key);
    }
}

#[tonic::async_trait]
impl Pod for Door {
    type AttendStream = Answer<ToPod>;
    type SourceStream = Answer<Chunk>;
    type WayOutStream = Answer<Chunk>;

    async fn attend(
        &self,
        request: Request<Streaming<FromPod>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let token = bearer(request.metadata())?;
        let (way_out, ways) = mpsc::channel(WAYS);
        let expected = self.admit(&token, way_out);
        let expected =
            expected.ok_or_else(|| Status::unauthenticated("this token is not known, or was used"))?;
        let (sender, orders) = mpsc::channel(16);
        let work = attended(expected, ways, request.into_inner(), sender);
        Ok(Response::new(driven(ReceiverStream::new(orders), work)))
    }

    async fn source(&self, request: Request<SourceRequest>) -> Result<Response<Self::SourceStream>, Status> {
        let path = self.inside(request.metadata())?.source;
        let path = path.ok_or_else(|| Status::not_found("this scan has no project"))?;
        let file = tokio::fs::File::open(&path).await;
        let file = file.map_err(|e| Status::unavailable(format!("the project cannot be read: {e}")))?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, PIECE).map(|piece| match piece {
            Ok(bytes) => Ok(Chunk { bytes: bytes.into() }),
            Err(error) => Err(Status::unavailable(format!("the project cannot be read: {error}"))),
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn way_out(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::WayOutStream>, Status> {
        let inside = self.inside(request.metadata())?;
        let (ours, theirs) = tokio::io::duplex(PIECE);
        let taken = inside.way_out.send(theirs).await;
        taken.map_err(|_| Status::unavailable("the scan is over"))?;
        let (sender, down) = mpsc::channel(4);
        let up = request.into_inner().map(|chunk| chunk.map(|c| c.bytes));
        let work = carried(ours, up, sender, |bytes| Chunk { bytes });
        Ok(Response::new(driven(ReceiverStream::new(down), work)))
    }
}

/// Asks, waits for what was found, and carries the agent's stream from then on.
async fn attended(
    expected: Expected,
    ways: mpsc::Receiver<DuplexStream>,
    mut pod: Streaming<FromPod>,
    orders: mpsc::Sender<ToPod>,
) {
    let Expected { asked, arrival, .. } = expected;
    if orders.send(ToPod { body: Some(to_pod::Body::Asked(asked)) }).await.is_err() {
        return;
    }
    let Ok(Some(FromPod { body: Some(from_pod::Body::Found(found)) })) = pod.message().await else { return };
    let (ours, stream) = tokio::io::duplex(BUFFER);
    if arrival.send(Arrival { found, stream, way_out: ways }).is_err() {
        return;
    }
    let up = pod.map(|message| match message?.body {
        Some(from_pod::Body::Agent(bytes)) => Ok(bytes),
        _ => Err(Status::invalid_argument("only the agent's stream may follow")),
    });
    carried(ours, up, orders, |bytes| ToPod { body: Some(to_pod::Body::Agent(bytes)) }).await;
}

/// Both directions of a stream, until our side closes it.
async fn carried<T>(
    stream: DuplexStream,
    mut up: impl Stream<Item = Result<Vec<u8>, Status>> + Unpin,
    down: mpsc::Sender<T>,
    message: impl Fn(Vec<u8>) -> T,
) {
    let (reader, mut writer) = tokio::io::split(stream);
    let upward = async {
        while let Some(Ok(bytes)) = up.next().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Whoever reads sees the end, or that it broke off: both are the end of what came.
        let _ = writer.shutdown().await;
    };
    // What our side has closed is over, whatever is sent still.
    tokio::select! {
        () = pieces(reader, down, message) => {}
        () = async { upward.await; std::future::pending().await } => {}
    }
}

/// A call's answer, whose work is done while it is read: it lives and ends with the call.
fn driven<T: Send + 'static>(
    answers: ReceiverStream<T>,
    work: impl Future<Output = ()> + Send + 'static,
) -> Answer<T> {
    let work = work.into_stream().filter_map(|()| std::future::ready(None));
    futures::stream::select(answers.map(Ok), work).boxed()
}

fn bearer(metadata: &tonic::metadata::MetadataMap) -> Result<Secret, Status> {
    let value = metadata.get("authorization").and_then(|v| v.to_str().ok());
    let word = value.and_then(|v| v.strip_prefix("Bearer "));
    word.map(secret).ok_or_else(|| Status::unauthenticated("no token"))
}

fn secret(word: &str) -> Secret {
    Sha256::digest(word.as_bytes()).into()
}

fn word() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}
