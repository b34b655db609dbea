//! The relay between an agent and hosts that the test plays.

use lanner_proto::agent::{Ack, Cancel, Go, Start};
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Wire = Framed<DuplexStream, LengthDelimitedCodec>;

fn pair() -> (Relay<DuplexStream>, Wire) {
    let (ours, agent) = tokio::io::duplex(1024 * 1024);
    (Relay::new(ours), Framed::new(agent, frames()))
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut whole = BytesMut::new();
    frames().encode(Bytes::copy_from_slice(bytes), &mut whole).unwrap();
    whole.to_vec()
}

fn order(body: host_message::Body) -> Vec<u8> {
    framed(&HostMessage { body: Some(body) }.encode_to_vec())
}

fn ack(seq: u64) -> Vec<u8> {
    order(host_message::Body::Ack(Ack { seq }))
}

/// The host's end of one connection.
struct Host {
    up: mpsc::Receiver<Vec<u8>>,
    down: mpsc::Sender<Vec<u8>>,
    heard: BytesMut,
    codec: LengthDelimitedCodec,
}

type Ends = (mpsc::Sender<Vec<u8>>, ReceiverStream<Vec<u8>>);

impl Host {
    fn new() -> (Self, Ends) {
        let (to_host, up) = mpsc::channel(4);
        let (down, from_host) = mpsc::channel(64);
        (
            Self { up, down, heard: BytesMut::new(), codec: frames() },
            (to_host, ReceiverStream::new(from_host)),
        )
    }

    async fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.heard).unwrap() {
                return Some(frame.to_vec());
            }
            self.heard.extend_from_slice(&self.up.recv().await?);
        }
    }
}

async fn carry(relay: &mut Relay<DuplexStream>, known: u64, (up, down): Ends) -> Carried {
    relay.carry(known, &up, |bytes| bytes, down).await
}

async fn say(agent: &mut Wire, messages: std::ops::RangeInclusive<u8>) {
    for number in messages {
        agent.send(Bytes::copy_from_slice(&[number; 3])).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_and_the_rest_does_not() {
    let (mut relay, mut agent) = pair();
    say(&mut agent, 1..=5).await;
    let (mut host, ends) = Host::new();
    let first = async {
        for number in 1..=3 {
            assert_eq!(host.message().await.unwrap(), [number; 3]);
        }
        host.down.send(ack(1)).await.unwrap();
        drop(host);
    };
    assert_eq!(tokio::join!(carry(&mut relay, 0, ends), first).0, Carried::Broken);
    drop(agent);
    // It knows the third, and has stored the first.
    let (mut host, ends) = Host::new();
    let second = async {
        for number in 4..=5 {
            assert_eq!(host.message().await.unwrap(), [number; 3]);
        }
        host.down.send(ack(5)).await.unwrap();
        assert_eq!(host.message().await, None);
    };
    assert_eq!(tokio::join!(carry(&mut relay, 3, ends), second).0, Carried::Over);
    assert_eq!((relay.kept.len(), relay.bytes), (0, 0));
}

#[tokio::test]
async fn orders_are_counted_and_half_a_one_is_not_passed_on() {
    let (mut relay, mut agent) = pair();
    let (host, ends) = Host::new();
    let go = order(host_message::Body::Go(Go {}));
    let start = Start { path: "x".repeat(100_000), ..Start::default() };
    let orders = [order(host_message::Body::Start(start)), ack(0), go.clone()].concat();
    for piece in orders.chunks(PIECE) {
        host.down.send(piece.to_vec()).await.unwrap();
    }
    host.down.send(go[..3].to_vec()).await.unwrap();
    drop(host);
    assert_eq!(carry(&mut relay, 0, ends).await, Carried::Broken);
    assert_eq!(relay.orders(), 2);
    drop(relay);
    let mut passed = 0;
    while agent.next().await.transpose().unwrap().is_some() {
        passed += 1;
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn a_cancelled_agent_is_over_without_an_acknowledgement() {
    let (mut relay, mut agent) = pair();
    let (mut host, ends) = Host::new();
    host.down.send(order(host_message::Body::Cancel(Cancel::default()))).await.unwrap();
    let played = async {
        agent.next().await.unwrap().unwrap();
        say(&mut agent, 1..=1).await;
        drop(agent);
        assert_eq!(host.message().await.unwrap(), [1; 3]);
        host
    };
    assert_eq!(tokio::join!(carry(&mut relay, 0, ends), played).0, Carried::Over);
}

#[tokio::test]
async fn an_agent_that_says_too_much_waits_for_the_host() {
    let (mut relay, mut agent) = pair();
    let big = Bytes::from(vec![1; 1024 * 1024]);
    let says = async {
        for _ in 0..20 {
            agent.send(big.clone()).await.unwrap();
        }
    };
    let (host, ends) = Host::new();
    let waited = tokio::select! {
        carried = carry(&mut relay, 0, ends) => panic!("{carried:?}"),
        () = says => false,
        () = tokio::time::sleep(Duration::from_millis(500)) => true,
    };
    assert!(waited && relay.bytes >= KEPT && relay.bytes < KEPT + 2 * big.len(), "{}", relay.bytes);
    drop(host);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Wherever connections break, the host has each message once and in order, and so has the agent each order.
    #[test]
    fn connections_may_break_anywhere(
        sizes in prop::collection::vec(1usize..70_000, 1..20),
        breaks in prop::collection::vec((0usize..12, any::<bool>()), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut relay, mut agent) = pair();
            let all: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![u8::try_from(n).unwrap(); *size]).collect();
            let expected = all.clone();
            let says = async move {
                for message in all {
                    agent.send(Bytes::from(message)).await.unwrap();
                }
                drop(agent);
            };
            let hosts = async {
                let mut known: Vec<Vec<u8>> = Vec::new();
                for (pieces, acknowledges) in breaks.into_iter().chain([(usize::MAX, true)]) {
                    let (mut host, ends) = Host::new();
                    let from = known.len() as u64;
                    let plays = async {
                        if acknowledges {
                            host.down.send(ack(from)).await.unwrap();
                        }
                        for _ in 0..pieces {
                            if known.len() == expected.len() && !acknowledges {
                                break;
                            }
                            let Some(piece) = host.up.recv().await else { break };
                            host.heard.extend_from_slice(&piece);
                            while let Some(frame) = host.codec.decode(&mut host.heard).unwrap() {
                                known.push(frame.to_vec());
                            }
                            if acknowledges {
                                let _ = host.down.send(ack(known.len() as u64)).await;
                            }
                        }
                        drop(host);
                    };
                    let carried = tokio::join!(carry(&mut relay, from, ends), plays).0;
                    if carried == Carried::Over {
                        break;
                    }
                }
                drop(relay);
                known
            };
            let (known, ()) = tokio::join!(hosts, says);
            assert_eq!(known, expected);
        });
    }
}
