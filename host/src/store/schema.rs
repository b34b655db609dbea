//! Opens the database and brings its schema up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::OpenError;

/// Each step is applied once, in order, in one transaction; the last one's number is `user_version`.
const STEPS: [&str; 1] = ["
CREATE TABLE scans (
    id       TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    final    INTEGER NOT NULL,
    ended    INTEGER,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX scans_by_owner ON scans (owner, id);
CREATE INDEX scans_unfinished ON scans (id) WHERE final = 0;
CREATE TABLE keys (
    owner TEXT NOT NULL,
    key   TEXT NOT NULL,
    scan  TEXT NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE TABLE alerts (
    scan     TEXT NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    id       INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (scan, id)
) WITHOUT ROWID;
"];

pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let database = |e| OpenError::Database(path.display().to_string(), e);
    let mut connection = Connection::open(path).map_err(database)?;
    // FULL: an answered submission survives a power cut, not only a crash of ours.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .and_then(|()| connection.busy_timeout(Duration::from_secs(10)))
        .map_err(database)?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(database)?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if version > known {
        return Err(OpenError::Newer(path.display().to_string(), version, known));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let transaction = connection.transaction().map_err(database)?;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step).map_err(database)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(database)?;
    transaction.commit().map_err(database)?;
    Ok(connection)
}
