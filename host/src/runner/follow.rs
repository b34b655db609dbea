//! Follows the agent's stream: frames in, reports out, in order, until the agent says that it is done.
//!
//! Everything on this stream was written by our agent, yet it ran next to the package: lengths are bounded, sequence
//! numbers must have no hole, marks must carry our nonces, and every end that is not `Done` is a gap.

use std::time::Duration;

use lanner_core::evidence::{Gap, GapKind};
use lanner_core::{Isolation, PhaseResult};
use lanner_proto::MAX_AGENT_MESSAGE;
use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::host_message::Body as Order;
use lanner_proto::agent::{self, AgentMessage, HostMessage};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{RunError, alert, start};
use crate::scan::ports::{Report, ReportSender};
use crate::scan::witness::{Edge, Fence};

/// How long a cancelled agent may take to end in order.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The name under which the built-in sensor reports.
const SENSOR: &str = "builtin";
/// How far a scan has come on the stream.
struct Follow<'a, S> {
    stream: S,
    reports: &'a ReportSender,
    job: alert::Context,
    start_nonce: Vec<u8>,
    /// Made when the agent says `Quiet`, not before.
    end_nonce: Option<Vec<u8>>,
    last_seq: u64,
    unwatched: bool,
    fence: Fence,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The agent said so, or was told to end.
    InOrder,
    /// Its stream broke off; the gap is reported.
    Lost,
}

enum Step {
    On,
    Done,
}

/// Until the agent is done, was told to end, or is lost. Dropping the stream ends the agent, which is for the caller to wait
/// for.
pub(super) async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    start: agent::Start,
    reports: &ReportSender,
    cancel: &CancellationToken,
    limit: Duration,
    fence: Fence,
) -> Result<Ended, RunError> {
    fence.expect(Edge::Start, &start.start_nonce);
    let mut follow = Follow {
        stream,
        reports,
        job: alert::Context::new(&start, SENSOR),
        start_nonce: start.start_nonce.clone(),
        end_nonce: None,
        last_seq: 0,
        unwatched: start.unwatched,
        fence,
    };
    let result = tokio::select! {
        result = follow.until_done(start) => result,
        () = tokio::time::sleep(limit) => {
            follow.gap(GapKind::AgentLost, "it outlasted its time limit and was killed").await;
            Ok(Ended::Lost)
        }
        () = cancel.cancelled() => Ok(Ended::InOrder),
    };
    if cancel.is_cancelled() {
        let order = Order::Cancel(agent::Cancel { reason: "cancelled".into() });
        if follow.send(order).await.is_ok() {
            // In order, if it is quick: its end of the stream closes then.
            let _ = tokio::time::timeout(CANCEL_GRACE, follow.drained()).await;
        }
    }
    result
}

impl<S: AsyncRead + AsyncWrite + Unpin> Follow<'_, S> {
    async fn drained(&mut self) {
        while matches!(self.receive().await, Ok(Some(_))) {}
    }

    async fn until_done(&mut self, start: agent::Start) -> Result<Ended, RunError> {
        // An agent that died at once makes this fail; the read below then says so.
        let _ = self.send(Order::Start(start)).await;
        loop {
            let message = match self.receive().await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    self.gap(GapKind::AgentLost, "its stream ended too early").await;
                    return Ok(Ended::Lost);
                }
                Err(error) => {
                    self.gap(GapKind::Protocol, &error.to_string()).await;
                    return Ok(Ended::Lost);
                }
            };
            if message.seq != self.last_seq + 1 {
                self.gap(GapKind::Protocol, "a message is missing").await;
                return Ok(Ended::Lost);
            }
            self.last_seq = message.seq;
            let Some(body) = message.body else {
                self.gap(GapKind::Protocol, "a message is empty").await;
                return Ok(Ended::Lost);
            };
            if let Step::Done = self.take(body).await? {
                return Ok(Ended::InOrder);
            }
            // Taken means handed to the flow, which stores in order; the agent may forget it.
            let _ = self.send(Order::Ack(agent::Ack { seq: self.last_seq })).await;
        }
    }

    async fn take(&mut self, body: Body) -> Result<Step, RunError> {
        match body {
            Body::Hello(hello) => self.hello(&hello).await,
            Body::Mark(mark) => return self.mark(&mark.nonce).await,
            Body::PhaseStarted(p) => {
                self.report(Report::PhaseStarted { name: p.name, time: p.time_ns }).await;
            }
            Body::PhaseEnded(p) => self.report(Report::PhaseEnded(phase_result(p))).await,
            Body::Alert(a) => self.report(Report::Alert(Box::new(self.job.alert(a)))).await,
            Body::AlertRepeated(a) => {
                let (id, count, last_time) = (a.id, a.count, a.last_time_ns);
                self.report(Report::AlertRepeated { sensor: SENSOR.into(), id, count, last_time }).await;
            }
            Body::Gap(gap) => self.gap(gap_kind(&gap), &gap.detail).await,
            Body::Quiet(quiet) => {
                let (events, processes) = (quiet.events, quiet.processes);
                self.report(Report::Quiet { sensor: SENSOR.into(), events, processes }).await;
                let nonce = start::nonce();
                self.fence.expect(Edge::End, &nonce);
                self.end_nonce = Some(nonce.clone());
                let _ = self.send(Order::EndMark(agent::EndMark { nonce })).await;
            }
            Body::Done(agent::Done {}) => return Ok(Step::Done),
            Body::Refused(refused) => return Err(RunError::Refused(refused.reason)),
        }
        Ok(Step::On)
    }

    async fn hello(&mut self, hello: &agent::Hello) {
        let isolation = match hello.isolation() {
            agent::Isolation::Namespaces => Isolation::Namespaces,
            agent::Isolation::Container => Isolation::Container,
            agent::Isolation::Unspecified => return self.gap(GapKind::Protocol, "no isolation named").await,
        };
        self.report(Report::Started { isolation }).await;
        if self.unwatched {
            self.gap(GapKind::NoSensor, "").await;
            let _ = self.send(Order::Go(agent::Go {})).await;
        }
    }

    async fn mark(&mut self, nonce: &[u8]) -> Result<Step, RunError> {
        if nonce == self.start_nonce {
            self.report(Report::StartMark { sensor: SENSOR.into() }).await;
            if !self.fence.start_seen().await {
                return Err(RunError::Unwitnessed);
            }
            let _ = self.send(Order::Go(agent::Go {})).await;
        } else if self.end_nonce.as_deref() == Some(nonce) {
            self.report(Report::EndMark { sensor: SENSOR.into() }).await;
        } else {
            self.gap(GapKind::Protocol, "a mark carries a nonce that nobody gave out").await;
        }
        Ok(Step::On)
    }

    async fn gap(&self, kind: GapKind, detail: &str) {
        self.report(Report::Gap(Gap { kind, detail: detail.to_owned() })).await;
    }

    async fn report(&self, report: Report) {
        // A closed channel means that nobody wants to know any more; the scan then has its end already.
        let _ = self.reports.send(report).await;
    }

    async fn send(&mut self, body: Order) -> std::io::Result<()> {
        let message = HostMessage { body: Some(body) };
        let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(message.encode_to_vec());
        self.stream.write_all(&frame).await
    }

    /// `None` at the end of the stream.
    async fn receive(&mut self) -> Result<Option<AgentMessage>, StreamError> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if ended(&error) => return Ok(None),
            Err(error) => return Err(StreamError::Io(error)),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_AGENT_MESSAGE {
            return Err(StreamError::TooLong(length));
        }
        let mut frame = vec![0; length];
        match self.stream.read_exact(&mut frame).await {
            Ok(_) => Ok(Some(AgentMessage::decode(frame.as_slice())?)),
            Err(error) if ended(&error) => Ok(None),
            Err(error) => Err(StreamError::Io(error)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("a message of {0} bytes is longer than {MAX_AGENT_MESSAGE}")]
    TooLong(usize),
    #[error("a message is no message")]
    Decode(#[from] prost::DecodeError),
    #[error("the stream cannot be read")]
    Io(#[source] std::io::Error),
}

fn ended(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
}

fn phase_result(ended: agent::PhaseEnded) -> PhaseResult {
    PhaseResult {
        name: ended.name,
        // The flow knows when it started.
        started: ended.time_ns,
        ended: Some(ended.time_ns),
        exit_code: ended.exit_code,
        signal: ended.signal,
        output_tail: alert::printable(&ended.output_tail),
    }
}

fn gap_kind(gap: &agent::Gap) -> GapKind {
    match gap.kind() {
        agent::gap::Kind::Unreadable => GapKind::Unreadable,
        agent::gap::Kind::Limit => GapKind::Limit,
        agent::gap::Kind::SensorLost => GapKind::SensorLost,
        agent::gap::Kind::Sandbox => GapKind::Sandbox,
        agent::gap::Kind::Unspecified => GapKind::Protocol,
    }
}
