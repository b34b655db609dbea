//! Connections of a listener: so many at once, each with its place until it is dropped, and a pause where the system has none
//! to give.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

pub struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

/// After an error of `accept` (no file descriptors left): a while for others to end.
const BREATH: Duration = Duration::from_millis(100);

/// At most `max` at a time. Beyond it, connections wait in the kernel's own bounded backlog.
pub(super) fn accepted(
    listener: TcpListener,
    max: usize,
) -> impl Stream<Item = (TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let places = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
    futures::stream::unfold((listener, places), async |(listener, places)| {
        // Closed by nobody.
        let place = places.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some(((stream, peer, place), (listener, places))),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    })
}

/// The same for a server that keeps the connection itself, and its place with it.
pub fn places(listener: TcpListener, max: usize) -> impl Stream<Item = io::Result<Placed>> {
    accepted(listener, max).map(|(stream, _, place)| Ok(Placed { stream, _place: place }))
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Placed {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_than_there_are_places_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = std::pin::pin!(places(listener, 1));
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let first = incoming.next().await.unwrap().unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(50), incoming.next()).await;
        assert!(waits.is_err(), "no place is free");
        drop(first);
        assert!(incoming.next().await.unwrap().is_ok());
    }
}
