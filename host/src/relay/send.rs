//! The sender: lines from the spool to the host's intake, in order, again and again until they are acknowledged.
//!
//! The host says up to where it has received and dealt with lines; the sender goes on behind the former and forgets up to
//! the latter. It needs no memory of its own: after a failure it begins where it was acknowledged, and the host takes no
//! line twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;

use super::spool::Spool;
use super::{ClientFiles, RelayConfig, RelayError};
use crate::intake::relay::{ACKNOWLEDGED, FIRST, NAME, SPOOL};
use crate::net::tls;
use crate::tasks::{Supervisor, jitter};

const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 2 << 20;
const MAX_ANSWER: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between questions whether what was sent is dealt with.
const ASK: Duration = Duration::from_millis(100);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct Sender {
    spool: Arc<Spool>,
    client: HttpClient,
    tls: Option<ClientFiles>,
    tasks: Supervisor,
    uri: Uri,
    name: String,
}

#[derive(Deserialize)]
struct Levels {
    received: u64,
    acknowledged: u64,
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the host cannot be reached")]
    Reach(#[source] hyper_util::client::legacy::Error),
    #[error("the host did not answer in time")]
    Slow,
    #[error("the host answered {0}: {1}")]
    Refused(http::StatusCode, String),
    #[error("the answer is none of an intake")]
    Nonsense,
    #[error("the spool cannot be read")]
    Spool(#[from] std::io::Error),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

impl Sender {
    pub(super) fn new(
        config: &RelayConfig,
        spool: Arc<Spool>,
        tasks: Supervisor,
    ) -> Result<Self, RelayError> {
        let secret = config.secret.as_deref().map(|s| format!("/{s}")).unwrap_or_default();
        let uri = format!("{}/intake/relay{secret}", config.to.trim_end_matches('/'));
        let good =
            |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some();
        let uri: Uri = uri.parse().ok().filter(good).ok_or_else(|| RelayError::Address(config.to.clone()))?;
        let name = &config.name;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if !(1..=100).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(RelayError::Name(name.clone()));
        }
        if uri.scheme_str() == Some("https") && config.tls.is_none() {
            return Err(RelayError::NoAuthority);
        }
        let tls = config.tls.clone();
        let client = client(tls.as_ref(), tasks.clone())?;
        Ok(Self { spool, client, tls, tasks, uri, name: name.clone() })
    }

    /// Sends until the spool is over.
    pub(super) async fn run(mut self) {
        let mut next = self.spool.acknowledged() + 1;
        let mut wait = FIRST_WAIT;
        while !self.spool.is_over() {
            match self.once(next).await {
                Ok((received, idle)) => {
                    wait = FIRST_WAIT;
                    next = received + 1;
                    if idle {
                        self.rest(received).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "lines wait in the spool");
                    next = self.spool.acknowledged() + 1;
                    tokio::time::sleep(wait + jitter(wait)).await;
                    self.renew();
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Certificates may have been replaced meanwhile.
    fn renew(&mut self) {
        if self.tls.is_none() {
            return;
        }
        match client(self.tls.as_ref(), self.tasks.clone()) {
            Ok(client) => self.client = client,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the old certificates stay");
            }
        }
    }

    /// Nothing to send, or the host takes nothing now.
    async fn rest(&self, received: u64) {
        if self.spool.acknowledged() < received {
            return tokio::time::sleep(ASK).await;
        }
        // Woken at once by a new line; a host that has no room for it is asked again.
        let _ = tokio::time::timeout(ASK, self.spool.grown.notified()).await;
    }

    /// One request; up to where the host has received, and whether there was no progress.
    async fn once(&self, next: u64) -> Result<(u64, bool), SendError> {
        let (body, lines) = self.spool.read(next, MAX_LINES, MAX_BYTES)?;
        let known = self.spool.acknowledged();
        if lines == 0 && next == known + 1 {
            return Ok((known, true));
        }
        let request = Request::post(self.uri.clone())
            .header(NAME, &self.name)
            .header(SPOOL, &self.spool.id)
            .header(FIRST, next)
            .header(ACKNOWLEDGED, known)
            .body(Full::from(body))?;
        let answered = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        let response = answered.map_err(|_| SendError::Slow)?.map_err(SendError::Reach)?;
        let status = response.status();
        let answer =
            tokio::time::timeout(TIMEOUT, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        let answer = answer.map_err(|_| SendError::Slow)?.map_err(|_| SendError::Nonsense)?.to_bytes();
        if !status.is_success() {
            let text = lanner_core::text::escaped(&lanner_core::text::lossy(&answer));
            return Err(SendError::Refused(status, lanner_core::text::bounded(&text, 200)));
        }
        let levels: Levels = serde_json::from_slice(&answer).map_err(|_| SendError::Nonsense)?;
        self.spool.acknowledge(levels.acknowledged)?;
        // A host that has received less than it was acknowledged, or more than there is, is not ours.
        if !(self.spool.acknowledged()..=self.spool.last()).contains(&levels.received) {
            return Err(SendError::Nonsense);
        }
        Ok((levels.received, lines == 0 || levels.received + 1 < next + lines))
    }
}

fn client(files: Option<&ClientFiles>, tasks: Supervisor) -> Result<HttpClient, tls::TlsError> {
    let tls = match files {
        None => tls::trusting_nobody()?,
        Some(ClientFiles { ca, own }) => {
            tls::client(ca, own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path())))?
        }
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(tasks).build(connector))
}
