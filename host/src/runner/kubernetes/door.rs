//! The one port of this host that pods reach: a scan's agent comes in by a token that is good for one call, and again by the key
//! that its pod made and named in that call, of which the digest alone is kept; so do its project and its way out.
//!
//! What comes in is bytes of the agent's stream, which `follow` reads; nothing is believed here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, Stream, StreamExt};
use lanner_proto::pod::pod_server::{Pod, PodServer};
use lanner_proto::pod::{self, Chunk, Come, FromPod, Resume, SourceRequest, ToPod, from_pod, to_pod};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::pieces::{PIECE, pieces};
use crate::runner::follow::Again;
use crate::runner::start::random;

#[derive(Clone)]
pub struct Door {
    rooms: Arc<Mutex<Rooms>>,
    /// A host that stops knows nobody any more, which is for its next life to say.
    stop: CancellationToken,
}

#[derive(Default)]
struct Rooms {
    /// By the token's digest.
    expected: HashMap<Secret, Room>,
    /// By the key's digest.
    inside: HashMap<Secret, Room>,
}

/// Digests are looked up: how long that takes says nothing about a token.
pub(super) type Secret = [u8; 32];

#[derive(Clone)]
struct Room {
    asked: pod::Asked,
    source: Option<PathBuf>,
    comes: mpsc::Sender<Comes>,
    way_out: mpsc::Sender<DuplexStream>,
    /// The host knows what was found in the pod.
    is_found: bool,
}

/// A pod that came.
pub(super) enum Comes {
    First {
        key: Secret,
        found: Box<pod::Found>,
        /// The agent's.
        stream: DuplexStream,
    },
    Again(Again<DuplexStream>),
}

/// Held while a scan's pod may come and be inside.
pub(super) struct Invitation {
    pub(super) comes: mpsc::Receiver<Comes>,
    /// The package's connections to the proxy.
    pub(super) way_out: mpsc::Receiver<DuplexStream>,
    _held: Held,
}

struct Held {
    door: Door,
    scan: String,
}

/// By what a pod may come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pass {
    Token(Secret),
    Key(Secret),
}

/// Connections to the proxy that wait to be taken.
const WAYS: usize = 64;
/// Pods come one at a time; who comes anew while another is still taken waits.
const COMES: usize = 4;
/// Of the agent's stream in either direction.
const BUFFER: usize = 256 * 1024;
/// Nothing that a pod sends in one piece is longer.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024;
/// The header that brings the key for the calls to come.
pub(super) const KEY: &str = "lanner-key";

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Door {
    pub fn new(stop: CancellationToken) -> Self {
        Self { rooms: Arc::default(), stop }
    }

    pub fn service(&self) -> PodServer<Self> {
        PodServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn invite(&self, asked: pod::Asked, source: Option<PathBuf>, pass: Pass) -> Invitation {
        let (comes, received) = mpsc::channel(COMES);
        let (way_out, ways) = mpsc::channel(WAYS);
        let held = Held { door: self.clone(), scan: asked.scan_id.clone() };
        let room = |is_found| Room { asked, source, comes, way_out, is_found };
        let mut rooms = self.rooms();
        match pass {
            Pass::Token(token) => rooms.expected.insert(token, room(false)),
            Pass::Key(key) => rooms.inside.insert(key, room(true)),
        };
        Invitation { comes: received, way_out: ways, _held: held }
    }

    /// What the pod of a scan will be told, should it not have come yet.
    pub(super) fn tell_anew(&self, asked: &pod::Asked) {
        let mut rooms = self.rooms();
        let its = rooms.expected.values_mut().filter(|room| room.asked.scan_id == asked.scan_id);
        its.for_each(|room| room.asked = asked.clone());
    }

    /// Out of those who are expected, and in: whoever comes second with a token comes in vain. At once, so that a scan that
    /// ends meanwhile leaves nothing behind.
    fn admit(&self, word: Secret, made: Option<Secret>) -> Result<(Room, Secret), Status> {
        let mut rooms = self.rooms();
        let key = made.unwrap_or(word);
        if let Some(room) = rooms.expected.remove(&word) {
            if made.is_none() {
                return Err(Status::invalid_argument("a token comes with the key of the calls to come"));
            }
            rooms.inside.insert(key, room.clone());
            return Ok((room, key));
        }
        let inside = rooms.inside.get(&word).cloned();
        drop(rooms);
        Ok((inside.ok_or_else(|| self.unknown("this token is not known, or was used"))?, word))
    }

    async fn attended(
        self,
        room: Room,
        key: Secret,
        mut pod: Streaming<FromPod>,
        orders: mpsc::Sender<ToPod>,
    ) -> Option<()> {
        let come = pod.message().await.ok().flatten()?;
        let from_pod::Body::Come(come) = come.body? else { return None };
        if room.is_found {
            self.again(room, key, come, pod, orders).await
        } else {
            self.first(room, key, pod, orders).await
        }
    }

    fn inside(&self, metadata: &tonic::metadata::MetadataMap) -> Result<Room, Status> {
        let inside = self.rooms().inside.get(&bearer(metadata)?).cloned();
        inside.ok_or_else(|| self.unknown("this key opens nothing"))
    }

    fn unknown(&self, why: &'static str) -> Status {
        if self.stop.is_cancelled() {
            Status::unavailable("this host stops")
        } else {
            Status::unauthenticated(why)
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, waits for what was found, and carries the agent's stream from then on.
    async fn first(
        self,
        room: Room,
        key: Secret,
        mut pod: Streaming<FromPod>,
        orders: mpsc::Sender<ToPod>,
    ) -> Option<()> {
        orders.send(ToPod { body: Some(to_pod::Body::Asked(room.asked)) }).await.ok()?;
        let Ok(Some(FromPod { body: Some(from_pod::Body::Found(found)) })) = pod.message().await else {
            return None;
        };
        self.rooms().inside.get_mut(&key)?.is_found = true;
        let (ours, stream) = tokio::io::duplex(BUFFER);
        room.comes.send(Comes::First { key, found: Box::new(found), stream }).await.ok()?;
        drop(room.comes);
        self.carry(key, ours, pod, orders).await;
        Some(())
    }

    /// Lets a stream go on where it was.
    async fn again(
        self,
        room: Room,
        key: Secret,
        come: Come,
        pod: Streaming<FromPod>,
        orders: mpsc::Sender<ToPod>,
    ) -> Option<()> {
        let (ours, stream) = tokio::io::duplex(BUFFER);
        let (known, seq) = oneshot::channel();
        let has = usize::try_from(come.orders).unwrap_or(usize::MAX);
        room.comes.send(Comes::Again(Again { stream, orders: has, known })).await.ok()?;
        drop(room.comes);
        let resume = Resume { seq: seq.await.ok()? };
        orders.send(ToPod { body: Some(to_pod::Body::Resume(resume)) }).await.ok()?;
        self.carry(key, ours, pod, orders).await;
        Some(())
    }

    async fn carry(
        &self,
        key: Secret,
        ours: DuplexStream,
        pod: Streaming<FromPod>,
        orders: mpsc::Sender<ToPod>,
    ) {
        let rooms = self.clone();
        let up = pod.map(|message| match message?.body {
            Some(from_pod::Body::Agent(bytes)) => Ok(bytes),
            _ => Err(Status::invalid_argument("only the agent's stream may follow")),
        });
        // A pod that closes its end has nothing more to say, and does not come again.
        let leaves = move || drop(rooms.rooms().inside.remove(&key));
        carried(ours, up, orders, |bytes| ToPod { body: Some(to_pod::Body::Agent(bytes)) }, leaves).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut rooms = self.door.rooms();
        let Rooms { expected, inside } = &mut *rooms;
        for kind in [expected, inside] {
            kind.retain(|_, room| room.asked.scan_id != self.scan);
        }
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
        let (word, made) = (bearer(request.metadata())?, made(request.metadata()));
        let (room, key) = self.admit(word, made)?;
        let (orders, answers) = mpsc::channel(16);
        let work = self.clone().attended(room, key, request.into_inner(), orders);
        Ok(Response::new(driven(ReceiverStream::new(answers), work.map(drop))))
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
        let work = carried(ours, up, sender, |bytes| Chunk { bytes }, || {});
        Ok(Response::new(driven(ReceiverStream::new(down), work)))
    }
}

/// Both directions of a stream, until our side closes it. `ended`: theirs closed it in order, and it did not break.
async fn carried<T>(
    stream: DuplexStream,
    mut up: impl Stream<Item = Result<Vec<u8>, Status>> + Unpin,
    down: mpsc::Sender<T>,
    message: impl Fn(Vec<u8>) -> T,
    ended: impl FnOnce(),
) {
    let (reader, mut writer) = tokio::io::split(stream);
    let upward = async {
        loop {
            match up.next().await {
                Some(Ok(bytes)) if writer.write_all(&bytes).await.is_ok() => {}
                Some(Ok(_)) => return,
                Some(Err(_)) => break,
                None => {
                    ended();
                    break;
                }
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

fn made(metadata: &tonic::metadata::MetadataMap) -> Option<Secret> {
    metadata.get(KEY).and_then(|key| key.to_str().ok()).map(secret)
}

pub(super) fn secret(word: &str) -> Secret {
    Sha256::digest(word.as_bytes()).into()
}

/// 256 bits that nobody guesses.
pub(super) fn word() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}
