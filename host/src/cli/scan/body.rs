//! A target as the body of a submission: a package's name, an archive, or a folder that is packed as fast as it is taken.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use super::super::target::Target;
use crate::http::Body;

type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

/// Why a folder could not be packed, if it could not: the other side only sees that the body broke off.
#[derive(Clone, Default)]
pub(super) struct Broken(Arc<Mutex<Option<String>>>);

impl Broken {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }
}

/// `base` comes before the path: nothing, or a scheme and a name.
pub(super) fn submission(
    base: &str,
    target: &Target,
    manager: Option<&str>,
    broken: &Broken,
) -> anyhow::Result<http::Request<Body>> {
    let query = manager.map(|m| format!("?manager={m}")).unwrap_or_default();
    let (kind, body) = match target {
        Target::Package(package) => {
            let json = json!({ "package": package.to_string() }).to_string();
            ("application/json", Full::from(json).map_err(|never| match never {}).boxed_unsync())
        }
        Target::Folder(folder) => ("application/gzip", streamed(packed(folder, broken.clone()))),
        Target::Archive(file) => ("application/gzip", streamed(opened(file)?)),
    };
    http::Request::post(format!("{base}/v1/scans{query}"))
        .header(http::header::CONTENT_TYPE, kind)
        .body(body)
        .context("--manager is not a package manager's name")
}

fn streamed(chunks: Chunks) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data).map_err(Into::into))).boxed_unsync()
}

fn opened(file: &Path) -> anyhow::Result<Chunks> {
    let opened = std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(opened), 64 * 1024).boxed())
}

/// The folder as a gzipped tar, packed in a thread of its own.
fn packed(folder: &Path, broken: Broken) -> Chunks {
    let (chunks, received) = mpsc::channel(8);
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut writer = std::io::BufWriter::with_capacity(64 * 1024, ChunkWriter { chunks: chunks.clone() });
        let packed = lanner_archive::pack(&folder, &mut writer);
        // Whoever refuses a project need not read it to its end: that is no fault of the folder's.
        if let Err(error) = packed
            && !chunks.is_closed()
        {
            broken.set(format!("{:#}", anyhow::Error::from(error)));
            // Nobody may be left to take it.
            let _ = chunks.blocking_send(Err(std::io::ErrorKind::Other.into()));
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(received).boxed()
}

struct ChunkWriter {
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
}

impl std::io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.chunks.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
