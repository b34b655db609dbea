//! Follows the agent's stream: frames in, reports out, in order, until the agent says that it is done.
//!
//! Everything on this stream was written by our agent, yet it ran next to the package: lengths are bounded, sequence
//! numbers must have no hole, marks must carry our nonces, and every end that is not `Done` is a gap.
//!
//! Where the agent outlives this host ([`Lasting`]), a message is acknowledged when it is on disk, and the end nonce is on disk
//! before it is given out: so the next life of the host goes on where this one was.

use std::time::Duration;

use lanner_core::evidence::{BUILTIN, Gap, GapKind};
use lanner_core::{Isolation, PhaseResult};
use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::host_message::Body as Order;
use lanner_proto::agent::{self, AgentMessage};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{RunError, alert, start};
use crate::scan::ports::{Report, ReportSender};
use crate::scan::witness::{Edge, Fence};
use line::Heard;
pub(super) use line::{Again, Line, frames};

mod line;
#[cfg(test)]
mod tests;

/// How long a cancelled agent may take to end in order.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long the store may take until the end of a scan is on disk.
const STORED: Duration = Duration::from_secs(30);

/// How far a scan has come.
pub(super) struct Course {
    pub(super) start: agent::Start,
    /// The agent has run the start mark.
    pub(super) is_marked: bool,
    /// Made when the agent says `Quiet`, not before.
    pub(super) end_nonce: Option<Vec<u8>>,
    /// Everything up to this number has been reported.
    pub(super) taken: u64,
}

/// Whom it concerns.
pub(super) struct Listeners<'a> {
    pub(super) reports: &'a ReportSender,
    pub(super) cancel: &'a CancellationToken,
    pub(super) fence: Fence,
    /// For an agent that outlives the host.
    pub(super) lasting: Option<Lasting<'a>>,
}

/// What the next life of the host needs.
pub(super) struct Lasting<'a> {
    /// The runner's note, with the end nonce once there is one, and whether all is said.
    pub(super) note: &'a (dyn Fn(Option<&[u8]>, bool) -> Value + Send + Sync),
    /// The last message that is on disk.
    pub(super) stored: watch::Receiver<u64>,
}

struct Follow<'a, S> {
    line: Line<S>,
    to: Listeners<'a>,
    job: alert::Context,
    course: Course,
    /// All that were given so far, acknowledgements not counted.
    orders: Vec<Order>,
    /// So many of them the agent has for certain.
    there: usize,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The agent said so, or was told to end.
    InOrder,
    /// Its stream broke off; why, as far as the stream says.
    Lost(&'static str),
    /// What came made no sense; the gap is reported.
    Senseless,
}

enum Step {
    On,
    Done,
}

/// Until the agent is done, was told to end, or is lost. Dropping the line ends the agent on this machine, which is for the
/// caller to wait for.
pub(super) async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    line: Line<S>,
    course: Course,
    to: Listeners<'_>,
    limit: Duration,
) -> Result<Ended, RunError> {
    let cancel = to.cancel;
    let mut follow = Follow::new(line, course, to);
    let result = tokio::select! {
        result = follow.until_done() => result,
        () = tokio::time::sleep(limit) => Ok(Ended::Lost("it outlasted its time limit and was killed")),
        () = cancel.cancelled() => Ok(Ended::InOrder),
    };
    if cancel.is_cancelled() {
        follow.line.send(Order::Cancel(agent::Cancel { reason: "cancelled".into() })).await;
        // In order, if it is quick: its end of the stream closes then.
        let _ = tokio::time::timeout(CANCEL_GRACE, follow.drained()).await;
    }
    result
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Follow<'a, S> {
    fn new(line: Line<S>, course: Course, to: Listeners<'a>) -> Self {
        to.fence.expect(Edge::Start, &course.start.start_nonce);
        let job = alert::Context::new(&course.start, BUILTIN);
        let mut follow = Self { line, to, job, course, orders: Vec::new(), there: 0 };
        // Of an earlier life: what it has given, an agent that has not got it must get.
        if follow.course.is_marked {
            follow.orders = vec![Order::Start(follow.course.start.clone()), go()];
        }
        if let Some(nonce) = follow.course.end_nonce.clone() {
            follow.to.fence.expect(Edge::End, &nonce);
            follow.orders.push(Order::EndMark(agent::EndMark { nonce }));
        }
        follow
    }

    async fn drained(&mut self) {
        while matches!(self.line.hear().await, Ok(Heard::Message(_))) {}
    }

    async fn until_done(&mut self) -> Result<Ended, RunError> {
        if self.orders.is_empty() {
            // An agent that died at once makes this fail; hearing it then says so.
            self.give(Order::Start(self.course.start.clone())).await;
        }
        loop {
            let message = match self.heard().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Ended::Lost("its stream ended too early")),
                Err(error) => return Ok(self.senseless(&error.to_string()).await),
            };
            if message.seq != self.course.taken + 1 {
                return Ok(self.senseless("a message is missing").await);
            }
            self.course.taken = message.seq;
            let Some(body) = message.body else {
                return Ok(self.senseless("a message is empty").await);
            };
            let step = self.take(body).await?;
            if let Step::Done = step {
                self.remember(true).await;
            }
            self.taken().await;
            if let Step::Done = step {
                self.settled().await;
                return Ok(Ended::InOrder);
            }
        }
    }

    /// The next message, whichever stream it comes by.
    async fn heard(&mut self) -> Result<Option<AgentMessage>, line::LineError> {
        loop {
            let Self { line, to, .. } = self;
            let stored = async {
                let changed = match &mut to.lasting {
                    Some(lasting) => lasting.stored.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    std::future::pending::<()>().await;
                }
            };
            let heard = tokio::select! {
                heard = line.hear() => heard?,
                () = stored => {
                    self.acknowledge().await;
                    continue;
                }
            };
            match heard {
                Heard::Message(message) => return Ok(Some(message)),
                Heard::End => return Ok(None),
                Heard::Again(again) => self.attach(again).await,
            }
        }
    }

    async fn attach(&mut self, again: Again<S>) {
        tracing::info!(known = self.course.taken, orders = again.orders, "the agent's stream came anew");
        // A pod that is gone again meanwhile is heard of by the stream.
        let _ = again.known.send(self.course.taken);
        self.line.attach(again.stream);
        self.there = again.orders;
        for order in self.orders.get(again.orders..).unwrap_or_default().to_vec() {
            self.line.send(order).await;
        }
        self.acknowledge().await;
    }

    /// Gives an order that the agent has not got already, from an earlier life of the host that could not write it down.
    async fn give(&mut self, order: Order) {
        self.orders.push(order.clone());
        if self.orders.len() > self.there {
            self.line.send(order).await;
        }
    }

    /// A message has been reported: the agent may forget it, at once or when it is on disk.
    async fn taken(&mut self) {
        let seq = self.course.taken;
        if self.to.lasting.is_some() {
            self.report(Report::Taken(seq)).await;
        } else {
            // Handed to the flow, which stores in order.
            self.line.send(Order::Ack(agent::Ack { seq })).await;
        }
    }

    async fn acknowledge(&mut self) {
        if let Some(lasting) = &mut self.to.lasting {
            let seq = *lasting.stored.borrow_and_update();
            self.line.send(Order::Ack(agent::Ack { seq })).await;
        }
    }

    /// Waits until all that was taken is on disk, and says so.
    async fn settled(&mut self) {
        let taken = self.course.taken;
        if let Some(lasting) = &mut self.to.lasting {
            let _ = tokio::time::timeout(STORED, lasting.stored.wait_for(|stored| *stored >= taken)).await;
            self.acknowledge().await;
        }
    }

    async fn remember(&mut self, is_over: bool) {
        if let Some(lasting) = &self.to.lasting {
            let note = (lasting.note)(self.course.end_nonce.as_deref(), is_over);
            self.report(Report::Passage(note)).await;
        }
    }

    async fn senseless(&self, why: &str) -> Ended {
        self.gap(GapKind::Protocol, why).await;
        Ended::Senseless
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
                self.report(Report::AlertRepeated { sensor: BUILTIN.into(), id, count, last_time }).await;
            }
            Body::Gap(gap) => self.gap(gap_kind(&gap), &gap.detail).await,
            Body::Quiet(quiet) => self.quiet(&quiet).await,
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
        if self.course.start.unwatched {
            self.gap(GapKind::NoSensor, "").await;
            self.give(go()).await;
        }
    }

    async fn mark(&mut self, nonce: &[u8]) -> Result<Step, RunError> {
        if nonce == self.course.start.start_nonce {
            self.report(Report::StartMark { sensor: BUILTIN.into() }).await;
            if !self.to.fence.start_seen().await {
                return Err(RunError::Unwitnessed);
            }
            self.give(go()).await;
        } else if self.course.end_nonce.as_deref() == Some(nonce) {
            self.report(Report::EndMark { sensor: BUILTIN.into() }).await;
        } else {
            self.gap(GapKind::Protocol, "a mark carries a nonce that nobody gave out").await;
        }
        Ok(Step::On)
    }

    /// The last process of the package is gone: only now is there an end nonce.
    async fn quiet(&mut self, quiet: &agent::Quiet) {
        let (events, processes) = (quiet.events, quiet.processes);
        self.report(Report::Quiet { sensor: BUILTIN.into(), events, processes }).await;
        let nonce = start::nonce();
        self.to.fence.expect(Edge::End, &nonce);
        self.course.end_nonce = Some(nonce.clone());
        self.remember(false).await;
        if self.to.lasting.is_some() {
            self.report(Report::Taken(self.course.taken)).await;
            self.settled().await;
        }
        self.give(Order::EndMark(agent::EndMark { nonce })).await;
    }

    async fn gap(&self, kind: GapKind, detail: &str) {
        self.report(Report::Gap(Gap { kind, detail: detail.to_owned() })).await;
    }

    async fn report(&self, report: Report) {
        // A closed channel means that nobody wants to know any more; the scan then has its end already.
        let _ = self.to.reports.send(report).await;
    }
}

/// Every sensor has reported the start mark.
fn go() -> Order {
    Order::Go(agent::Go {})
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
