//! Opens the database and brings its schema up to date.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::OpenError;

/// Each step is applied once, in order, all in one transaction; the last one's number is `user_version`. A step that
/// was released is never changed.
const STEPS: [&str; 4] = [
    "
CREATE TABLE scans (
    id       TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    state    TEXT NOT NULL,
    created  INTEGER NOT NULL,
    ended    INTEGER,
    document TEXT NOT NULL
);
CREATE INDEX scans_by_owner ON scans (owner, id);
CREATE INDEX scans_unfinished ON scans (id) WHERE state IN ('queued', 'running');
CREATE INDEX scans_final ON scans (id, ended) WHERE state NOT IN ('queued', 'running');
CREATE TABLE keys (
    owner TEXT NOT NULL,
    key   TEXT NOT NULL,
    scan  TEXT NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX keys_by_scan ON keys (scan);
CREATE TABLE alerts (
    scan     TEXT NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    id       INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (scan, id)
);
",
    // Filters: their revisions, what shadows would have decided, and who changed what. The log only grows.
    "
ALTER TABLE scans ADD COLUMN subject TEXT;
CREATE INDEX scans_by_subject ON scans (owner, subject, id) WHERE subject IS NOT NULL;
ALTER TABLE alerts ADD COLUMN fingerprint TEXT;
CREATE TABLE filters (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE revisions (
    filter   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (filter, number)
) WITHOUT ROWID;
CREATE TABLE differences (
    filter   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    scan     TEXT NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    alert    INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (filter, number, scan, alert)
) WITHOUT ROWID;
CREATE INDEX differences_by_scan ON differences (scan);
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL
);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
",
    // Functions have revisions, too.
    "
CREATE TABLE names (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
INSERT INTO names SELECT 'filter', name, last FROM filters;
DROP TABLE filters;
ALTER TABLE revisions RENAME TO revisions_of_filters;
CREATE TABLE revisions (
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    number   INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, name, number)
) WITHOUT ROWID;
INSERT INTO revisions SELECT 'filter', filter, number, document FROM revisions_of_filters;
DROP TABLE revisions_of_filters;
",
    // What the host has to remember of itself, each under its name.
    "
CREATE TABLE notes (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
) WITHOUT ROWID;
",
];

/// The writing and the reading connection.
pub(super) fn open(folder: &Path) -> Result<(Connection, Connection), OpenError> {
    let path = folder.join("lanner.db");
    let name = || path.display().to_string();
    // SQLite would make it readable for all; the files beside it take its mode over.
    let made = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    made.map_err(|e| OpenError::Directory(folder.display().to_string(), e))?;
    let mut writer = connect(&path).map_err(|e| failed(name(), e))?;
    let version = version(&writer).map_err(|e| failed(name(), e))?;
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if version > known {
        return Err(OpenError::Newer(name(), version, known));
    }
    if version < known {
        migrate(&mut writer, version, known).map_err(|e| failed(name(), e))?;
    }
    let reader = connect(&path).map_err(|e| failed(name(), e))?;
    reader.pragma_update(None, "query_only", true).map_err(|e| failed(name(), e))?;
    Ok((writer, reader))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // FULL: an answered submission survives a power cut, not only a crash of ours.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA trusted_schema = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection, version: u32, known: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()
}

fn failed(name: String, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Damaged(name, error),
        Some(ErrorCode::DiskFull) => OpenError::Full(name),
        _ => OpenError::Database(name, error),
    }
}
