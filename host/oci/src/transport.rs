//! One HTTP request and its answer, bounded in time and size. It knows no registry and no credential, and it follows
//! nothing: a redirect is an answer.
//!
//! Two clients share all but one thing: `far`, for places that a registry named, connects to public addresses only.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use crate::address::is_public;
use crate::error::{OciError, Source};
use crate::settings::Settings;

type Http = Client<HttpsConnector<HttpConnector<Names>>, Upload>;

pub(crate) struct Transport {
    near: Http,
    far: Http,
    stall: Duration,
    user_agent: HeaderValue,
}

/// How far a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To whatever the operator named.
    Near,
    /// To public addresses only.
    Far,
}

/// A body that is counted while it goes out.
pub(crate) struct Upload {
    rest: Bytes,
    gone: Arc<AtomicU64>,
}

/// What a place that we were sent to turned out to be.
#[derive(Debug, thiserror::Error)]
#[error("{0} is an address of this machine or a private network")]
struct Forbidden(IpAddr);

#[derive(Clone, Copy)]
struct Names {
    reach: Reach,
}

const CONNECT: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

impl Transport {
    pub(crate) fn new(settings: &Settings) -> Result<Self, OciError> {
        let tls = tls(&settings.ca_certificates)?;
        let user_agent = HeaderValue::from_str(&settings.user_agent)
            .map_err(|_| OciError::UserAgent(settings.user_agent.clone()))?;
        let stall = settings.limits.stall;
        let client = |reach| {
            let mut connector = HttpConnector::new_with_resolver(Names { reach });
            connector.enforce_http(false);
            connector.set_connect_timeout(Some(CONNECT.min(stall)));
            connector.set_nodelay(true);
            // Which scheme is allowed is decided with the address in hand, not here.
            let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            let https = https.https_or_http().enable_http1().wrap_connector(connector);
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4).build(https)
        };
        Ok(Self { near: client(Reach::Near), far: client(Reach::Far), stall, user_agent })
    }

    /// Sends, and waits for the head of the answer as long as the body still moves.
    pub(crate) async fn send(
        &self,
        reach: Reach,
        host: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, OciError> {
        let gone = Arc::new(AtomicU64::new(0));
        let mut request = request.map(|rest| Upload { rest, gone: Arc::clone(&gone) });
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        let client = match reach {
            Reach::Near => &self.near,
            Reach::Far => &self.far,
        };
        let mut answer = std::pin::pin!(client.request(request));
        let mut before = 0;
        loop {
            match tokio::time::timeout(self.stall, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(e)) => return Err(failed(host, e.into())),
                Err(_) if gone.load(Ordering::Relaxed) > before => before = gone.load(Ordering::Relaxed),
                Err(_) => return Err(OciError::Stalled { host: host.to_owned(), after: self.stall }),
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        host: &str,
        response: Response<Incoming>,
        limit: Limit<'_>,
    ) -> Result<Bytes, OciError> {
        let declared =
            response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit.bytes) {
            return Err(limit.exceeded());
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        loop {
            let stalled = |_| OciError::Stalled { host: host.to_owned(), after: self.stall };
            let Some(frame) = tokio::time::timeout(self.stall, body.frame()).await.map_err(stalled)? else {
                return Ok(bytes.freeze());
            };
            let broken = |e: hyper::Error| OciError::Broken { host: host.to_owned(), source: e.into() };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                if (bytes.len() + data.len()) as u64 > limit.bytes {
                    return Err(limit.exceeded());
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}

/// How much of what may be read, and which setting says so.
#[derive(Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) what: &'a str,
    pub(crate) bytes: u64,
    pub(crate) key: &'static str,
}

impl Limit<'_> {
    fn exceeded(&self) -> OciError {
        OciError::TooLarge { what: self.what.to_owned(), limit: self.bytes, key: self.key }
    }
}

/// Whether the answer came from an address that anybody can reach. Where that is not known, it is the stricter case.
pub(crate) fn came_from_public(response: &Response<Incoming>) -> bool {
    response.extensions().get::<HttpInfo>().is_none_or(|info| is_public(info.remote_addr().ip()))
}

fn failed(host: &str, error: Source) -> OciError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(one) = source {
        if let Some(forbidden) = one.downcast_ref::<Forbidden>() {
            let why = forbidden.to_string();
            return OciError::Redirect { host: host.to_owned(), what: "a request".to_owned(), why };
        }
        source = one.source();
    }
    OciError::Unreachable { host: host.to_owned(), source: error }
}

fn tls(authorities: &[String]) -> Result<rustls::ClientConfig, OciError> {
    let bad = |why: &str| OciError::Certificates { why: why.to_owned() };
    let mut extra = Vec::new();
    for text in authorities {
        let before = extra.len();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            extra.push(certificate.map_err(|_| bad("a certificate is no PEM"))?);
        }
        if extra.len() == before {
            return Err(bad("a text without a PEM certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(OciError::Roots)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(OciError::Roots)?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

impl tower::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Source;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Source>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Source>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.reach;
        Box::pin(async move {
            // No name server is asked who this machine is.
            if name.as_str() == "localhost" {
                let own = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST)];
                return checked(own.map(|ip| SocketAddr::new(ip, 0)).to_vec(), reach);
            }
            checked(tokio::net::lookup_host((name.as_str(), 0)).await?.collect(), reach)
        })
    }
}

fn checked(addresses: Vec<SocketAddr>, reach: Reach) -> Result<std::vec::IntoIter<SocketAddr>, Source> {
    match addresses.iter().find(|a| reach == Reach::Far && !is_public(a.ip())) {
        Some(address) => Err(Box::new(Forbidden(address.ip()))),
        None => Ok(addresses.into_iter()),
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(length);
        self.gone.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_far_place_that_turns_out_to_be_near_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let transport = Transport::new(&Settings::default()).unwrap();
        let request = Request::get(format!("https://{host}/")).body(Bytes::new()).unwrap();
        let error = transport.send(Reach::Far, &host, request).await.unwrap_err();
        let expected =
            "sends us elsewhere for a request: 127.0.0.1 is an address of this machine or a private network";
        assert_eq!(error.to_string(), format!("{host} {expected}"));
        assert!(listener.accept().is_err(), "it was connected to");
    }

    #[test]
    fn bad_settings_are_refused_with_their_reason() {
        let new = |settings: Settings| Transport::new(&settings).map(drop).unwrap_err().to_string();
        let ca = |text: &str| new(Settings { ca_certificates: vec![text.to_owned()], ..Settings::default() });
        assert_eq!(ca("hello"), "`ca_certificates`: a text without a PEM certificate");
        let cut = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n";
        assert_eq!(ca(cut), "`ca_certificates`: a certificate is no PEM");
        let agent = Settings { user_agent: "a\nb".to_owned(), ..Settings::default() };
        assert_eq!(new(agent), "the user agent \"a\\nb\" cannot stand in a header");
    }
}
