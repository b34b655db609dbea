//! The host's end of an agent's stream: frames in both directions, over a stream that may break and come again.
//!
//! On one machine a stream that breaks is an agent that is gone. In a cluster only the network between was, perhaps: then the
//! pod comes anew and tells how many orders the agent has, and is told up to which message its stream is known here.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use lanner_proto::MAX_AGENT_MESSAGE;
use lanner_proto::agent::{AgentMessage, HostMessage, host_message};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// How long a pod may take to come again: its next try comes within seconds, once there is a way.
const AWAY: Duration = Duration::from_secs(90);

pub(in crate::runner) struct Line<S> {
    /// Nothing: it has not come yet, or broke.
    stream: Option<Framed<S, LengthDelimitedCodec>>,
    again: Option<mpsc::Receiver<Again<S>>>,
    /// Until when it has to come.
    patience: Instant,
}

/// The same agent's stream, come anew.
pub(in crate::runner) struct Again<S> {
    pub(in crate::runner) stream: S,
    /// So many orders the agent has.
    pub(in crate::runner) orders: usize,
    /// Takes the number up to which the agent's messages are known here; they go on behind it.
    pub(in crate::runner) known: oneshot::Sender<u64>,
}

pub(super) enum Heard<S> {
    Message(AgentMessage),
    /// The line came anew and waits for [`Line::attach`].
    Again(Again<S>),
    /// It is over, whether the agent meant it or not.
    End,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("a message is longer than {MAX_AGENT_MESSAGE} bytes")]
    TooLong,
    #[error("a message is no message")]
    Decode(#[from] prost::DecodeError),
}

/// Messages behind their lengths, 4 bytes, big-endian: of both directions, and of both ends.
pub(in crate::runner) fn frames() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MAX_AGENT_MESSAGE).new_codec()
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Its end is the agent's.
    pub(in crate::runner) fn once(stream: S) -> Self {
        Self { stream: Some(Framed::new(stream, frames())), again: None, patience: Instant::now() }
    }

    /// A broken one is waited for, as long as `again` is open. Without `stream` the first has yet to come.
    pub(in crate::runner) fn coming(stream: Option<S>, again: mpsc::Receiver<Again<S>>) -> Self {
        let stream = stream.map(|stream| Framed::new(stream, frames()));
        Self { stream, again: Some(again), patience: Instant::now() + AWAY }
    }

    /// May be dropped and called again; nothing is lost by it.
    pub(super) async fn hear(&mut self) -> Result<Heard<S>, LineError> {
        loop {
            let Some(stream) = &mut self.stream else {
                let Some(again) = &mut self.again else { return Ok(Heard::End) };
                let came = tokio::time::timeout_at(self.patience, again.recv()).await;
                return Ok(came.ok().flatten().map_or(Heard::End, Heard::Again));
            };
            let frame = match &mut self.again {
                None => stream.next().await,
                Some(again) => tokio::select! {
                    biased;
                    frame = stream.next() => frame,
                    // The old one seems to live only because nobody has told us of its end.
                    Some(came) = again.recv() => return Ok(Heard::Again(came)),
                },
            };
            match frame {
                Some(Ok(frame)) => return Ok(Heard::Message(AgentMessage::decode(frame)?)),
                Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(LineError::TooLong);
                }
                // The rest of a message that broke off comes again, whole.
                Some(Err(_)) | None => {
                    self.stream = None;
                    self.patience = Instant::now() + AWAY;
                }
            }
        }
    }

    /// Goes on with a stream that came anew.
    pub(super) fn attach(&mut self, stream: S) {
        self.stream = Some(Framed::new(stream, frames()));
    }

    /// On a broken line it goes nowhere: whoever reads notices, and what matters is given again.
    pub(super) async fn send(&mut self, body: host_message::Body) {
        if let Some(stream) = &mut self.stream {
            let message = Bytes::from(HostMessage { body: Some(body) }.encode_to_vec());
            let _ = stream.send(message).await;
        }
    }
}
