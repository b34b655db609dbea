//! One simulated pod at the host's door: it says what `lanner pod run` says there, and then what the agent would. Nothing is
//! installed, so there is no alert, and no way out is asked for.
//!
//! All that the bench knows of the two protocols is in this file.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::host_message::Body as Order;
use lanner_proto::agent::{self, AgentMessage, HostMessage};
use lanner_proto::pod::pod_client::PodClient;
use lanner_proto::pod::{Asked, Come, Found, FromPod, Registry, SourceRequest, ToPod, from_pod, to_pod};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Streaming};

/// What the Job's manifest gives to the pod.
pub(super) struct Given {
    pub(super) url: String,
    /// In PEM.
    pub(super) authority: String,
    pub(super) token: String,
}

const PROTOCOL: u32 = 1;
const LANDLOCK: u32 = 6;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The host may be busy with others, and is asked again for as long as `lanner pod run` asks.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// From the connection to the end of the stream; the one phase takes so long.
pub(super) async fn attend(given: &Given, phase: Duration) -> Result<()> {
    let mut client = PodClient::new(reached(given).await?);
    let (up, messages) = mpsc::channel(16);
    let mut call = with(ReceiverStream::new(messages), &given.token)?;
    // As long as one that nobody could guess; here nobody would.
    let key = format!("{:0>64}", given.token.get(..32).context("a token is longer")?);
    call.metadata_mut().insert("lanner-key", key.parse()?);
    up.send(FromPod { body: Some(from_pod::Body::Come(Come { orders: 0 })) }).await?;
    let mut down = client.attend(call).await?.into_inner();
    let Some(to_pod::Body::Asked(asked)) = down.message().await?.and_then(|m| m.body) else {
        bail!("the host asked nothing");
    };
    let project = project(&mut client, &asked, &key).await?;
    ensure!(project.starts_with(&GZIP), "the project is {} bytes of something else", project.len());
    up.send(FromPod { body: Some(from_pod::Body::Found(found())) }).await?;
    Agent { up, down, read: Vec::new(), seq: 0 }.scan(phase).await
}

async fn reached(given: &Given) -> Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&given.authority));
    let endpoint = Channel::from_shared(given.url.clone())?.tls_config(tls)?.connect_timeout(CONNECT);
    let begun = tokio::time::Instant::now();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "the door is not reached: {error:?}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn project(client: &mut PodClient<Channel>, asked: &Asked, key: &str) -> Result<Vec<u8>> {
    ensure!(asked.source, "each scan has a project");
    let mut pieces = client.source(with(SourceRequest {}, key)?).await?.into_inner();
    let mut project = Vec::new();
    while let Some(piece) = pieces.message().await? {
        project.extend(piece.bytes);
    }
    Ok(project)
}

fn found() -> Found {
    Found {
        path: "/usr/local/bin:/usr/bin:/bin".into(),
        registries: vec![Registry { host: "registry.npmjs.org".into(), port: 443 }],
        proxy_socket: "/pod/proxy".into(),
        source_path: "/pod/source.tgz".into(),
        work_dir: "/pod/scan".into(),
        ..Found::default()
    }
}

fn with<T>(message: T, secret: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse()?);
    Ok(request)
}

/// The agent's end of its stream, which is messages behind their lengths, in pieces that do not know of them.
struct Agent {
    up: mpsc::Sender<FromPod>,
    down: Streaming<ToPod>,
    read: Vec<u8>,
    seq: u64,
}

impl Agent {
    async fn scan(mut self, phase: Duration) -> Result<()> {
        let Order::Start(start) = self.order().await? else { bail!("it does not begin with Start") };
        self.say(Body::Hello(agent::Hello {
            protocol: PROTOCOL,
            isolation: start.isolation,
            landlock_abi: LANDLOCK,
            sync_wake_up: true,
        }))
        .await?;
        self.mark(start.start_nonce).await?;
        ensure!(matches!(self.order().await?, Order::Go(_)), "the start mark is not answered by Go");
        for (at, agent::Phase { name, .. }) in (1..).step_by(2).zip(start.phases) {
            self.say(Body::PhaseStarted(agent::PhaseStarted { name: name.clone(), time_ns: at })).await?;
            tokio::time::sleep(phase).await;
            let exit_code = Some(0);
            let ended =
                agent::PhaseEnded { name, time_ns: at + 1, exit_code, ..agent::PhaseEnded::default() };
            self.say(Body::PhaseEnded(ended)).await?;
        }
        self.say(Body::Quiet(agent::Quiet { events: 1, processes: 1 })).await?;
        let Order::EndMark(end) = self.order().await? else { bail!("Quiet is not answered by an end mark") };
        self.mark(end.nonce).await?;
        self.say(Body::Done(agent::Done {})).await?;
        drop(self.up);
        // Until the host has read it all.
        while self.down.message().await?.is_some() {}
        Ok(())
    }

    async fn mark(&mut self, nonce: Vec<u8>) -> Result<()> {
        self.say(Body::Mark(agent::Mark { nonce, time_ns: 1 })).await
    }

    async fn say(&mut self, body: Body) -> Result<()> {
        self.seq += 1;
        let message = AgentMessage { seq: self.seq, body: Some(body) };
        let mut frame = u32::try_from(message.encoded_len())?.to_be_bytes().to_vec();
        message.encode(&mut frame)?;
        self.up.send(FromPod { body: Some(from_pod::Body::Agent(frame)) }).await.context("the call is over")
    }

    /// The next that is no receipt.
    async fn order(&mut self) -> Result<Order> {
        loop {
            match self.message().await?.body.context("an empty order")? {
                Order::Ack(_) => {}
                Order::Cancel(cancel) => bail!("cancelled: {}", cancel.reason),
                order => return Ok(order),
            }
        }
    }

    async fn message(&mut self) -> Result<HostMessage> {
        loop {
            if let Some((length, rest)) = self.read.split_first_chunk()
                && let Some(message) = rest.get(..usize::try_from(u32::from_be_bytes(*length))?)
            {
                let (message, taken) = (HostMessage::decode(message)?, size_of::<u32>() + message.len());
                self.read.drain(..taken);
                return Ok(message);
            }
            match self.down.message().await?.context("the host's stream ended")?.body {
                Some(to_pod::Body::Agent(bytes)) => self.read.extend(bytes),
                _ => bail!("what follows is not the agent's stream"),
            }
        }
    }
}
