//! The durable store: SQLite in the data directory. A call that answered `Ok` has been synced to disk.
//!
//! One thread owns the writing connection and commits in groups: whatever waits when a commit begins shares its sync, so
//! 200 submissions at once cost a few syncs. Another thread owns a reading connection, which write-ahead logging keeps
//! from waiting. Both end when the store and all that it promised are gone, and the lock on the directory with them.
//!
//! Scans and alerts are JSON documents beside the columns that are searched by. It knows what a scan looks like and
//! nothing of what it means.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::{JudgedAlert, Nanos, Owner, Scan, ScanId};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::scan::Rejudgement;
use crate::scan::ports::{Created, Seen, Store, StoreError};

#[cfg(test)]
pub(crate) mod conformance;
mod open;
mod revisions;
mod schema;
mod sql;
#[cfg(test)]
mod tests;

pub use open::OpenError;

pub struct SqliteStore {
    writes: mpsc::Sender<Box<dyn Change>>,
    reads: mpsc::Sender<Read>,
}

/// Calls that may wait for each thread; more make the caller wait.
const WAITING: usize = 1024;
/// The name of the note about the last rejudgement.
const REJUDGEMENT: &str = "rejudgement";
/// Changes that share one commit.
const GROUP: usize = 256;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A change that waits for its turn.
trait Change: Send {
    /// Makes it, inside a transaction, and keeps the result until that is committed.
    fn make(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// Tells the asker its result; or, if it would be `Ok`, why it is not.
    fn tell(self: Box<Self>, failed: Option<StoreError>);
}

struct Asked<T, W> {
    work: Option<W>,
    result: Result<T, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl SqliteStore {
    /// Opens the data directory and starts both threads.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let lock = Arc::new(open::lock(folder)?);
        let (writer, reader) = schema::open(folder)?;
        let (writes, waiting) = mpsc::channel(WAITING);
        let (reads, asked) = mpsc::channel(WAITING);
        let kept = lock.clone();
        start(folder, "store-writer", move || write_all(writer, waiting, &kept))?;
        start(folder, "store-reader", move || read_all(&reader, asked, &lock))?;
        Ok(Self { writes, reads })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        ask(self.writes.clone(), Box::new(Asked { work: Some(work), result: Err(gone()), answer }), answered)
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // Whoever asked may have gone away.
            let _ = answer.send(work(connection).map_err(of_sqlite));
        });
        ask(self.reads.clone(), read, answered)
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

    fn seen(
        &self,
        owner: Owner,
        subject: String,
        before: ScanId,
        scans: usize,
    ) -> BoxFuture<'static, Result<Seen, StoreError>> {
        self.read(move |c| sql::seen(c, &owner, &subject, &before, scans))
    }

    fn put_rejudgement(&self, it: Rejudgement) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |c| sql::put_note(c, REJUDGEMENT, &it))
    }

    fn rejudgement(&self) -> BoxFuture<'static, Result<Option<Rejudgement>, StoreError>> {
        self.read(|c| sql::note(c, REJUDGEMENT))
    }

    fn delete(&self, id: ScanId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |c| sql::delete(c, &id))
    }

    fn expired(&self, keep: usize, older_than: Nanos) -> BoxFuture<'static, Result<Vec<ScanId>, StoreError>> {
        self.read(move |c| sql::expired(c, keep, older_than))
    }
}

impl<T, W> Change for Asked<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send,
{
    fn make(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.result = work(connection).map_err(of_sqlite);
        self.result.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn tell(self: Box<Self>, failed: Option<StoreError>) {
        let made = self.work.is_none();
        let result = match failed {
            Some(error) if self.result.is_ok() || !made => Err(error),
            _ => self.result,
        };
        // Whoever asked may have gone away; what was written stays written.
        let _ = self.answer.send(result);
    }
}

/// Commits in groups until nobody can ask any more.
fn write_all(mut connection: Connection, mut waiting: mpsc::Receiver<Box<dyn Change>>, _lock: &File) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        let failed = commit(&mut connection, &mut group).err();
        group.into_iter().for_each(|change| change.tell(failed.clone()));
    }
}

fn commit(connection: &mut Connection, group: &mut [Box<dyn Change>]) -> Result<(), StoreError> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let mut transaction = begun.map_err(of_sqlite)?;
    for change in group {
        // One that fails half way leaves nothing behind and takes nothing of the others with it.
        let savepoint = transaction.savepoint().map_err(of_sqlite)?;
        match change.make(&savepoint) {
            Ok(()) => savepoint.commit().map_err(of_sqlite)?,
            Err(error) => {
                drop(savepoint);
                // Unless SQLite has taken everything back by itself, as it may when the disk is full.
                if transaction.is_autocommit() {
                    return Err(error);
                }
            }
        }
    }
    transaction.commit().map_err(of_sqlite)
}

fn read_all(connection: &Connection, mut asked: mpsc::Receiver<Read>, _lock: &File) {
    while let Some(read) = asked.blocking_recv() {
        read(connection);
    }
}

fn ask<A: Send + 'static, T: Send + 'static>(
    to: mpsc::Sender<A>,
    work: A,
    answered: oneshot::Receiver<Result<T, StoreError>>,
) -> BoxFuture<'static, Result<T, StoreError>> {
    async move {
        to.send(work).await.map_err(|_| gone())?;
        drop(to);
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
    .boxed()
}

fn start(folder: &Path, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    started.map(|_| ()).map_err(|e| OpenError::Directory(folder.display().to_string(), e))
}

fn gone() -> StoreError {
    StoreError::Failed(Arc::new(std::io::Error::other("the store's thread has ended")))
}

fn of_sqlite(error: rusqlite::Error) -> StoreError {
    use rusqlite::ffi;
    let full = error.sqlite_error().is_some_and(|e| {
        // The second: no room to enlarge the index of the write-ahead log.
        e.code == ffi::ErrorCode::DiskFull || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    });
    if full { StoreError::Full } else { StoreError::Failed(Arc::new(error)) }
}
