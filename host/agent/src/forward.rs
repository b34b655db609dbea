//! The way out: a loopback port inside, the host's proxy outside, bytes in between.
//!
//! The forwarder decides nothing; the proxy does. It looks at the first line of a request and of its answer, so that
//! the watcher can say which process asked for which host. Connections are bounded: beyond the bound they wait in
//! the listener's queue. It ends with its process.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) use head::Target;

mod head;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 128;
/// A connection that is silent for longer is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Pause after an error of accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A request as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The port that the asking process connected from.
    pub(crate) peer_port: u16,
    pub(crate) target: Target,
    pub(crate) allowed: bool,
}

/// Who wants to know of requests.
pub(crate) type Reporter = Arc<dyn Fn(Request) + Send + Sync>;

#[derive(Debug, Default)]
struct Slots {
    used: Mutex<usize>,
    freed: Condvar,
}

/// Serves connections until the process ends.
pub(crate) fn serve(listener: &TcpListener, proxy: &OwnedFd, report: &Reporter) {
    // The socket's own path is out of reach inside; its descriptor has a path of its own.
    let proxy = format!("/proc/self/fd/{}", proxy.as_raw_fd());
    let slots = Arc::new(Slots::default());
    loop {
        slots.take();
        let Ok((client, peer)) = listener.accept() else {
            slots.give_back();
            thread::sleep(PAUSE);
            continue;
        };
        let (proxy, report, held) = (proxy.clone(), Arc::clone(report), Arc::clone(&slots));
        let served = thread::Builder::new().name("way-out".into()).spawn(move || {
            // A connection that fails is closed; the asking process sees that, and nobody else minds.
            let _ = connect(client, &proxy, peer.port(), &report);
            held.give_back();
        });
        if served.is_err() {
            slots.give_back();
            thread::sleep(PAUSE);
        }
    }
}

impl Slots {
    fn take(&self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used >= MAX_CONNECTIONS {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += 1;
    }

    fn give_back(&self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(1);
        self.freed.notify_one();
    }
}

/// One connection, both directions, to its end.
fn connect(client: TcpStream, proxy: &str, peer_port: u16, report: &Reporter) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_nodelay(true)?;
    let mut client = client;
    let head = read_until(&mut client, b"\r\n\r\n", head::MAX_HEAD)?;
    if head.is_empty() {
        // Connected and gone again: nothing was asked for.
        return Ok(());
    }
    let target = head::target(&head);
    // A request that only the proxy can read is no less an attempt.
    let refused = |target: Option<Target>| {
        let target = target.unwrap_or_else(Target::unreadable);
        report(Request { peer_port, target, allowed: false });
    };
    let Ok(mut proxy) = UnixStream::connect(proxy) else {
        refused(target);
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n");
    };
    proxy.set_read_timeout(Some(IDLE))?;
    proxy.write_all(&head)?;
    let upward = {
        let (mut from, mut to) = (client.try_clone()?, proxy.try_clone()?);
        thread::Builder::new().name("way-out-up".into()).spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })?
    };
    let answer = read_until(&mut proxy, b"\n", head::MAX_STATUS).unwrap_or_default();
    match (target, head::status(&answer)) {
        (Some(target), Some(code)) => report(Request { peer_port, target, allowed: code != 403 }),
        (target, _) => refused(target),
    }
    let down = client.write_all(&answer).and_then(|()| io::copy(&mut proxy, &mut client));
    let _ = client.shutdown(Shutdown::Both);
    let _ = proxy.shutdown(Shutdown::Both);
    // The shutdown ends the other direction's read.
    let _ = upward.join();
    down.map(drop)
}

/// Reads until `end` was seen, the stream ends, or `max` bytes were read; all that was read is returned.
fn read_until(from: &mut impl Read, end: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    while seen.len() < max {
        let room = chunk.len().min(max - seen.len());
        let Some(buffer) = chunk.get_mut(..room) else { break };
        let count = match from.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // The end may lie across the border of two reads.
        let again = seen.len().saturating_sub(end.len());
        seen.extend(buffer.get(..count).unwrap_or_default());
        if seen.get(again..).is_some_and(|new| new.windows(end.len()).any(|window| window == end)) {
            break;
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    use super::*;

    /// A proxy that answers `answer` to every request and then echoes.
    fn stage(answer: &'static str) -> (u16, mpsc::Receiver<Request>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("proxy");
        let proxy = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            for stream in proxy.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    read_until(&mut stream, b"\r\n\r\n", 4096).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                    let mut back = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut back);
                });
            }
        });
        let path = rustix::fs::open(&socket, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel();
        let report: Reporter = Arc::new(move |request| sender.send(request).unwrap());
        thread::spawn(move || serve(&listener, &path, &report));
        (port, requests, dir)
    }

    #[test]
    fn bytes_go_both_ways_and_the_request_is_reported() {
        let (port, requests, _dir) = stage("HTTP/1.1 200 OK\r\n\r\n");
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"CONNECT a.invalid:443 HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 19];
        client.read_exact(&mut answer).unwrap();
        client.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping");
        let request = requests.recv().unwrap();
        assert_eq!(request.peer_port, client.local_addr().unwrap().port());
        assert_eq!(
            (request.target.host.as_str(), request.target.port, request.allowed),
            ("a.invalid", 443, true)
        );
    }

    #[test]
    fn a_refusal_of_the_proxy_is_reported_as_one() {
        let (port, requests, _dir) = stage("HTTP/1.1 403 Forbidden\r\n\r\n");
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"GET http://b.invalid/x HTTP/1.1\r\n\r\n").unwrap();
        assert!(!requests.recv().unwrap().allowed);
    }

    /// The proxy's parser skips empty lines before a request; what it may understand must not go untold.
    #[test]
    fn a_request_that_only_the_proxy_can_read_is_reported_as_refused() {
        let (port, requests, _dir) = stage("HTTP/1.1 200 OK\r\n\r\n");
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"\r\nCONNECT d.invalid:443 HTTP/1.1\r\n\r\n").unwrap();
        let request = requests.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!((request.target.host.as_str(), request.allowed), ("(unreadable)", false));
    }

    #[test]
    fn without_a_proxy_the_client_gets_an_answer_and_the_attempt_is_reported() {
        let (port, requests, dir) = stage("");
        std::fs::remove_file(dir.path().join("proxy")).unwrap();
        // The socket lives on behind its descriptor until its listener goes; a request is still answered.
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"CONNECT c.invalid:443 HTTP/1.1\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(!requests.recv().unwrap().allowed);
    }
}
