//! The agent's end of the stream: length-prefixed messages, numbered, with a bound on what is not yet acknowledged.
//!
//! A message is numbered and written under one lock, so the order of numbers is the order on the wire. When the host
//! has left [`WINDOW`] messages unacknowledged, `send` waits: the watcher behind it waits too, and so does the
//! package; nothing is dropped. Acknowledgements take another lock, or a slow host and a waiting writer would block
//! each other for ever. What a message means is not known here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lanner_proto::MAX_AGENT_MESSAGE;
use lanner_proto::agent::{AgentMessage, Gap, HostMessage, agent_message, gap, host_message};
use prost::Message;

/// Messages that may be on their way without an acknowledgement.
pub(crate) const WINDOW: u64 = 1024;

/// Writes to the host. Shared by the threads of the supervisor.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The stream and the last number given; held while writing.
    writer: Mutex<Writer>,
    window: Mutex<Window>,
    changed: Condvar,
}

/// Reads from the host; one thread owns it.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: UnixStream,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the host closed the stream")]
    Closed,
    #[error("the host announced a message of {0} bytes, more than {MAX_AGENT_MESSAGE}")]
    TooLong(usize),
    #[error("the host sent a message that is not one")]
    Malformed(#[source] prost::DecodeError),
    #[error("the host sent a message without a body, or of a kind that this agent does not know")]
    Empty,
    #[error("the stream to the host failed")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
struct Writer {
    stream: UnixStream,
    seq: u64,
}

#[derive(Debug, Default)]
struct Window {
    acknowledged: u64,
    closed: bool,
}

/// Both ends of the agent's side.
pub(crate) fn open(stream: OwnedFd) -> io::Result<(Sender, Receiver)> {
    let stream = UnixStream::from(stream);
    let reader = stream.try_clone()?;
    let writer = Mutex::new(Writer { stream, seq: 0 });
    Ok((Sender { writer, window: Mutex::default(), changed: Condvar::new() }, Receiver { stream: reader }))
}

impl Sender {
    /// Sends one message; waits while the window is full. Fails when the stream is closed.
    pub(crate) fn send(&self, body: agent_message::Body) -> Result<(), StreamError> {
        let mut writer = lock(&self.writer);
        let seq = writer.seq + 1;
        let mut window = lock(&self.window);
        while !window.closed && seq.saturating_sub(window.acknowledged) > WINDOW {
            window = self.changed.wait(window).unwrap_or_else(PoisonError::into_inner);
        }
        if window.closed {
            return Err(StreamError::Closed);
        }
        drop(window);
        let frame = frame(AgentMessage { seq, body: Some(body) });
        writer.stream.write_all(&frame)?;
        writer.seq = seq;
        Ok(())
    }

    pub(crate) fn gap(&self, kind: gap::Kind, detail: impl Into<String>) -> Result<(), StreamError> {
        self.send(agent_message::Body::Gap(Gap { kind: kind.into(), detail: detail.into() }))
    }

    /// The host has stored everything up to this number.
    pub(crate) fn acknowledge(&self, seq: u64) {
        let mut window = lock(&self.window);
        window.acknowledged = window.acknowledged.max(seq);
        self.changed.notify_all();
    }

    /// The host is gone or the scan is cancelled: nobody waits for it any longer.
    pub(crate) fn close(&self) {
        lock(&self.window).closed = true;
        self.changed.notify_all();
    }
}

impl Receiver {
    /// The next message; `Closed` when the host has closed its end between two messages.
    pub(crate) fn receive(&mut self) -> Result<host_message::Body, StreamError> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(closed)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_AGENT_MESSAGE {
            return Err(StreamError::TooLong(length));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map_err(closed)?;
        let message = HostMessage::decode(bytes.as_slice()).map_err(StreamError::Malformed)?;
        message.body.ok_or(StreamError::Empty)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Length and bytes. A message too long for the stream is replaced by a gap: the host must not take it for silence.
fn frame(mut message: AgentMessage) -> Vec<u8> {
    if message.encoded_len() > MAX_AGENT_MESSAGE {
        let detail = format!("a message of {} bytes was too long for the stream", message.encoded_len());
        message.body = Some(agent_message::Body::Gap(Gap { kind: gap::Kind::SensorLost.into(), detail }));
    }
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    bytes
}

fn closed(error: io::Error) -> StreamError {
    if error.kind() == io::ErrorKind::UnexpectedEof { StreamError::Closed } else { StreamError::Io(error) }
}

/// A lock outlives a thread that panicked: these states are valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use lanner_proto::agent::{Alert, Done};

    use super::*;

    fn pair() -> (Sender, Receiver, UnixStream) {
        let (ours, host) = UnixStream::pair().unwrap();
        let (sender, receiver) = open(ours.into()).unwrap();
        (sender, receiver, host)
    }

    fn read(host: &mut UnixStream) -> AgentMessage {
        let mut length = [0; 4];
        host.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        host.read_exact(&mut bytes).unwrap();
        AgentMessage::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn numbers_begin_at_one_and_have_no_holes() {
        let (sender, _receiver, mut host) = pair();
        for _ in 0..3 {
            sender.send(agent_message::Body::Done(Done {})).unwrap();
        }
        assert_eq!([read(&mut host).seq, read(&mut host).seq, read(&mut host).seq], [1, 2, 3]);
    }

    #[test]
    fn a_full_window_waits_for_an_acknowledgement_and_loses_nothing() {
        let (sender, _receiver, mut host) = pair();
        let sender = Arc::new(sender);
        let writer = Arc::clone(&sender);
        let thread = std::thread::spawn(move || {
            for _ in 0..WINDOW + 1 {
                writer.send(agent_message::Body::Done(Done {})).unwrap();
            }
        });
        for seq in 1..=WINDOW {
            assert_eq!(read(&mut host).seq, seq);
        }
        host.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(host.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        sender.acknowledge(1);
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(read(&mut host).seq, WINDOW + 1);
        thread.join().unwrap();
    }

    #[test]
    fn closing_frees_a_waiting_writer() {
        let (sender, _receiver, _host) = pair();
        sender.close();
        assert!(matches!(sender.send(agent_message::Body::Done(Done {})), Err(StreamError::Closed)));
    }

    #[test]
    fn a_message_too_long_becomes_a_gap() {
        let (sender, _receiver, mut host) = pair();
        let alert = Alert { output: vec![0; MAX_AGENT_MESSAGE], ..Alert::default() };
        sender.send(agent_message::Body::Alert(alert)).unwrap();
        let Some(agent_message::Body::Gap(gap)) = read(&mut host).body else { panic!("not a gap") };
        assert_eq!(gap.kind(), gap::Kind::SensorLost);
    }

    #[test]
    fn bad_frames_are_refused_by_name() {
        let (_sender, mut receiver, mut host) = pair();
        host.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(matches!(receiver.receive(), Err(StreamError::TooLong(_))));
        host.write_all(&[0, 0, 0, 1, 0xff]).unwrap();
        assert!(matches!(receiver.receive(), Err(StreamError::Malformed(_))));
        host.write_all(&[0, 0, 0, 0]).unwrap();
        assert!(matches!(receiver.receive(), Err(StreamError::Empty)));
        drop(host);
        assert!(matches!(receiver.receive(), Err(StreamError::Closed)));
    }
}
