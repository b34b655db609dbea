//! Sources as files: checked while they stream in, named by their digest, stored once.
//!
//! The archive is walked in a thread of its own while the bytes come, so a bad one is refused after as few bytes as show
//! it, and a good one needs no second pass. Bytes wait in a channel of a few chunks; nothing is whole in memory.
//! It knows no scan: which sources are still in use is told to `sweep`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lanner_archive::{ArchiveError, Limits, Summary};
use lanner_core::SourceRef;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::scan::ports::{Blob, BlobError, StoreError, StoredSource};

/// Chunks that may wait for the disk.
const WAITING: usize = 8;
/// A source that no scan names is kept this long: its submission may still be on its way.
const GRACE: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub struct FileBlob {
    folder: PathBuf,
    limits: Limits,
    max_bytes: u64,
}

impl FileBlob {
    /// Uses `folder` (made if missing) and clears what an earlier life left half written.
    pub fn open(folder: PathBuf, limits: Limits, max_bytes: u64) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for entry in std::fs::read_dir(&folder)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("tmp-") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, limits, max_bytes })
    }
}

impl Blob for FileBlob {
    fn put(
        &self,
        mut body: BoxStream<'static, Result<Bytes, std::io::Error>>,
    ) -> BoxFuture<'static, Result<StoredSource, BlobError>> {
        let blob = self.clone();
        async move {
            let (chunks, received) = mpsc::channel(WAITING);
            let max = blob.max_bytes;
            let writing = tokio::task::spawn_blocking(move || blob.write(received));
            let mut total = 0u64;
            let mut failed = None;
            while let Some(chunk) = body.next().await {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        failed = Some(BlobError::Interrupted(error));
                        break;
                    }
                };
                total = total.saturating_add(chunk.len() as u64);
                if total > max {
                    failed = Some(BlobError::TooLarge(max));
                    break;
                }
                // A closed channel means that the writer has found its reason to refuse.
                if chunks.send(Piece::Bytes(chunk)).await.is_err() {
                    break;
                }
            }
            let last = if failed.is_some() { Piece::Broken } else { Piece::End };
            let _ = chunks.send(last).await;
            drop(chunks);
            let written = writing.await.map_err(|e| BlobError::Store(failed_store(e)))?;
            match failed {
                Some(error) => Err(error),
                None => written,
            }
        }
        .boxed()
    }

    fn path(&self, source: &SourceRef) -> PathBuf {
        // Keys are made here, of hex digits; one that is not leads nowhere.
        let plain = source.key.bytes().all(|b| b.is_ascii_alphanumeric());
        self.folder.join(if plain { source.key.as_str() } else { "-" })
    }

    fn delete(&self, source: &SourceRef) -> BoxFuture<'static, Result<(), StoreError>> {
        let path = self.path(source);
        async move { remove(&path) }.boxed()
    }

    fn sweep(&self, used: Vec<SourceRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        let blob = self.clone();
        async move { blob.sweep_now(&used).map_err(|e| of_io(&e)) }.boxed()
    }
}

/// What the writer is sent.
enum Piece {
    Bytes(Bytes),
    /// The body is whole.
    End,
    /// The body broke off: nothing is kept.
    Broken,
}

impl FileBlob {
    /// Writes and checks at once; the file gets its name only when all is well and on disk.
    fn write(&self, received: mpsc::Receiver<Piece>) -> Result<StoredSource, BlobError> {
        let mut random = [0; 8];
        let _ = getrandom::fill(&mut random);
        let temporary = self.folder.join(format!("tmp-{:016x}", u64::from_be_bytes(random)));
        let result = self.write_to(&temporary, received);
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn write_to(&self, temporary: &Path, received: mpsc::Receiver<Piece>) -> Result<StoredSource, BlobError> {
        let store = |e: std::io::Error| BlobError::Store(of_io(&e));
        let file = File::options().write(true).create_new(true).mode(0o600).open(temporary).map_err(store)?;
        let mut tee = Tee {
            received,
            chunk: Bytes::new(),
            file,
            digest: Sha256::new(),
            bytes: 0,
            whole: false,
            failed: None,
        };
        let inspected = lanner_archive::inspect(&mut tee, &self.limits);
        if let Some(error) = tee.failed.take() {
            return Err(store(error));
        }
        let Summary { entries, unpacked_bytes, top_level, root } = inspected.map_err(BlobError::Archive)?;
        if !tee.whole {
            return Err(BlobError::Archive(ArchiveError::Truncated));
        }
        tee.file.sync_all().map_err(store)?;
        let hex: String = tee.digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        std::fs::rename(temporary, self.folder.join(&hex)).map_err(store)?;
        File::open(&self.folder).and_then(|d| d.sync_all()).map_err(store)?;
        let source = SourceRef { digest: format!("sha256:{hex}"), bytes: tee.bytes, key: hex };
        Ok(StoredSource { source, entries, unpacked_bytes, top_level, root })
    }

    fn sweep_now(&self, used: &[SourceRef]) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let in_use = used.iter().any(|u| name == u.key.as_str());
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if !in_use && age > GRACE {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Reads what is received, and writes and digests it on the way.
struct Tee {
    received: mpsc::Receiver<Piece>,
    chunk: Bytes,
    file: File,
    digest: Sha256,
    bytes: u64,
    whole: bool,
    failed: Option<std::io::Error>,
}

impl Read for &mut Tee {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.received.blocking_recv() {
                Some(Piece::Bytes(chunk)) => {
                    if let Err(error) = self.file.write_all(&chunk) {
                        self.failed = Some(std::io::Error::new(error.kind(), error.to_string()));
                        return Err(error);
                    }
                    self.digest.update(&chunk);
                    self.bytes += chunk.len() as u64;
                    self.chunk = chunk;
                }
                Some(Piece::End) => {
                    self.whole = true;
                    return Ok(0);
                }
                Some(Piece::Broken) | None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len());
        let taken = self.chunk.split_to(n);
        if let Some(room) = buffer.get_mut(..n) {
            room.copy_from_slice(&taken);
        }
        Ok(n)
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(of_io(&error)),
        _ => Ok(()),
    }
}

fn of_io(error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        kind => failed_store(std::io::Error::new(kind, error.to_string())),
    }
}

fn failed_store(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(folder: &Path) -> FileBlob {
        FileBlob::open(folder.join("sources"), Limits::default(), 1 << 20).unwrap()
    }

    fn project() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("package.json"), "{}").unwrap();
        let mut bytes = Vec::new();
        lanner_archive::pack(folder.path(), &mut bytes).unwrap();
        bytes
    }

    fn body(chunks: Vec<Result<Bytes, std::io::Error>>) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
        futures::stream::iter(chunks).boxed()
    }

    fn files(blob: &FileBlob) -> usize {
        std::fs::read_dir(&blob.folder).unwrap().count()
    }

    #[tokio::test]
    async fn a_source_is_checked_and_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let blob = blob(folder.path());
        let bytes = project();
        let in_two = |at| {
            let (a, b) = bytes.split_at(at);
            body(vec![Ok(Bytes::copy_from_slice(a)), Ok(Bytes::copy_from_slice(b))])
        };
        let first = blob.put(in_two(1)).await.unwrap();
        let second = blob.put(in_two(20)).await.unwrap();
        assert_eq!((&first, first.top_level.as_slice()), (&second, ["package.json".to_owned()].as_slice()));
        assert_eq!(std::fs::read(blob.path(&first.source)).unwrap(), bytes);
        assert_eq!(files(&blob), 1);
        blob.sweep(vec![]).await.unwrap();
        assert_eq!(files(&blob), 1, "a fresh source has its grace time");
        blob.delete(&first.source).await.unwrap();
        assert_eq!(files(&blob), 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_refused_or_broken_body() {
        let folder = tempfile::tempdir().unwrap();
        let blob = blob(folder.path());
        let bytes = project();
        let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let broken = blob.put(body(vec![Ok(half.clone()), Err(reset())])).await.unwrap_err();
        assert_eq!(broken.to_string(), "the body ended before it was complete");
        let short = blob.put(body(vec![Ok(half)])).await.unwrap_err();
        assert_eq!(short.to_string(), "the archive ends too early: it is truncated");
        let wrong = blob.put(body(vec![Ok(Bytes::from_static(b"not a gzip at all"))])).await.unwrap_err();
        assert_eq!(wrong.to_string(), "the body is not a gzip file");
        let large = blob.put(body((0..40).map(|_| Ok(Bytes::from(bytes.repeat(200)))).collect())).await.unwrap_err();
        assert!(matches!(large, BlobError::TooLarge(_) | BlobError::Archive(ArchiveError::TrailingBytes)), "{large:?}");
        assert_eq!(files(&blob), 0);
    }

    #[test]
    fn a_key_that_is_no_key_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let source = SourceRef { digest: String::new(), bytes: 0, key: "../../etc/passwd".into() };
        assert!(blob(folder.path()).path(&source).ends_with("sources/-"));
    }
}
