//! Archives good and bad: each refusal with its message, and nothing written outside the folder.

#![cfg(test)]

mod headers;
mod refused;
mod round_trip;

use std::io::Write;
use std::os::fd::AsFd;

use flate2::Compression;
use flate2::write::GzEncoder;
use lanner_archive::{ArchiveError, Limits, Summary, inspect, unpack};
use tar::{Builder, EntryType, Header};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An entry with exactly these bytes as its name and link, past the checks of the tar crate.
fn raw(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// Kind, name, link, content.
type Row<'a> = (EntryType, &'a [u8], &'a [u8], &'a [u8]);

fn rows(rows: &[Row<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, link, content) in rows {
        raw(&mut tar, *kind, name, link, content);
    }
    gzip(&tar.into_inner().unwrap())
}

fn archive(entries: &[(EntryType, &[u8], &[u8])]) -> Vec<u8> {
    let content = |kind| if kind == EntryType::Regular { b"content".as_slice() } else { b"" };
    rows(&entries.iter().map(|(kind, name, link)| (*kind, *name, *link, content(*kind))).collect::<Vec<_>>())
}

/// Inspects and unpacks; both must say the same, and nothing may be written beside the folder.
fn both(bytes: &[u8], limits: &Limits) -> Result<Summary, ArchiveError> {
    let around = tempfile::tempdir().unwrap();
    let inside = around.path().join("project");
    std::fs::create_dir(&inside).unwrap();
    let inspected = inspect(bytes, limits);
    let root = inspected.as_ref().map(|s| s.root.clone()).unwrap_or_default();
    let dir = std::fs::File::open(&inside).unwrap();
    let unpacked = unpack(bytes, limits, &root, dir.as_fd());
    assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 1, "something was written outside");
    match (&inspected, &unpacked) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        (a, b) => panic!("inspect said {a:?}, unpack said {b:?}"),
    }
    inspected
}

fn accepted(bytes: &[u8]) -> Summary {
    both(bytes, &Limits::default()).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    both(bytes, &Limits::default()).unwrap_err().to_string()
}
