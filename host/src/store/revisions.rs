//! The revisions of filters and functions in the same database: a change and its line in the audit log are one transaction.

use futures::future::BoxFuture;
use lanner_core::{Change, FilterSpec, Kind, Name, Revision, ScanId, Spec};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::sql::{Result, document, text};
use crate::lifecycle::{Revisions, Step};
use crate::policy::ports::{self, Difference, Differences};
use crate::scan::ports::StoreError;

type Answer<T> = BoxFuture<'static, std::result::Result<T, StoreError>>;

impl<S: Spec> Revisions<S> for SqliteStore {
    fn revisions(&self) -> Answer<Vec<Revision<S>>> {
        self.read(|c| {
            c.prepare_cached("SELECT document FROM revisions WHERE kind = ?1 ORDER BY name, number")?
                .query_map([S::KIND.as_str()], document)?
                .collect()
        })
    }

    fn next(&self, name: Name) -> Answer<u64> {
        self.write(move |c| {
            c.prepare_cached(
                "INSERT INTO names (kind, name, last) VALUES (?1, ?2, 1)
                 ON CONFLICT (kind, name) DO UPDATE SET last = last + 1 RETURNING last",
            )?
            .query_row(params![S::KIND.as_str(), name.as_str()], |row| row.get::<_, i64>(0))
            .map(|n| u64::try_from(n).unwrap_or_default())
        })
    }

    fn apply(&self, step: Step<S>) -> Answer<()> {
        self.write(move |c| apply(c, &step))
    }

    fn audit(&self, before: Option<u64>, limit: usize) -> Answer<Vec<(u64, Change)>> {
        self.read(move |c| {
            let before = before.map_or(i64::MAX, number);
            c.prepare_cached("SELECT document, id FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?
                .query_map(params![before, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                    Ok((u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(), document(row)?))
                })?
                .collect()
        })
    }
}

impl ports::Revisions for SqliteStore {
    fn put_differences(&self, of: Revision<FilterSpec>, scan: ScanId, found: Vec<Difference>) -> Answer<()> {
        self.write(move |c| {
            let exists = c.prepare_cached("SELECT 1 FROM scans WHERE id = ?1")?.exists([scan.as_str()])?;
            let mut insert = c.prepare_cached(
                "INSERT OR REPLACE INTO differences (filter, number, scan, alert, document)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for difference in found.iter().filter(|_| exists) {
                let alert = number(difference.alert);
                let of = (of.name.as_str(), number(of.number));
                insert.execute(params![of.0, of.1, scan.as_str(), alert, text(difference)?])?;
            }
            Ok(())
        })
    }

    fn differences(&self, filter: Name, revision: u64, limit: usize) -> Answer<Differences> {
        self.read(move |c| {
            let of = params![filter.as_str(), number(revision)];
            let total = c
                .prepare_cached("SELECT count(*) FROM differences WHERE filter = ?1 AND number = ?2")?
                .query_row(of, |row| row.get::<_, i64>(0))
                .optional()?;
            let latest = c
                .prepare_cached(
                    "SELECT document, scan FROM differences WHERE filter = ?1 AND number = ?2
                     ORDER BY scan DESC, alert LIMIT ?3",
                )?
                .query_map(
                    params![filter.as_str(), number(revision), i64::try_from(limit).unwrap_or(i64::MAX)],
                    document,
                )?
                .collect::<Result<_>>()?;
            Ok(Differences { total: u64::try_from(total.unwrap_or(0)).unwrap_or_default(), latest })
        })
    }
}

fn apply<S: Spec>(connection: &Connection, step: &Step<S>) -> Result<()> {
    let kind = S::KIND.as_str();
    let mut put = connection.prepare_cached(
        "INSERT INTO revisions (kind, name, number, document) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (kind, name, number) DO UPDATE SET document = ?4",
    )?;
    for revision in &step.put {
        put.execute(params![kind, revision.name.as_str(), number(revision.number), text(revision)?])?;
    }
    for (name, revision) in &step.forget {
        let of = params![kind, name.as_str(), number(*revision)];
        connection.execute("DELETE FROM revisions WHERE kind = ?1 AND name = ?2 AND number = ?3", of)?;
        if S::KIND == Kind::Filter {
            let of = params![name.as_str(), number(*revision)];
            connection.execute("DELETE FROM differences WHERE filter = ?1 AND number = ?2", of)?;
        }
    }
    if let Some(change) = &step.audit {
        connection
            .prepare_cached("INSERT INTO audit (document) VALUES (?1)")?
            .execute(params![text(change)?])?;
    }
    Ok(())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
