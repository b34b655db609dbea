//! The intake's listener: `POST /intake/falco` for Falco's `http_output` and for Falcosidekick, `POST /intake/relay` for
//! `lanner relay`.
//!
//! Falco can send no credential, ignores what it is answered and never sends again. So who may come is told by a secret
//! part of the path and by addresses, an alert is taken before anything else is looked at, and no answer waits for what
//! happens to it. What a scan is, is not known here.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use ipnet::IpNet;
use lanner_core::Nanos;
use lanner_core::falco::{DecodeError, decode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::relay::Relays;
use super::{Door, Intake, board};
use crate::net::Peer;
use crate::scan::witness::Stretch;

/// The longest body; Falco sends one alert at a time, a relay a thousand.
const MAX_BODY: usize = 4 << 20;
/// From a request's head to the end of its body.
const BODY_TIME: Duration = Duration::from_secs(20);
const MIN_SECRET: usize = 16;
const MAX_SECRET_FILE: u64 = 4096;
const FALCO: &str = "/intake/falco";
const RELAY: &str = "/intake/relay";

/// Who may come in.
#[derive(Debug, Default)]
pub struct Lock {
    secret: Option<[u8; 32]>,
    allow: Vec<IpNet>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the file {0} of intake.secret_file cannot be read")]
    Read(String, #[source] std::io::Error),
    #[error(
        "the secret in intake.secret_file has fewer than {MIN_SECRET} bytes or bytes that a path cannot have: use letters and digits"
    )]
    Secret,
    #[error(
        "{0} can be reached from other machines and anybody could send alerts: set intake.secret_file, intake.allow or \
         intake.tls.client_ca_file, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
}

pub struct Webhook {
    intake: Intake,
    lock: Lock,
    relays: Relays,
}

/// Ends a connection's stretch with the connection.
struct Connection {
    intake: Intake,
    door: Door,
    stretch: Arc<Stretch>,
}

impl Lock {
    /// `certified`: whoever comes has shown a certificate.
    pub fn load(
        secret_file: Option<&Path>,
        allow: Vec<IpNet>,
        certified: bool,
        listen: SocketAddr,
    ) -> Result<Self, LockError> {
        let secret = secret_file.map(read_secret).transpose()?;
        if secret.is_none() && allow.is_empty() && !certified && !listen.ip().is_loopback() {
            return Err(LockError::Open(listen));
        }
        Ok(Self { secret, allow })
    }

    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&address))
    }

    /// Whether a path is `base`, or `base/SECRET` where there is a secret.
    fn opens(&self, path: &str, base: &str) -> bool {
        let Some(rest) = path.strip_prefix(base) else { return false };
        match &self.secret {
            None => rest.is_empty(),
            Some(secret) => {
                rest.strip_prefix('/').is_some_and(|offered| digest(offered.as_bytes()).ct_eq(secret).into())
            }
        }
    }
}

impl Webhook {
    pub fn new(intake: Intake, lock: Lock) -> Self {
        let relays = Relays::new(intake.clone());
        Self { intake, lock, relays }
    }

    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let Some(peer) = parts.extensions.get::<Arc<Peer>>() else {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "the connection is not known");
        };
        if !self.lock.admits(peer.address.ip()) {
            return problem(StatusCode::FORBIDDEN, "this address is not in intake.allow");
        }
        let relay = self.lock.opens(parts.uri.path(), RELAY);
        if !relay && !self.lock.opens(parts.uri.path(), FALCO) {
            return problem(StatusCode::NOT_FOUND, "nothing answers at this path");
        }
        if parts.method != Method::POST {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "alerts are posted here");
        }
        let body = match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return self.cut(peer, &parts, relay, "a body was cut or longer than 4 MiB"),
            Err(_) => return self.cut(peer, &parts, relay, "a body came too slowly"),
        };
        let received = crate::scan::now();
        if relay {
            return self.relays.answer(&parts.headers, &body, received);
        }
        self.falco(peer, &parts, &body, received)
    }

    fn falco(
        &self,
        peer: &Peer,
        parts: &http::request::Parts,
        body: &[u8],
        received: Nanos,
    ) -> Response<Full<Bytes>> {
        let (door, stretch) = self.stretch(peer, parts);
        let decoded = decode(body, received);
        let (alerts, refused) = (decoded.sightings.len(), decoded.refused);
        let why = decoded.why.as_ref().map(ToString::to_string);
        // A probe that posts nothing is no lost alert.
        if matches!(decoded.why, Some(DecodeError::Empty)) {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, "the body is empty");
        }
        self.intake.accept(door, &stretch, decoded, received);
        match why {
            Some(why) if alerts == 0 => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
            _ => json(
                StatusCode::OK,
                "application/json",
                &serde_json::json!({ "alerts": alerts, "refused": refused }),
            ),
        }
    }

    /// A body that did not arrive whole may have held an alert.
    fn cut(
        &self,
        peer: &Peer,
        parts: &http::request::Parts,
        relay: bool,
        why: &str,
    ) -> Response<Full<Bytes>> {
        if !relay {
            let (door, stretch) = self.stretch(peer, parts);
            self.intake.unreadable(door, &stretch, why);
        }
        problem(StatusCode::BAD_REQUEST, why)
    }

    /// The stretch of a connection. One request after the other, as HTTP/1.1 has them, is in order; Falcosidekick posts
    /// each alert on its own and vouches for nothing.
    fn stretch(&self, peer: &Peer, parts: &http::request::Parts) -> (Door, Arc<Stretch>) {
        let agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let door = if agent.starts_with("falcosecurity/falco") { Door::Http } else { Door::Falcosidekick };
        let query = parts.uri.query().unwrap_or_default().split('&');
        let named = query.filter_map(|pair| pair.strip_prefix("sensor=")).find_map(board::name);
        let sensor = named.unwrap_or_else(|| peer.address.ip().to_canonical().to_string());
        if let Some(kept) = peer.kept.get().and_then(|kept| kept.downcast_ref::<Connection>())
            && kept.door == door
            && kept.stretch.sensor == sensor
        {
            return (door, kept.stretch.clone());
        }
        let vouches =
            door == Door::Http && parts.version < http::Version::HTTP_2 && peer.kept.get().is_none();
        let stretch = self.intake.stretch(door, sensor, vouches);
        let kept = Connection { intake: self.intake.clone(), door, stretch: stretch.clone() };
        if vouches {
            // Set by one request at a time on HTTP/1.1; nothing else keeps anything here.
            let _ = peer.kept.set(Box::new(kept));
        }
        (door, stretch)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.stretch.vouches {
            self.intake.broken(self.door, &self.stretch, "its connection closed");
        }
    }
}

fn read_secret(path: &Path) -> Result<[u8; 32], LockError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET_FILE).read_to_end(&mut bytes));
    read.map_err(|source| LockError::Read(path.display().to_string(), source))?;
    let secret = bytes.trim_ascii_end();
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    if secret.len() < MIN_SECRET || !secret.iter().all(good) {
        return Err(LockError::Secret);
    }
    Ok(digest(secret))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or("error").to_lowercase();
    let document = serde_json::json!({ "title": title, "status": status.as_u16(), "detail": detail });
    json(status, "application/problem+json", &document)
}

pub(super) fn json(
    status: StatusCode,
    kind: &'static str,
    document: &serde_json::Value,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(document.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_a_part_of_the_path_and_addresses_are_nets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let here: SocketAddr = "127.0.0.1:1".parse().unwrap();
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let lock = Lock::load(Some(&file), vec!["10.0.0.0/8".parse().unwrap()], false, here).unwrap();
        assert!(lock.opens("/intake/falco/0123456789abcdef", FALCO));
        for path in [
            "/intake/falco",
            "/intake/falco/",
            "/intake/falco/0123456789abcdee",
            "/intake/falco0123456789abcdef",
        ] {
            assert!(!lock.opens(path, FALCO), "{path}");
        }
        assert!(lock.admits("10.1.2.3".parse().unwrap()) && lock.admits("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!lock.admits("11.1.2.3".parse().unwrap()));
        let open = Lock::load(None, vec![], false, here).unwrap();
        assert!(open.opens("/intake/falco", FALCO) && !open.opens("/intake/falco/x", FALCO));
        assert!(Lock::load(None, vec![], true, "0.0.0.0:1".parse().unwrap()).is_ok());
        std::fs::write(&file, "short").unwrap();
        for (file, listen, message) in [
            (Some(file.as_path()), here, "the secret in intake.secret_file has fewer than 16 bytes"),
            (Some(Path::new("/nowhere")), here, "the file /nowhere of intake.secret_file cannot be read"),
            (None, "0.0.0.0:1".parse().unwrap(), "0.0.0.0:1 can be reached from other machines"),
        ] {
            let error = Lock::load(file, vec![], false, listen).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
