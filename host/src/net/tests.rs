//! Real sockets on loopback, with small limits: hostile and slow clients, drain. What is asserted is how each
//! connection ends, never how long it took.

use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const BOUNDS: Bounds =
    Bounds { connections: 2, head: Duration::from_millis(300), pause: Duration::from_millis(300) };
/// If this runs out, the server waited for ever.
const NEVER: Duration = Duration::from_secs(30);

async fn hello(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Response::new(Full::from(format!("hello {}", body.len())))
}

async fn server(bounds: Bounds) -> (SocketAddr, Supervisor) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let supervisor = Supervisor::new();
    let kind = TaskKind { name: "listener", on_error: OnError::Stop, on_stop: OnStop::Finish };
    supervisor.spawn(kind, serve(listener, None, bounds, supervisor.clone(), hello));
    (address, supervisor)
}

/// Everything until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(NEVER, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection stayed open");
    String::from_utf8(bytes).unwrap()
}

async fn sending(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn a_request_is_answered_and_an_idle_connection_closed() {
    let (address, _) = server(BOUNDS).await;
    let stream = sending(address, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello 3"), "{answer}");
    assert!(!answer.to_lowercase().contains("server:"));
}

#[tokio::test]
async fn a_head_sent_byte_by_byte_is_cut() {
    let (address, _) = server(BOUNDS).await;
    let stream = sending(address, b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    let (mut reading, mut writing) = stream.into_split();
    let drip = async {
        // Ends with an error once the server has closed.
        while writing.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut bytes = Vec::new();
    let read = async { drop(reading.read_to_end(&mut bytes).await) };
    tokio::time::timeout(NEVER, futures::future::select(Box::pin(drip), Box::pin(read))).await.unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("200 OK"));
}

#[tokio::test]
async fn a_client_that_never_says_which_http_it_speaks_is_cut() {
    let (address, _) = server(BOUNDS).await;
    for opening in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n"] {
        assert!(!rest(sending(address, opening).await).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let (address, _) = server(BOUNDS).await;
    let head: String = (0..=MAX_HEADERS).map(|n| format!("x-{n}: y\r\n")).collect();
    let answer = rest(sending(address, format!("GET / HTTP/1.1\r\n{head}\r\n").as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn beyond_the_bound_a_connection_waits_for_a_place() {
    let (address, _) = server(BOUNDS).await;
    let silent = [sending(address, b"").await, sending(address, b"").await];
    let waiting = sending(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(rest(waiting).await.contains("200 OK"), "the silent ones were cut and left their places");
    drop(silent);
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_end_and_closes_the_idle_ones() {
    let patient = Bounds { connections: 9, head: NEVER, pause: NEVER };
    let (address, supervisor) = server(patient).await;
    let idle = sending(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut busy =
        sending(address, b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            .await;
    let mut sign = [0; 12];
    busy.read_exact(&mut sign).await.unwrap();
    assert_eq!(&sign, b"HTTP/1.1 100", "the request is in the handler's hands");
    supervisor.stop().cancel();
    assert!(rest(idle).await.contains("200 OK"));
    busy.write_all(b"ok").await.unwrap();
    assert!(rest(busy).await.ends_with("hello 2"));
    assert!(supervisor.finish(NEVER).await);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--listen").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address, "--listen").await.unwrap_err().to_string();
    let remedy = "is in use by another program: stop it, or choose another port with --listen";
    assert_eq!(error, format!("{address} {remedy}"));
}
