//! The one way out of a sandbox: an HTTP proxy on a unix socket that lets through a short list of hosts.
//!
//! `CONNECT host:port` for https, absolute-form requests for plain http; any host off the list gets 403. Every attempt
//! is recorded by host name, allowed or not. It looks into no tunnel, keeps nothing, and never asks another proxy.
//! One belongs to one scan and ends with it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use lanner_core::scan::HostAttempt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};

use crate::scan::ports::{Report, ReportSender};

/// Connections at the same time; a package that opens more waits.
const MAX_CONNECTIONS: usize = 256;
/// Different hosts that are recorded; more are counted under one name.
const MAX_HOSTS: usize = 500;
/// What is asked for meanwhile is told together.
const TELL: Duration = Duration::from_secs(2);
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    /// Host in lower case, and its port; no port means any.
    allowed: Vec<(String, Option<u16>)>,
    attempts: Mutex<BTreeMap<(String, u16), (bool, u64)>>,
    /// There was one more.
    news: Notify,
}

type Body = BoxBody<Bytes, hyper::Error>;
type Tunnels = mpsc::UnboundedSender<BoxFuture<'static, ()>>;

impl Proxy {
    /// `earlier`: what was asked for already, of a proxy before this one.
    pub(super) fn new(allowed: Vec<(String, Option<u16>)>, earlier: &[HostAttempt]) -> Self {
        let earlier = earlier.iter().map(|a| ((a.host.clone(), a.port), (a.allowed, a.count)));
        let attempts = Mutex::new(earlier.collect());
        Self { shared: Arc::new(Shared { allowed, attempts, news: Notify::new() }) }
    }

    /// Reports now and then what was asked for, until it is dropped: a host that is killed has told most of it.
    pub(super) async fn tell(&self, reports: &ReportSender) -> Infallible {
        loop {
            self.shared.news.notified().await;
            let _ = reports.send(Report::Network(self.attempts())).await;
            tokio::time::sleep(TELL).await;
        }
    }

    /// Serves until it is dropped; every connection and tunnel lives inside this future and ends with it.
    pub(super) async fn serve<S>(&self, incoming: impl Stream<Item = S>) -> Infallible
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut incoming = std::pin::pin!(incoming.fuse());
        let (tunnels, mut opened) = mpsc::unbounded_channel();
        let mut work: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(stream) = incoming.next(), if work.len() < MAX_CONNECTIONS => {
                    work.push(serve_one(stream, self.shared.clone(), tunnels.clone()).boxed());
                }
                Some(tunnel) = opened.recv() => work.push(tunnel),
                Some(()) = work.next() => {}
            }
        }
    }

    pub(super) fn attempts(&self) -> Vec<HostAttempt> {
        let attempts = self.shared.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts
            .iter()
            .map(|((host, port), (allowed, count))| HostAttempt {
                host: host.clone(),
                port: *port,
                allowed: *allowed,
                count: *count,
            })
            .collect()
    }
}

/// The socket of a sandbox's way out.
pub(super) fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(socket)?;
    // The sandbox's user is another one than ours when the host runs as root; the folder around it is private.
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok(listener)
}

pub(super) fn accepted(listener: &UnixListener) -> impl Stream<Item = UnixStream> {
    futures::stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, listener)),
                Err(error) => {
                    tracing::warn!(%error, "the way out cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

async fn serve_one<S>(stream: S, shared: Arc<Shared>, tunnels: Tunnels)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| answer(request, shared.clone(), tunnels.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(100)
        .preserve_header_case(true)
        // One request a connection: whoever tells of requests inside sees the first one alone.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the proxy ended badly");
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    tunnels: Tunnels,
) -> Result<Response<Body>, Infallible> {
    let Some((host, port)) = target(request.uri(), request.method()) else {
        return Ok(plain(
            StatusCode::BAD_REQUEST,
            "this is a proxy: CONNECT host:port, or GET http://host/path",
        ));
    };
    if !shared.attempt(&host, port) {
        return Ok(plain(StatusCode::FORBIDDEN, "this host is not on the list"));
    }
    let connect = TcpStream::connect((host.as_str(), port));
    let upstream = match tokio::time::timeout(CONNECT_LIMIT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Ok(plain(StatusCode::BAD_GATEWAY, "the host cannot be reached")),
        Err(_) => return Ok(plain(StatusCode::GATEWAY_TIMEOUT, "the host did not answer")),
    };
    let _ = upstream.set_nodelay(true);
    if request.method() == Method::CONNECT {
        let _ = tunnels.send(tunnel(request, upstream).boxed());
        return Ok(Response::new(empty()));
    }
    Ok(forward(request, upstream, &tunnels).await)
}

/// Where a request wants to go.
fn target(uri: &Uri, method: &Method) -> Option<(String, u16)> {
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    if *method == Method::CONNECT {
        return Some((host, uri.port_u16()?));
    }
    (uri.scheme_str() == Some("http")).then(|| (host, uri.port_u16().unwrap_or(80)))
}

async fn tunnel(request: Request<Incoming>, mut upstream: TcpStream) {
    if let Ok(upgraded) = hyper::upgrade::on(request).await {
        // Either side may end it whenever it likes; that is no error of ours.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
    }
}

async fn forward(mut request: Request<Incoming>, upstream: TcpStream, tunnels: &Tunnels) -> Response<Body> {
    let bad = || plain(StatusCode::BAD_GATEWAY, "the host did not answer");
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await
    else {
        return bad();
    };
    let _ = tunnels.send(connection.map(|_| ()).boxed());
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    // Always the host that was judged (RFC 9112, 3.2.2): an allowed address must not lead to another name behind it.
    let named = request.uri().authority().and_then(|a| a.as_str().rsplit('@').next()?.parse().ok());
    let Some(host) = named else { return bad() };
    request.headers_mut().insert(header::HOST, host);
    for hop in ["proxy-connection", "proxy-authorization", "connection", "keep-alive", "te", "upgrade"] {
        request.headers_mut().remove(hop);
    }
    let Ok(uri) = path.parse() else { return bad() };
    *request.uri_mut() = uri;
    match sender.send_request(request).await {
        Ok(response) => response.map(BodyExt::boxed),
        Err(_) => bad(),
    }
}

impl Shared {
    /// Records an attempt; whether it may go on.
    fn attempt(&self, host: &str, port: u16) -> bool {
        let allowed = self.allowed.iter().any(|(h, p)| h == host && p.is_none_or(|p| p == port));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = lanner_core::text::escaped(&lanner_core::text::bounded(host, 253));
        let key = (host, port);
        let key =
            if attempts.len() < MAX_HOSTS || attempts.contains_key(&key) { key } else { ("…".into(), 0) };
        let entry = attempts.entry(key).or_insert((allowed, 0));
        entry.1 += 1;
        self.news.notify_one();
        allowed
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// One exchange with a proxy that allows `127.0.0.1:port` only, before an upstream that echoes one line.
    async fn exchange(request: impl Fn(u16) -> String) -> (String, Vec<HostAttempt>) {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let (proxy, socket) =
            (Proxy::new(vec![("127.0.0.1".into(), Some(port))], &[]), folder.path().join("p"));
        let listener = listen(&socket).unwrap();
        let echo = async {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let mut seen = vec![0; 1024];
            let n = stream.read(&mut seen).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                .await
                .unwrap();
            String::from_utf8_lossy(&seen[..n]).into_owned()
        };
        let client = async {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            stream.write_all(request(port).as_bytes()).await.unwrap();
            let mut answer = vec![0; 1024];
            let n = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..n]).into_owned()
        };
        let answer = tokio::select! {
            answer = client => answer,
            never = proxy.serve(accepted(&listener)) => match never {},
            _ = async { echo.await; std::future::pending::<()>().await } => unreachable!(),
        };
        (answer, proxy.attempts())
    }

    #[tokio::test]
    async fn a_host_off_the_list_gets_403_and_is_recorded() {
        let (answer, attempts) = exchange(|_| "CONNECT Evil.invalid:443 HTTP/1.1\r\n\r\n".into()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let expected = HostAttempt { host: "evil.invalid".into(), port: 443, allowed: false, count: 1 };
        assert_eq!(attempts, [expected]);
    }

    #[tokio::test]
    async fn an_allowed_host_is_reached_by_tunnel_and_by_plain_request() {
        let (answer, _) = exchange(|port| format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (answer, attempts) =
            exchange(|port| format!("GET http://127.0.0.1:{port}/x HTTP/1.1\r\n\r\n")).await;
        assert!(answer.ends_with("hi"), "{answer}");
        assert!(attempts[0].allowed);
    }

    /// What the upstream saw of a request, and what the client got for it.
    async fn plain(request: impl Fn(u16) -> String) -> (String, String) {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let (proxy, socket) =
            (Proxy::new(vec![("127.0.0.1".into(), Some(port))], &[]), folder.path().join("p"));
        let listener = listen(&socket).unwrap();
        let served = async {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let mut seen = vec![0; 1024];
            let n = stream.read(&mut seen).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
            String::from_utf8_lossy(&seen[..n]).into_owned()
        };
        let client = async {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            stream.write_all(request(port).as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::select! {
            both = async { tokio::join!(served, client) } => both,
            never = proxy.serve(accepted(&listener)) => match never {},
        }
    }

    #[tokio::test]
    async fn behind_an_allowed_address_no_other_name_is_reached() {
        let (seen, _) =
            plain(|port| format!("GET http://127.0.0.1:{port}/x HTTP/1.1\r\nHost: evil.invalid\r\n\r\n"))
                .await;
        assert!(seen.to_ascii_lowercase().contains("host: 127.0.0.1:") && !seen.contains("evil"), "{seen}");
    }

    /// The agent tells of the first request of a connection; there must be no second one.
    #[tokio::test]
    async fn a_connection_carries_one_request() {
        let (_, answer) = plain(|port| {
            let one = |host: &str| format!("GET http://{host}/x HTTP/1.1\r\nHost: x\r\n\r\n");
            one(&format!("127.0.0.1:{port}")) + &one("evil.invalid")
        })
        .await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.ends_with("hi"), "{answer}");
    }

    #[tokio::test]
    async fn another_port_of_an_allowed_host_is_refused() {
        let (answer, _) = exchange(|port| format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", port ^ 1)).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_no_proxy_request_is_told_so() {
        let (answer, _) = exchange(|_| "GET /x HTTP/1.1\r\n\r\n".into()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}
