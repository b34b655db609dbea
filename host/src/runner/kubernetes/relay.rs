//! Carries the agent's stream to the host over connections that may break: what the host has not acknowledged is kept and sent
//! again, and what the host says goes on to the agent once.
//!
//! The agent numbers its messages from one without a hole, so they are counted here and not read. When too much is kept, the
//! agent is not read any further: it waits, and the package with it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, Stream, StreamExt};
use lanner_proto::agent::{HostMessage, host_message};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

use super::pieces::PIECE;
use crate::runner::follow::frames;

/// Kept for the host, in bytes; the agent's own bound is a number of messages.
const KEPT: usize = 16 * 1024 * 1024;
/// An agent that does not take an order in time gets no other.
const ORDER: Duration = Duration::from_secs(20);

pub(super) struct Relay<S> {
    agent: Framed<S, LengthDelimitedCodec>,
    /// Messages behind their lengths, from the first that is not acknowledged.
    kept: VecDeque<Bytes>,
    bytes: usize,
    acknowledged: u64,
    /// Passed on to the agent, acknowledgements not counted.
    orders: u64,
    has_ended: bool,
    is_cancelled: bool,
    /// It takes no orders any more. What it has said is still to be read.
    is_deaf: bool,
}

/// How one connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// The agent has ended, and the host knows all of it.
    Over,
    Broken,
}

/// Where the stream is to the host, on one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Of what is kept.
    message: usize,
    byte: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<S> {
    pub(super) fn new(agent: S) -> Self {
        let (kept, bytes, acknowledged, orders) = Default::default();
        let (has_ended, is_cancelled, is_deaf) = Default::default();
        let agent = Framed::new(agent, frames());
        Self { agent, kept, bytes, acknowledged, orders, has_ended, is_cancelled, is_deaf }
    }

    pub(super) fn orders(&self) -> u64 {
        self.orders
    }

    /// Over one connection, from behind the message `known`, until all is over or the connection breaks.
    pub(super) async fn carry<T>(
        &mut self,
        known: u64,
        up: &mpsc::Sender<T>,
        message: impl Fn(Vec<u8>) -> T,
        mut down: impl Stream<Item = Vec<u8>> + Unpin,
    ) -> Carried {
        let skipped = usize::try_from(known.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        let mut place = Place { message: skipped.min(self.kept.len()), byte: 0 };
        let (mut codec, mut heard) = (frames(), BytesMut::new());
        loop {
            if self.is_over(place) {
                return Carried::Over;
            }
            tokio::select! {
                frame = self.agent.next(), if !self.has_ended && self.bytes < KEPT => self.keep(frame),
                permit = up.reserve(), if place.message < self.kept.len() => match permit {
                    Ok(permit) => permit.send(message(self.piece(&mut place))),
                    Err(_) => return Carried::Broken,
                },
                bytes = down.next() => {
                    let Some(bytes) = bytes else { return Carried::Broken };
                    heard.extend_from_slice(&bytes);
                    loop {
                        match codec.decode(&mut heard) {
                            Ok(Some(frame)) => self.order(&frame, &mut place).await,
                            Ok(None) => break,
                            Err(_) => return Carried::Broken,
                        }
                    }
                }
            }
        }
    }

    /// A cancelled scan needs no acknowledgement.
    fn is_over(&self, place: Place) -> bool {
        self.has_ended && (self.kept.is_empty() || self.is_cancelled && place.message >= self.kept.len())
    }

    fn keep(&mut self, frame: Option<std::io::Result<BytesMut>>) {
        let mut whole = BytesMut::new();
        match frame.map(|frame| frames().encode(frame?.freeze(), &mut whole)) {
            Some(Ok(())) => {
                self.bytes += whole.len();
                self.kept.push_back(whole.freeze());
            }
            // An agent that is gone, or no longer makes sense, has said all.
            Some(Err(_)) | None => self.has_ended = true,
        }
    }

    fn piece(&self, place: &mut Place) -> Vec<u8> {
        let Some(rest) = self.kept.get(place.message).and_then(|message| message.get(place.byte..)) else {
            return Vec::new();
        };
        match rest.get(..PIECE) {
            Some(piece) if piece.len() < rest.len() => {
                place.byte += PIECE;
                piece.to_vec()
            }
            _ => {
                *place = Place { message: place.message + 1, byte: 0 };
                rest.to_vec()
            }
        }
    }

    async fn order(&mut self, frame: &[u8], place: &mut Place) {
        match HostMessage::decode(frame).ok().and_then(|message| message.body) {
            Some(host_message::Body::Ack(ack)) => self.forget(ack.seq, place),
            Some(host_message::Body::Cancel(_)) => self.is_cancelled = true,
            Some(_) => self.orders += 1,
            // Whatever it is, it is for the agent to say so.
            None => {}
        }
        if !self.is_deaf {
            let sent = self.agent.send(Bytes::copy_from_slice(frame));
            self.is_deaf = !matches!(tokio::time::timeout(ORDER, sent).await, Ok(Ok(())));
        }
    }

    /// Only what was sent whole can be acknowledged.
    fn forget(&mut self, seq: u64, place: &mut Place) {
        while self.acknowledged < seq && place.message > 0 {
            let Some(message) = self.kept.pop_front() else { return };
            self.bytes -= message.len();
            self.acknowledged += 1;
            place.message -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
