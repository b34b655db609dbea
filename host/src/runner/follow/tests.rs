//! The host's end of an agent's stream, before an agent that the test plays.

use futures::{SinkExt, StreamExt};
use lanner_proto::agent::HostMessage;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::*;

/// The agent's end of one connection.
struct Agent(Framed<DuplexStream, LengthDelimitedCodec>);

impl Agent {
    fn new() -> (Self, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        (Self(Framed::new(ours, frames())), theirs)
    }

    async fn say(&mut self, seq: u64, body: Body) {
        let message = AgentMessage { seq, body: Some(body) };
        self.0.send(bytes::Bytes::from(message.encode_to_vec())).await.unwrap();
    }

    /// The next order that is no acknowledgement.
    async fn order(&mut self) -> Order {
        loop {
            match self.heard().await {
                Order::Ack(_) => {}
                order => return order,
            }
        }
    }

    async fn heard(&mut self) -> Order {
        let frame = self.0.next().await.unwrap().unwrap();
        HostMessage::decode(frame).unwrap().body.unwrap()
    }
}

/// What follows, in a task of its own, and all that it needs.
struct Stage {
    again: mpsc::Sender<Again<DuplexStream>>,
    reports: mpsc::Receiver<Report>,
    stored: watch::Sender<u64>,
    result: tokio::task::JoinHandle<Result<Ended, RunError>>,
}

fn start() -> agent::Start {
    agent::Start { scan_id: "s".into(), start_nonce: vec![7; 16], ..agent::Start::default() }
}

fn stage(first: Option<DuplexStream>, course: Course) -> Stage {
    let (again, comes) = mpsc::channel(1);
    let (sender, reports) = mpsc::channel(64);
    let stored = watch::Sender::new(course.taken);
    let told = stored.subscribe();
    let fence = crate::scan::tests::fence();
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let result = tokio::spawn(async move {
        let note = |end: Option<&[u8]>, over| json!({ "end": end.map(<[u8]>::len), "over": over });
        let lasting = Some(Lasting { note: &note, stored: told });
        let cancel = CancellationToken::new();
        let to = Listeners { reports: &sender, cancel: &cancel, fence, lasting };
        follow(Line::coming(first, comes), course, to, Duration::from_secs(30)).await
    });
    Stage { again, reports, stored, result }
}

impl Stage {
    /// A connection after the first; the number that the host says it knows.
    async fn come(&self, orders: usize) -> (Agent, u64) {
        let (agent, stream) = Agent::new();
        let (known, told) = oneshot::channel();
        self.again.send(Again { stream, orders, known }).await.unwrap();
        (agent, told.await.unwrap())
    }

    async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap()
    }

    async fn taken(&mut self) -> u64 {
        loop {
            if let Report::Taken(seq) = self.report().await {
                return seq;
            }
        }
    }
}

fn hello() -> Body {
    Body::Hello(agent::Hello { isolation: agent::Isolation::Container.into(), ..agent::Hello::default() })
}

fn mark(nonce: &[u8]) -> Body {
    Body::Mark(agent::Mark { nonce: nonce.to_vec(), time_ns: 1 })
}

fn anew() -> Course {
    Course { start: start(), is_marked: false, end_nonce: None, taken: 0 }
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_and_an_order_that_was_lost_is_given_again() {
    let (mut agent, stream) = Agent::new();
    let mut stage = stage(Some(stream), anew());
    assert!(matches!(agent.order().await, Order::Start(_)));
    agent.say(1, hello()).await;
    agent.say(2, mark(&[7; 16])).await;
    assert_eq!((stage.taken().await, stage.taken().await), (1, 2));
    // It broke before the agent had the order to go, and in the middle of its next message.
    agent.0.get_mut().write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    drop(agent);
    let (mut agent, known) = stage.come(1).await;
    assert_eq!(known, 2);
    assert!(matches!(agent.order().await, Order::Go(_)));
    agent.say(3, Body::Quiet(agent::Quiet { events: 1, processes: 1 })).await;
    // Not before it is on disk.
    loop {
        if let Report::Passage(note) = stage.report().await {
            assert_eq!(note, json!({ "end": 16, "over": false }));
            break;
        }
    }
    assert_eq!(stage.taken().await, 3);
    assert!(tokio::time::timeout(Duration::from_millis(50), agent.order()).await.is_err());
    stage.stored.send_replace(3);
    let Order::EndMark(end) = agent.order().await else { panic!("no end mark") };
    // That order arrived; the connection broke behind it.
    let (mut agent, known) = stage.come(3).await;
    assert_eq!(known, 3);
    agent.say(4, mark(&end.nonce)).await;
    agent.say(5, Body::Done(agent::Done {})).await;
    while stage.taken().await != 5 {}
    stage.stored.send_replace(5);
    while !matches!(agent.heard().await, Order::Ack(agent::Ack { seq: 5 })) {}
    assert_eq!(stage.result.await.unwrap().unwrap(), Ended::InOrder);
}

#[tokio::test]
async fn the_next_life_goes_on_behind_what_is_on_disk() {
    let course = Course { start: start(), is_marked: true, end_nonce: Some(vec![9; 16]), taken: 6 };
    let mut stage = stage(None, course);
    // It has the start and the order to go, and not the end mark.
    let (mut agent, known) = stage.come(2).await;
    assert_eq!(known, 6);
    assert_eq!(agent.order().await, Order::EndMark(agent::EndMark { nonce: vec![9; 16] }));
    agent.say(7, mark(&[9; 16])).await;
    agent.say(8, Body::Done(agent::Done {})).await;
    let seen: Vec<Report> =
        vec![stage.report().await, stage.report().await, stage.report().await, stage.report().await];
    assert!(
        matches!(
            seen.as_slice(),
            [Report::EndMark { .. }, Report::Taken(7), Report::Passage(note), Report::Taken(8)]
                if note["over"] == true
        ),
        "{seen:?}"
    );
    stage.stored.send_replace(8);
    assert_eq!(stage.result.await.unwrap().unwrap(), Ended::InOrder);
}

#[tokio::test]
async fn a_hole_is_noticed_whatever_connection_it_lies_between() {
    let (mut agent, stream) = Agent::new();
    let mut stage = stage(Some(stream), anew());
    agent.say(1, hello()).await;
    assert_eq!(stage.taken().await, 1);
    drop(agent);
    let (mut agent, _) = stage.come(1).await;
    agent.say(3, Body::Done(agent::Done {})).await;
    let Report::Gap(gap) = stage.report().await else { panic!("no gap") };
    assert_eq!((gap.kind, gap.detail.as_str()), (GapKind::Protocol, "a message is missing"));
    assert_eq!(stage.result.await.unwrap().unwrap(), Ended::Senseless);
}

#[tokio::test]
async fn frames_without_sense_end_it_by_name() {
    let frames: [(&[u8], &str); 2] = [
        (&[0xff, 0xff, 0xff, 0xff], "a message is longer than 1048576 bytes"),
        (&[0, 0, 0, 1, 0xff], "a message is no message"),
    ];
    for (bytes, why) in frames {
        let (mut agent, stream) = Agent::new();
        let mut stage = stage(Some(stream), anew());
        agent.0.get_mut().write_all(bytes).await.unwrap();
        let Report::Gap(gap) = stage.report().await else { panic!("no gap") };
        assert_eq!((gap.kind, gap.detail.as_str()), (GapKind::Protocol, why));
        assert_eq!(stage.result.await.unwrap().unwrap(), Ended::Senseless);
    }
}

/// Whoever knows that nobody will come closes the channel.
#[tokio::test]
async fn an_agent_that_cannot_come_again_is_lost_at_once() {
    let (agent, stream) = Agent::new();
    let stage = stage(Some(stream), anew());
    drop((agent, stage.again));
    assert_eq!(stage.result.await.unwrap().unwrap(), Ended::Lost("its stream ended too early"));
}
