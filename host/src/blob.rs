//! Sources as files: checked while they stream in, named by their digest, stored once.
//!
//! The archive is walked in a thread of its own while the bytes come, so a bad one is refused after as few bytes as show
//! it, and a good one needs no second pass. Bytes wait in a channel of a few chunks; nothing is whole in memory.
//!
//! Each `put` has a name of its own for what it stored, and equal sources share their bytes as hard links: so deleting
//! one scan's source never takes another's, and the file system counts who still needs it. It knows no scan: which
//! sources are in use is told to `sweep`, for those that a crash left unnamed.

use std::fs::{DirBuilder, DirEntry, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lanner_archive::{ArchiveError, Limits, Summary};
use lanner_core::SourceRef;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

use crate::scan::ports::{Blob, BlobError, StoreError, StoredSource};

/// Chunks that may wait for the disk.
const WAITING: usize = 4;
/// Bodies taken at once, each with a thread; further ones wait, and their clients with them.
const AT_ONCE: usize = 128;
/// A source that no scan names is kept this long: its submission may still be on its way.
const GRACE: Duration = Duration::from_secs(3600);
const TEMPORARY: &str = "tmp-";

#[derive(Clone)]
pub struct FileBlob {
    folder: PathBuf,
    limits: Limits,
    max_bytes: u64,
    grace: Duration,
    at_once: Arc<Semaphore>,
    /// Of each file.
    mode: u32,
}

impl FileBlob {
    /// Uses `folder` (made if missing) and clears what an earlier life left half written.
    pub fn open(folder: PathBuf, limits: Limits, max_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { folder, limits, max_bytes, grace: GRACE, at_once, mode: 0o600 })
    }

    /// On a volume of which pods see one file each: they are other users.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { mode: 0o644, ..self }
    }
}

impl Blob for FileBlob {
    fn put(
        &self,
        body: BoxStream<'static, Result<Bytes, io::Error>>,
    ) -> BoxFuture<'static, Result<StoredSource, BlobError>> {
        let blob = self.clone();
        async move {
            let place =
                blob.at_once.clone().acquire_owned().await.map_err(|e| BlobError::Store(failed(e)))?;
            let (pieces, received) = mpsc::channel(WAITING);
            let max = blob.max_bytes;
            let writing = tokio::task::spawn_blocking(move || {
                // Given back when the thread is free, which may be after the client has gone.
                let _place = place;
                blob.write(received)
            });
            let sent = send(body, &pieces, max).await;
            drop(pieces);
            let written = writing.await.map_err(|e| BlobError::Store(failed(e)))?;
            sent.and(written)
        }
        .boxed()
    }

    fn path(&self, source: &SourceRef) -> PathBuf {
        // Keys are made here, of hex digits; one that is not leads nowhere.
        let plain = source.key.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        self.folder.join(if plain && !source.key.is_empty() { source.key.as_str() } else { "-" })
    }

    fn delete(&self, source: &SourceRef) -> BoxFuture<'static, Result<(), StoreError>> {
        let (blob, path) = (self.clone(), self.path(source));
        async move { blob.remove(&path).map_err(|e| of_io(&e)) }.boxed()
    }

    fn sweep(&self, used: Vec<SourceRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        let blob = self.clone();
        async move {
            let swept = tokio::task::spawn_blocking(move || blob.sweep_now(&used)).await;
            swept.map_err(failed)?.map_err(|e| of_io(&e))
        }
        .boxed()
    }
}

/// What the writer is sent.
enum Piece {
    Bytes(Bytes),
    /// The body is whole. A channel that closes without it broke off.
    End,
}

/// Sends a body on. Stops early, and is content, when the writer has found its reason to refuse.
async fn send(
    mut body: BoxStream<'static, Result<Bytes, io::Error>>,
    pieces: &mpsc::Sender<Piece>,
    max: u64,
) -> Result<(), BlobError> {
    let mut total = 0u64;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(BlobError::Interrupted)?;
        total = total.saturating_add(chunk.len() as u64);
        if total > max {
            return Err(BlobError::TooLarge(max));
        }
        if pieces.send(Piece::Bytes(chunk)).await.is_err() {
            return Ok(());
        }
    }
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

impl FileBlob {
    /// Writes and checks at once; the file gets its names only when all is well and on disk.
    fn write(&self, received: mpsc::Receiver<Piece>) -> Result<StoredSource, BlobError> {
        let temporary = self.folder.join(format!("{TEMPORARY}{}", random()));
        let result = self.write_to(&temporary, received);
        // Whatever came of it: a stored source has its own name by now.
        let _ = std::fs::remove_file(&temporary);
        result
    }

    fn write_to(&self, temporary: &Path, received: mpsc::Receiver<Piece>) -> Result<StoredSource, BlobError> {
        let store = |e: io::Error| BlobError::Store(of_io(&e));
        let file =
            File::options().write(true).create_new(true).mode(self.mode).open(temporary).map_err(store)?;
        let (Summary { entries, unpacked_bytes, top_level, root }, received) =
            receive(file, received, &self.limits)?;
        let hex: String = received.digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let key = format!("{hex}-{}", random());
        self.name(temporary, &hex, &key).map_err(store)?;
        let source = SourceRef { digest: format!("sha256:{hex}"), bytes: received.bytes, key };
        Ok(StoredSource { source, entries, unpacked_bytes, top_level, root })
    }

    /// Names what lies in `temporary`: as the source of this digest, if it is the first, and by the key.
    fn name(&self, temporary: &Path, hex: &str, key: &str) -> io::Result<()> {
        let (shared, own) = (self.folder.join(hex), self.folder.join(key));
        // An error may say that it is there already, or that this file system has no hard links: then, and if the
        // shared one goes away in between, the source is stored by itself.
        let _ = std::fs::hard_link(temporary, &shared);
        if std::fs::hard_link(&shared, &own).is_err() {
            std::fs::rename(temporary, &own)?;
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Takes a key away, and the bytes with it if nobody else has one to them.
    fn remove(&self, own: &Path) -> io::Result<()> {
        match std::fs::remove_file(own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = own.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((hex, _)) = name.split_once('-').filter(|(hex, _)| !hex.is_empty()) else { return Ok(()) };
        let shared = self.folder.join(hex);
        // A key that is made between the two keeps the bytes by itself.
        match shared.symlink_metadata() {
            Ok(meta) if meta.nlink() == 1 => std::fs::remove_file(shared),
            _ => Ok(()),
        }
    }

    fn sweep_now(&self, used: &[SourceRef]) -> io::Result<()> {
        let used: std::collections::HashSet<&str> = used.iter().map(|u| u.key.as_str()).collect();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let of_scan = name.to_str().is_some_and(|n| used.contains(n));
            match self.is_old(&entry) {
                Ok(old) if old && !of_scan => self.remove(&entry.path())?,
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether nobody has been given a key to it for a while. That changes the inode, and not the content's time.
    fn is_old(&self, entry: &DirEntry) -> io::Result<bool> {
        let meta = entry.metadata()?;
        let shared = !entry.file_name().as_encoded_bytes().contains(&b'-');
        let changed = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(now.saturating_sub(changed) >= self.grace && !(shared && meta.nlink() > 1))
    }
}

/// Writes what is received to `file`, checks it on the way, and syncs it.
fn receive(
    file: File,
    received: mpsc::Receiver<Piece>,
    limits: &Limits,
) -> Result<(Summary, Tee), BlobError> {
    let store = |e: io::Error| BlobError::Store(of_io(&e));
    let (chunk, digest) = (Bytes::new(), Sha256::new());
    let mut tee = Tee { received, chunk, file, digest, bytes: 0, whole: false, failed: None };
    let inspected = lanner_archive::inspect(&mut tee, limits);
    if let Some(error) = tee.failed.take() {
        return Err(store(error));
    }
    let summary = inspected.map_err(BlobError::Archive)?;
    if !tee.whole {
        return Err(BlobError::Archive(ArchiveError::Truncated));
    }
    tee.file.sync_all().map_err(store)?;
    Ok((summary, tee))
}

/// Reads what is received, and writes and digests it on the way.
struct Tee {
    received: mpsc::Receiver<Piece>,
    chunk: Bytes,
    file: File,
    digest: Sha256,
    bytes: u64,
    whole: bool,
    /// Why it could not be written: that is not the archive's fault.
    failed: Option<io::Error>,
}

impl io::Read for &mut Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.received.blocking_recv() {
                Some(Piece::Bytes(chunk)) => {
                    if let Err(error) = self.file.write_all(&chunk) {
                        let kind = error.kind();
                        self.failed = Some(error);
                        return Err(kind.into());
                    }
                    self.digest.update(&chunk);
                    self.bytes += chunk.len() as u64;
                    self.chunk = chunk;
                }
                Some(Piece::End) => {
                    self.whole = true;
                    return Ok(0);
                }
                None => return Ok(0),
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

fn random() -> String {
    let mut random = [0; 8];
    // Without a random source two names might be the same, and making the second is then refused.
    let _ = getrandom::fill(&mut random);
    format!("{:016x}", u64::from_be_bytes(random))
}

fn of_io(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        kind => failed(io::Error::new(kind, error.to_string())),
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed(Arc::new(error))
}

#[cfg(test)]
mod tests;
