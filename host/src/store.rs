//! The durable store: SQLite in the data directory. A call that answered `Ok` has been synced to disk.
//!
//! One thread owns the writing connection and commits in groups: whatever waits when a commit begins shares its sync, so
//! 200 submissions at once cost a few syncs. Another thread owns a reading connection, which write-ahead logging keeps
//! from waiting. Scans and alerts are JSON documents beside the columns that are searched by. It knows what a scan
//! looks like and nothing of what it means.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::{JudgedAlert, Nanos, Owner, Scan, ScanId};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::scan::ports::{Created, Store, StoreError};

mod schema;
mod sql;
#[cfg(test)]
mod tests;

pub struct SqliteStore {
    writes: std_mpsc::SyncSender<Write>,
    reads: std_mpsc::SyncSender<Read>,
    /// Held as long as the store is: a second host on the same data would run every queued scan twice.
    _lock: File,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {0} cannot be used: choose another with --data-dir")]
    Directory(String, #[source] std::io::Error),
    #[error("another lanner uses the data directory {0}: stop it, or choose another with --data-dir")]
    Locked(String),
    #[error("the database {0} cannot be opened: if it is damaged, move it away")]
    Database(String, #[source] rusqlite::Error),
    #[error("the database {0} was written by a newer lanner (schema {1}, this one knows {2})")]
    Newer(String, u32, u32),
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
/// Runs inside the writer's transaction and returns what tells the asker once it is committed (or not).
type Write = Box<dyn FnOnce(&Connection) -> Written + Send>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A write that has run, not yet committed.
struct Written {
    ok: bool,
    /// Called with what the commit failed with, if it did.
    tell: Box<dyn FnOnce(Option<StoreError>) + Send>,
}

/// Calls that may wait for each thread; more make the caller wait.
const WAITING: usize = 1024;
/// Writes that share one commit.
const GROUP: usize = 256;

impl SqliteStore {
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let name = || folder.display().to_string();
        let directory = |e| OpenError::Directory(name(), e);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(directory)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(directory)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(name())),
            Err(std::fs::TryLockError::Error(e)) => return Err(directory(e)),
        }
        let path = folder.join("lanner.db");
        let writer = schema::open(&path)?;
        let reader = schema::open(&path)?;
        let (writes, waiting) = std_mpsc::sync_channel(WAITING);
        let (reads, asked) = std_mpsc::sync_channel::<Read>(WAITING);
        thread("store-writer", move || write_all(writer, &waiting)).map_err(directory)?;
        thread("store-reader", move || asked.into_iter().for_each(|read| read(&reader))).map_err(directory)?;
        Ok(Self { writes, reads, _lock: lock })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let result = work(connection).map_err(of_sqlite);
            let ok = result.is_ok();
            Written { ok, tell: Box::new(move |commit| tell(answer, commit.map_or(result, Err))) }
        });
        let writes = self.writes.clone();
        ask(async move { send(writes, write).await }, answered)
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| tell(answer, work(connection).map_err(of_sqlite)));
        let reads = self.reads.clone();
        ask(async move { send(reads, read).await }, answered)
    }
}

impl Store for SqliteStore {
    fn create(&self, scan: Scan, key: Option<String>) -> BoxFuture<'static, Result<Created, StoreError>> {
        self.write(move |c| sql::create(c, &scan, key.as_deref()))
    }

    fn put(&self, scan: Scan) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |c| sql::put(c, &scan))
    }

    fn get(&self, id: ScanId) -> BoxFuture<'static, Result<Option<Scan>, StoreError>> {
        self.read(move |c| sql::get(c, &id))
    }

    fn list(
        &self,
        owner: Option<Owner>,
        before: Option<ScanId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>> {
        self.read(move |c| sql::list(c, owner.as_ref(), before.as_ref(), limit))
    }

    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<Scan>, StoreError>> {
        self.read(sql::unfinished)
    }

    fn put_alerts(&self, id: ScanId, alerts: Vec<JudgedAlert>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |c| sql::put_alerts(c, &id, &alerts))
    }

    fn alerts(&self, id: ScanId) -> BoxFuture<'static, Result<Vec<JudgedAlert>, StoreError>> {
        self.read(move |c| sql::alerts(c, &id))
    }

    fn delete(&self, id: ScanId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |c| sql::delete(c, &id))
    }

    fn expired(&self, keep: usize, older_than: Nanos) -> BoxFuture<'static, Result<Vec<ScanId>, StoreError>> {
        self.read(move |c| sql::expired(c, keep, older_than))
    }
}

/// Commits in groups until nobody can ask any more.
fn write_all(connection: Connection, waiting: &std_mpsc::Receiver<Write>) {
    while let Ok(first) = waiting.recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            // Nothing can be written: each asker is told so by the failure of its own statement or by this.
            (first(&connection).tell)(Some(of_sqlite(error)));
            continue;
        }
        let mut tell = Vec::new();
        let mut next = Some(first);
        while let Some(write) = next {
            tell.push(in_savepoint(&connection, write));
            next = if tell.len() < GROUP { waiting.try_recv().ok() } else { None };
        }
        let failed = connection.execute_batch("COMMIT").err().map(|error| {
            let _ = connection.execute_batch("ROLLBACK");
            of_sqlite(error)
        });
        tell.into_iter().for_each(|written| (written.tell)(failed.clone()));
    }
}

/// One that fails half way leaves nothing behind and takes nothing of the others with it.
fn in_savepoint(connection: &Connection, write: Write) -> Written {
    let begun = connection.execute_batch("SAVEPOINT one");
    let written = write(connection);
    let end = if written.ok { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    match begun.and_then(|()| connection.execute_batch(end)) {
        Ok(()) => written,
        Err(error) => {
            let (tell, error) = (written.tell, of_sqlite(error));
            Written { ok: false, tell: Box::new(move |_| tell(Some(error))) }
        }
    }
}

async fn send<T: Send + 'static>(to: std_mpsc::SyncSender<T>, work: T) -> Result<(), StoreError> {
    let full = match to.try_send(work) {
        Ok(()) => return Ok(()),
        Err(std_mpsc::TrySendError::Full(work)) => work,
        Err(std_mpsc::TrySendError::Disconnected(_)) => return Err(gone()),
    };
    // The thread is behind: wait for a place off the asynchronous threads.
    let sent = tokio::task::spawn_blocking(move || to.send(full).is_ok()).await;
    if sent.unwrap_or(false) { Ok(()) } else { Err(gone()) }
}

fn ask<T: Send + 'static>(
    sent: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    answered: oneshot::Receiver<Result<T, StoreError>>,
) -> BoxFuture<'static, Result<T, StoreError>> {
    async move {
        sent.await?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
    .boxed()
}

fn tell<T>(answer: Answer<T>, result: Result<T, StoreError>) {
    // Whoever asked may have gone away; what was written stays written.
    let _ = answer.send(result);
}

fn gone() -> StoreError {
    StoreError::Failed(Arc::new(std::io::Error::other("the store's thread has ended")))
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(|_| ())
}

fn of_sqlite(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Failed(Arc::new(error)),
    }
}
