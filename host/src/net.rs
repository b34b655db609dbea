//! Listening: binds, accepts within bounds, speaks HTTP/1 and HTTP/2, drains. What is answered it does not know.
//!
//! Every wait on a client has an end. A connection without a request in flight is cut after `head` (that covers a head
//! sent byte by byte, an idle connection, and one that never says which HTTP it speaks), one whose client does not
//! take its answer after `pause`. The waits in a request's body are the business of whoever reads it.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};

mod activity;
mod paced;
pub mod places;
pub mod tls;

use activity::{Activity, Held};
use paced::Paced;
use tls::Tls;

/// What clients may take of this listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub connections: usize,
    /// How long a connection may be without a complete request.
    pub head: Duration,
    /// How long a client may refuse to take what it asked for.
    pub pause: Duration,
}

/// The other end of a connection: in the extensions of each of its requests, as `Arc<Peer>`.
pub struct Peer {
    pub address: SocketAddr,
    /// What a handler wants to have dropped when the connection has ended.
    pub kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address} is in use by another program: stop it, or choose another port with {key}")]
    InUse { address: SocketAddr, key: &'static str },
    #[error("this user may not listen on {address}: choose a port above 1023 with {key}")]
    Denied { address: SocketAddr, key: &'static str },
    #[error("{address} is no address of this machine: choose another one with {key}")]
    NotHere { address: SocketAddr, key: &'static str },
    #[error("{address} cannot be listened on")]
    Other { address: SocketAddr, source: std::io::Error },
}

const CONNECTION: TaskKind = TaskKind { name: "connection", on_error: OnError::Log, on_stop: OnStop::Finish };
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 64;
/// From the first byte to the end of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Listens on an address; `key` is the flag that would change it.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse { address, key },
        std::io::ErrorKind::PermissionDenied => BindError::Denied { address, key },
        std::io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, key },
        _ => BindError::Other { address, source },
    })
}

/// Accepts connections until the supervisor stops; each is a task of its own and ends with its last request then.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    bounds: Bounds,
    supervisor: Supervisor,
    handler: H,
) -> Result<(), Infallible>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stop = supervisor.stop().clone();
    let accept = async {
        let mut incoming = std::pin::pin!(places::accepted(listener, bounds.connections));
        while let Some((stream, peer, place)) = incoming.next().await {
            let (tls, supervised, handler) = (tls.clone(), supervisor.clone(), handler.clone());
            supervisor.spawn(CONNECTION, async move {
                tracing::trace!(%peer, "connected");
                let ended = greeted(stream, tls, peer, bounds, supervised, handler).await;
                drop(place);
                ended
            });
        }
    };
    stop.run_until_cancelled(accept).await;
    Ok(())
}

/// A connection behind its TLS handshake, where there is one.
async fn greeted<H, F, B>(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    peer: SocketAddr,
    bounds: Bounds,
    supervisor: Supervisor,
    handler: H,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return connection(stream, peer, bounds, supervisor, handler).await };
    let greeting = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = tokio::time::timeout(bounds.head.min(HANDSHAKE), greeting).await??;
    connection(stream, peer, bounds, supervisor, handler).await
}

async fn connection<S, H, F, B>(
    stream: S,
    peer: SocketAddr,
    bounds: Bounds,
    supervisor: Supervisor,
    handler: H,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Activity::new();
    let peer = Arc::new(Peer { address: peer, kept: OnceLock::new() });
    let service = service_fn(|mut request: Request<Incoming>| {
        let held = activity.begin();
        request.extensions_mut().insert(peer.clone());
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await.map(|body| Held::new(body, held))) }
    });
    let mut builder = Builder::new(supervisor.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(bounds.head)
        .keep_alive_timeout(bounds.pause);
    let connection = builder.serve_connection(TokioIo::new(Paced::new(stream, bounds.pause)), service);
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = activity.idle_for(bounds.head) => return Ok(()),
            () = supervisor.stop().cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
