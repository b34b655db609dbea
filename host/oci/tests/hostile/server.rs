//! A registry that does what a test tells it to: honest by default, from manifests and blobs in memory, and hostile where a
//! hook says so. Plain HTTP/1.1 over threads, because a proper server would refuse to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use lanner_oci::{Digest, Reference, Registry, Settings};

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) enum Reply {
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Writes the whole answer itself, and may take its time over it.
    Raw(Writing),
}

type Writing = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;
type Hook = Box<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

/// What the honest part of it serves.
#[derive(Default)]
pub(crate) struct Shelf {
    /// By tag and by digest: the media type and the bytes.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

struct State {
    shelf: Mutex<Shelf>,
    hook: Hook,
    seen: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    accept: Option<JoinHandle<()>>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Server {
    pub(crate) fn honest() -> Self {
        Self::start(Box::new(|_| None), None)
    }

    pub(crate) fn with(hook: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start(Box::new(hook), None)
    }

    pub(crate) fn with_tls(
        tls: Arc<rustls::ServerConfig>,
        hook: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Box::new(hook), Some(tls))
    }

    fn start(hook: Hook, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            State { shelf: Mutex::default(), hook, seen: Mutex::default(), is_over: false.into(), tls };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let accept = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { continue };
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, state, accept: Some(accept) }
    }

    /// The registry client that a test begins with.
    pub(crate) fn settings(&self) -> Settings {
        Settings { plain_http: true, ..Settings::default() }
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::new(self.settings()).unwrap()
    }

    /// `repository[:tag][@digest]` at this server.
    pub(crate) fn at(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state.shelf.lock().unwrap().blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    pub(crate) fn manifest(&self, tag: &str, media_type: &str, json: &serde_json::Value) -> Digest {
        let bytes = serde_json::to_vec(json).unwrap();
        let digest = Digest::of(&bytes);
        let mut shelf = self.state.shelf.lock().unwrap();
        for name in [tag, &digest.to_string()] {
            shelf.manifests.insert(name.to_owned(), (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Shelf) -> T) -> T {
        change(&mut self.state.shelf.lock().unwrap())
    }

    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        // One more connection, so that the loop looks up.
        let _ = TcpStream::connect(self.address);
        if let Some(accept) = self.accept.take() {
            accept.join().unwrap();
        }
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        match &self.tls {
            None => {
                let mut writer = stream.try_clone().unwrap();
                self.converse(&mut BufReader::new(stream), |reply| reply.write(&mut writer));
            }
            Some(tls) => {
                let connection = rustls::ServerConnection::new(Arc::clone(tls)).unwrap();
                let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
                // A reader and a writer of one stream: one answer a connection is enough for a test.
                if let Some(reply) = self.next(&mut reader) {
                    let _ = reply.write(reader.get_mut());
                    let _ = reader.get_mut().flush();
                }
            }
        }
    }

    fn converse(
        &self,
        reader: &mut BufReader<TcpStream>,
        mut write: impl FnMut(Reply) -> std::io::Result<bool>,
    ) {
        // A client that went away is no failure of a test's server.
        while let Some(reply) = self.next(reader) {
            if !write(reply).unwrap_or(false) {
                return;
            }
        }
    }

    fn next<R: std::io::Read>(&self, reader: &mut BufReader<R>) -> Option<Reply> {
        let asked = Asked::read(reader)?;
        self.seen.lock().unwrap().push(asked.clone());
        Some((self.hook)(&asked).unwrap_or_else(|| self.shelf.lock().unwrap().answer(&asked)))
    }
}

impl Asked {
    fn read<R: std::io::Read>(reader: &mut BufReader<R>) -> Option<Self> {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { method, path, headers, body })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    pub(crate) fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Full(status, Vec::new(), Vec::new())
    }

    pub(crate) fn redirect(to: String) -> Self {
        Self::Full(307, vec![("location", to)], Vec::new())
    }

    pub(crate) fn raw(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Self {
        Self::Raw(Box::new(write))
    }

    /// Whether the connection can be used again.
    fn write(self, to: &mut dyn Write) -> std::io::Result<bool> {
        match self {
            Self::Raw(write) => write(to).map(|()| false),
            Self::Full(status, headers, body) => {
                write!(to, "HTTP/1.1 {status} Said\r\n")?;
                for (name, value) in &headers {
                    write!(to, "{name}: {value}\r\n")?;
                }
                // To HEAD and 304 the length is that of the answer to a GET.
                if !headers.iter().any(|(name, _)| *name == "content-length") && status != 304 {
                    write!(to, "content-length: {}\r\n", body.len())?;
                }
                to.write_all(b"\r\n")?;
                to.write_all(&body)?;
                to.flush().map(|()| true)
            }
        }
    }
}

impl Shelf {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let name = asked.path.rsplit('/').next().unwrap().to_owned();
        match asked.method.as_str() {
            "HEAD" if asked.is_manifest() => match self.manifests.get(&name) {
                None => Reply::status(404),
                Some((kind, bytes)) => {
                    let digest = Digest::of(bytes).to_string();
                    if asked.header("if-none-match") == Some(&format!("\"{digest}\"")) {
                        return Reply::status(304);
                    }
                    let length = ("content-length", bytes.len().to_string());
                    let headers =
                        vec![("content-type", kind.clone()), ("docker-content-digest", digest), length];
                    Reply::Full(200, headers, Vec::new())
                }
            },
            "GET" if asked.is_manifest() => match self.manifests.get(&name) {
                None => Reply::status(404),
                Some((kind, bytes)) => Reply::Full(200, vec![("content-type", kind.clone())], bytes.clone()),
            },
            "GET" if asked.is_blob() => match self.blobs.get(&name) {
                None => Reply::status(404),
                Some(bytes) => Reply::Full(200, Vec::new(), bytes.clone()),
            },
            "HEAD" if asked.is_blob() => {
                Reply::status(if self.blobs.contains_key(&name) { 200 } else { 404 })
            }
            "POST" => Reply::Full(202, vec![("location", format!("{}1?state=x", asked.path))], Vec::new()),
            "PUT" if asked.is_manifest() => {
                let kind = asked.header("content-type").unwrap_or_default().to_owned();
                let digest = Digest::of(&asked.body).to_string();
                for name in [name, digest.clone()] {
                    self.manifests.insert(name, (kind.clone(), asked.body.clone()));
                }
                Reply::Full(201, vec![("docker-content-digest", digest)], Vec::new())
            }
            "PUT" => {
                let digest = Digest::of(&asked.body).to_string();
                self.blobs.insert(digest, asked.body.clone());
                Reply::status(201)
            }
            _ => Reply::status(404),
        }
    }
}
