//! The statements. Each runs on a connection that somebody else owns, inside a transaction of theirs if it writes.

use lanner_core::{JudgedAlert, Nanos, Owner, Scan, ScanId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::scan::ports::{Created, Seen};

pub(super) type Result<T> = std::result::Result<T, rusqlite::Error>;

pub(super) fn create(connection: &Connection, scan: &Scan, key: Option<&str>) -> Result<Created> {
    if let Some(key) = key {
        let mut statement =
            connection.prepare_cached("SELECT scan FROM keys WHERE owner = ?1 AND key = ?2")?;
        let earlier: Option<String> =
            statement.query_row(params![scan.owner.0, key], |r| r.get(0)).optional()?;
        if let Some(id) = earlier.and_then(|id| id.parse().ok()) {
            return Ok(Created::Earlier(id));
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO scans (id, owner, state, created, ended, document, subject)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            scan.id.as_str(),
            scan.owner.0,
            scan.state.as_str(),
            scan.created,
            scan.ended,
            text(scan)?,
            scan.spec.subject.key()
        ])?;
    if let Some(key) = key {
        connection
            .prepare_cached("INSERT INTO keys (owner, key, scan) VALUES (?1, ?2, ?3)")?
            .execute(params![scan.owner.0, key, scan.id.as_str()])?;
    }
    Ok(Created::New)
}

/// Changes a scan; one that was deleted meanwhile stays deleted.
pub(super) fn put(connection: &Connection, scan: &Scan) -> Result<()> {
    connection
        .prepare_cached("UPDATE scans SET state = ?2, ended = ?3, document = ?4 WHERE id = ?1")?
        .execute(params![scan.id.as_str(), scan.state.as_str(), scan.ended, text(scan)?])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, id: &ScanId) -> Result<Option<Scan>> {
    let mut statement = connection.prepare_cached("SELECT document FROM scans WHERE id = ?1")?;
    statement.query_row(params![id.as_str()], document).optional()
}

pub(super) fn list(
    connection: &Connection,
    owner: Option<&Owner>,
    before: Option<&ScanId>,
    limit: usize,
) -> Result<Vec<Scan>> {
    // Ids are hex digits, so `~` sorts behind every one of them.
    let before = before.map_or("~", ScanId::as_str);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match owner {
        Some(owner) => connection
            .prepare_cached(
                "SELECT document FROM scans WHERE owner = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
            )?
            .query_map(params![owner.0, before, limit], document)?
            .collect(),
        None => connection
            .prepare_cached("SELECT document FROM scans WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?
            .query_map(params![before, limit], document)?
            .collect(),
    }
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<Scan>> {
    connection
        .prepare_cached("SELECT document FROM scans WHERE state IN ('queued', 'running') ORDER BY id")?
        .query_map([], document)?
        .collect()
}

pub(super) fn put_alerts(connection: &Connection, id: &ScanId, alerts: &[JudgedAlert]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO alerts (scan, id, document, fingerprint) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (scan, id) DO UPDATE SET document = ?3, fingerprint = ?4",
    )?;
    // One that was deleted meanwhile keeps no alerts.
    if !connection.prepare_cached("SELECT 1 FROM scans WHERE id = ?1")?.exists(params![id.as_str()])? {
        return Ok(());
    }
    for alert in alerts {
        let number = i64::try_from(alert.alert.id).unwrap_or(i64::MAX);
        statement.execute(params![id.as_str(), number, text(alert)?, alert.alert.fingerprint()])?;
    }
    Ok(())
}

pub(super) fn alerts(connection: &Connection, id: &ScanId) -> Result<Vec<JudgedAlert>> {
    connection
        .prepare_cached("SELECT document FROM alerts WHERE scan = ?1 ORDER BY id")?
        .query_map(params![id.as_str()], document)?
        .collect()
}

pub(super) fn seen(
    connection: &Connection,
    owner: &Owner,
    subject: &str,
    before: &ScanId,
    scans: usize,
) -> Result<Seen> {
    connection
        .prepare_cached(
            "SELECT fingerprint, count(DISTINCT scan) FROM alerts
             WHERE fingerprint IS NOT NULL AND scan IN
                 (SELECT id FROM scans WHERE owner = ?1 AND subject = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4)
             GROUP BY fingerprint",
        )?
        .query_map(
            params![owner.0, subject, before.as_str(), i64::try_from(scans).unwrap_or(i64::MAX)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect()
}

pub(super) fn delete(connection: &Connection, id: &ScanId) -> Result<()> {
    connection.prepare_cached("DELETE FROM scans WHERE id = ?1")?.execute(params![id.as_str()])?;
    Ok(())
}

pub(super) fn put_note(connection: &Connection, name: &str, note: &impl Serialize) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO notes (name, document) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET document = ?2",
        )?
        .execute(params![name, text(note)?])?;
    Ok(())
}

pub(super) fn note<T: DeserializeOwned>(connection: &Connection, name: &str) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached("SELECT document FROM notes WHERE name = ?1")?;
    statement.query_row(params![name], document).optional()
}

pub(super) fn expired(connection: &Connection, keep: usize, older_than: Nanos) -> Result<Vec<ScanId>> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT id FROM (SELECT id, ended, row_number() OVER (ORDER BY id DESC) AS nth
                         FROM scans WHERE state NOT IN ('queued', 'running'))
         WHERE nth > ?1 OR ended < ?2 ORDER BY id",
    )?;
    let ids = statement.query_map(params![keep, older_than], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|e| unreadable(0, e))).collect()
}

pub(super) fn document<T: DeserializeOwned>(row: &Row<'_>) -> Result<T> {
    serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|e| unreadable(0, e))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(super) fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}
