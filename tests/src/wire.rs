//! As much of HTTP/1.1 as a test needs to stand at either end of it: requests and answers of known length, on
//! connections that are kept. Bounded, since a test must end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const MAX_BODY: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The body that one POST carries, or none when the other side has closed.
pub fn posted(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>> {
    let Some((_, body)) = message(stream)? else { return Ok(None) };
    Ok(Some(body))
}

/// Posts and waits for the answer; its status.
pub fn post(stream: &mut BufReader<TcpStream>, path: &str, agent: &str, body: &[u8]) -> Result<u16> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {agent}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // In one write: two would wait for each other.
    stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
    let (first, _) = message(stream)?.context("the connection was closed before its answer")?;
    first.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| first.clone())
}

pub fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

pub fn ok(stream: &mut BufReader<TcpStream>) -> Result<()> {
    Ok(stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?)
}

/// First line and body.
fn message(stream: &mut BufReader<TcpStream>) -> Result<Option<(String, Vec<u8>)>> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    ensure!(length <= MAX_BODY, "a body of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((first, body)))
}

/// Listens on loopback and gives each connection to `serve` in a thread, until it is dropped.
pub struct Listener {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Listener {
    pub fn start(serve: impl Fn(BufReader<TcpStream>) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, over) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (ended, serve) = (over.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                let serve = serve.clone();
                // One that is closed or silent for too long ends its thread.
                let ready = stream.set_nodelay(true).and(stream.set_read_timeout(Some(PATIENCE)));
                if ready.is_ok() {
                    std::thread::spawn(move || serve(BufReader::new(stream)));
                }
            }
        });
        Ok(Self { address, over })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

/// Takes whatever is posted, counts it, and says 200.
pub struct Sink {
    pub listener: Listener,
    pub received: Arc<AtomicU64>,
}

impl Sink {
    pub fn start() -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        let listener = Listener::start(move |mut stream| {
            while let Ok(Some(_)) = posted(&mut stream) {
                count.fetch_add(1, Ordering::AcqRel);
                if ok(&mut stream).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { listener, received })
    }
}
