//! A client of one Falco's gRPC outputs (Falco up to 0.43): keeps `sub` drained, reads greedily, comes back when it breaks.
//!
//! Falco empties its queue whenever a request arrives, so empty ones are sent all the time; what it has handed to a
//! connection is lost with it, so each connection is a stretch of its own and its end is told. Certificates are read
//! anew at each connection, so that changed ones are used from then on. It knows no scan.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use lanner_core::falco::{Decoded, Response, from_rpc};
use lanner_core::text::chain;
use lanner_proto::falco::outputs::{self, service_client::ServiceClient};
use lanner_proto::falco::version::{self, service_client::ServiceClient as VersionClient};
use tokio::net::UnixStream;
use tokio_stream::wrappers::IntervalStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Door, Intake};
use crate::scan::now;
use crate::scan::witness::Stretch;
use crate::tasks::jitter;

/// How often Falco is asked; an alert waits for this long at most.
const ASK: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that answers no ping for this long is broken.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that held for this long was a good one.
const HELD: Duration = Duration::from_secs(10);
const MAX_MESSAGE: usize = 4 << 20;
/// The first Falco with `sub`.
const OLDEST: (u32, u32) = (0, 24);

/// A Falco to listen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// Falco's TCP port demands certificates on both sides.
    Tcp {
        url: String,
        /// The name in Falco's certificate, where it is not the one in the address.
        server_name: Option<String>,
        ca: PathBuf,
        certificate: PathBuf,
        key: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
enum GrpcError {
    #[error("{0} cannot be read")]
    Pem(String, #[source] std::io::Error),
    #[error("it cannot be connected to")]
    Connect(#[from] tonic::transport::Error),
    #[error("its version cannot be asked for: {0}")]
    Version(String),
    #[error("Falco {0}.{1} has no outputs that can be subscribed to: 0.24 is the first, 0.43 the last")]
    Old(u32, u32),
    #[error("its stream broke: {0}")]
    Stream(String),
    #[error("its stream ended")]
    Ended,
}

/// Follows one Falco for as long as the task lives.
pub async fn follow(instance: Instance, intake: Intake) -> Result<(), std::convert::Infallible> {
    let mut wait = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        let error = match connect(&instance).await {
            Ok(connected) => stay(&instance, &intake, connected).await,
            Err(error) => {
                intake.board().failed(&instance.name, Door::Grpc, &chain(&error));
                error
            }
        };
        if begun.elapsed() > HELD {
            wait = FIRST_WAIT;
        }
        tracing::warn!(sensor = instance.name, error = &error as &dyn std::error::Error, "Falco is away");
        tokio::time::sleep(wait + jitter(wait)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// A channel, and the version of the Falco behind it.
async fn connect(instance: &Instance) -> Result<(Channel, String), GrpcError> {
    let channel = match &instance.address {
        Address::Unix(path) => {
            let path: Arc<Path> = Arc::from(path.as_path());
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            endpoint(Endpoint::from_static("http://falco")).connect_with_connector(connector).await?
        }
        Address::Tcp { url, server_name, ca, certificate, key } => {
            let mut tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(pem(ca)?))
                .identity(Identity::from_pem(pem(certificate)?, pem(key)?));
            if let Some(name) = server_name {
                tls = tls.domain_name(name);
            }
            endpoint(Endpoint::from_shared(url.clone())?).tls_config(tls)?.connect().await?
        }
    };
    let mut versions = VersionClient::new(channel.clone());
    let unknown = |why: String| GrpcError::Version(lanner_core::text::escaped(&why));
    let asked = tokio::time::timeout(CONNECT, versions.version(version::Request {})).await;
    let answer = asked.map_err(|_| unknown("no answer in time".into()))?;
    let answer = answer.map_err(|status| unknown(status.message().to_owned()))?.into_inner();
    if (answer.major, answer.minor) < OLDEST {
        return Err(GrpcError::Old(answer.major, answer.minor));
    }
    Ok((channel, format!("{}.{}.{}", answer.major, answer.minor, answer.patch)))
}

fn endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
}

fn pem(path: &Path) -> Result<Vec<u8>, GrpcError> {
    std::fs::read(path).map_err(|e| GrpcError::Pem(path.display().to_string(), e))
}

/// One connection, from its first question to its end.
async fn stay(instance: &Instance, intake: &Intake, (channel, version): (Channel, String)) -> GrpcError {
    let stretch = intake.stretch(Door::Grpc, instance.name.clone(), true);
    intake.board().version(&instance.name, &version);
    tracing::info!(sensor = instance.name, version, "Falco is there");
    let mut connected = Connected { intake, stretch: &stretch, why: "it is no longer followed".into() };
    let error = listen(intake, &stretch, channel).await;
    connected.why = chain(&error);
    error
}

/// Tells of the stretch's end, even if the task is dropped where it waits.
struct Connected<'a> {
    intake: &'a Intake,
    stretch: &'a Arc<Stretch>,
    why: String,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.intake.broken(Door::Grpc, self.stretch, &self.why);
    }
}

async fn listen(intake: &Intake, stretch: &Arc<Stretch>, channel: Channel) -> GrpcError {
    let mut client = ServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut ticks = tokio::time::interval(ASK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let questions = IntervalStream::new(ticks).map(|_| outputs::Request {});
    // Falco answers with its first alert only: this may wait for hours, and pings tell whether it is still there.
    let mut alerts = match client.sub(questions).await {
        Ok(response) => response.into_inner(),
        Err(status) => return GrpcError::Stream(status.message().to_owned()),
    };
    loop {
        match alerts.message().await {
            Ok(Some(message)) => {
                let received = now();
                let sightings = vec![from_rpc(response(message), received)];
                intake.accept(Door::Grpc, stretch, Decoded { sightings, ..Decoded::default() }, received);
            }
            Ok(None) => return GrpcError::Ended,
            Err(status) => return GrpcError::Stream(status.message().to_owned()),
        }
    }
}

fn response(message: outputs::Response) -> Response {
    let nanos =
        |t: prost_types::Timestamp| t.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(t.nanos));
    Response {
        time: message.time.and_then(nanos),
        priority: message.priority,
        rule: message.rule,
        output: message.output,
        output_fields: message.output_fields.into_iter().map(|f| (f.key, f.value)).collect(),
        hostname: message.hostname,
        tags: message.tags,
        source: message.source,
        source_deprecated: message.source_deprecated,
    }
}
