//! One pass over a gzipped tar, with every limit counted as the bytes come.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use crate::entry::{Checker, Kind, Parts};
use crate::{ArchiveError, Limits, MAX_TOP_LEVEL, Summary};

/// Walks an archive and checks everything, without writing anything.
pub fn inspect(reader: impl Read, limits: &Limits) -> Result<Summary, ArchiveError> {
    walk(reader, limits, &mut |_, _, bytes| {
        io::copy(bytes, &mut io::sink()).map(|_| ()).map_err(|e| of_reading(&e))
    })
}

/// What a walk does with each entry: its path, what it is, and its bytes.
pub(crate) type Visit<'v> = dyn FnMut(&Parts, &Kind, &mut dyn Read) -> Result<(), ArchiveError> + 'v;

pub(crate) fn walk(reader: impl Read, limits: &Limits, visit: &mut Visit<'_>) -> Result<Summary, ArchiveError> {
    let compressed = Rc::new(Cell::new(0));
    let counted = Counted { inner: reader, count: compressed.clone() };
    let buffered = io::BufReader::with_capacity(64 * 1024, counted);
    let guard = Guard {
        inner: GzDecoder::new(buffered),
        compressed,
        unpacked: 0,
        limits: *limits,
        failed: Rc::new(Cell::new(None)),
    };
    let failed = guard.failed.clone();
    let mut archive = tar::Archive::new(guard);
    let result = entries(&mut archive, limits, visit);
    // A limit that was hit inside `Read` comes out of the tar crate as some I/O error; what we noted is the reason.
    if let Some(reason) = failed.take() {
        return Err(reason);
    }
    let summary = result?;
    let mut guard = archive.into_inner();
    // The rest of the tar (padding), and then the end of the gzip file with its checksum.
    io::copy(&mut guard, &mut io::sink()).map_err(|e| failed.take().unwrap_or_else(|| of_reading(&e)))?;
    let mut rest = guard.inner.into_inner();
    if rest.read(&mut [0]).map_err(|e| of_reading(&e))? != 0 {
        return Err(ArchiveError::TrailingBytes);
    }
    Ok(summary)
}

fn entries<R: Read>(
    archive: &mut tar::Archive<R>,
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<Summary, ArchiveError> {
    let mut checker = Checker::default();
    let mut summary = Summary::default();
    let mut root = Root::default();
    for entry in archive.entries().map_err(|e| of_reading(&e))? {
        let mut entry = entry.map_err(|e| of_reading(&e))?;
        summary.entries += 1;
        if summary.entries > limits.entries {
            return Err(ArchiveError::TooManyEntries(limits.entries));
        }
        let (path, kind) = checker.check(&entry, limits)?;
        if kind == Kind::Ignored {
            continue;
        }
        if matches!(kind, Kind::File { .. }) {
            summary.unpacked_bytes = summary.unpacked_bytes.saturating_add(entry.size());
        }
        if summary.unpacked_bytes > limits.unpacked_bytes {
            return Err(ArchiveError::TooLarge(limits.unpacked_bytes));
        }
        root.note(&path, &kind);
        let mut bytes = Whole { left: entry.size(), inner: &mut entry };
        visit(&path, &kind, &mut bytes)?;
    }
    if summary.entries == 0 {
        return Err(ArchiveError::Empty);
    }
    (summary.root, summary.top_level) = root.end();
    Ok(summary)
}

/// Finds the one folder around everything, and the names at the project's root.
#[derive(Default)]
struct Root {
    first: BTreeSet<String>,
    second: BTreeSet<String>,
    /// Something at the top is not a folder.
    loose: bool,
}

impl Root {
    fn note(&mut self, path: &Parts, kind: &Kind) {
        let Some(first) = path.first() else { return };
        if self.first.len() < MAX_TOP_LEVEL {
            self.first.insert(first.clone());
        }
        match path.get(1) {
            Some(second) if self.second.len() < MAX_TOP_LEVEL => _ = self.second.insert(second.clone()),
            Some(_) => {}
            None => self.loose |= *kind != Kind::Folder,
        }
    }

    fn end(self) -> (String, Vec<String>) {
        match self.first.first() {
            Some(only) if self.first.len() == 1 && !self.loose => (only.clone(), self.second.into_iter().collect()),
            _ => (String::new(), self.first.into_iter().collect()),
        }
    }
}

/// An entry's bytes: fewer than its header says are an error, not a shorter file.
struct Whole<'r, R> {
    inner: &'r mut R,
    left: u64,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(n)
    }
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.set(self.count.get().saturating_add(n as u64));
        Ok(n)
    }
}

/// Counts what comes out of the decompressor, headers included, so that no lie in a header matters.
struct Guard<R: Read> {
    inner: GzDecoder<io::BufReader<Counted<R>>>,
    compressed: Rc<Cell<u64>>,
    unpacked: u64,
    limits: Limits,
    failed: Rc<Cell<Option<ArchiveError>>>,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).inspect_err(|e| self.failed.set(Some(of_decoding(e, self.unpacked))))?;
        self.unpacked = self.unpacked.saturating_add(n as u64);
        // A header a file is 512 bytes, and the names may fill one more block each: the bound on bytes allows for them.
        let room = self.limits.unpacked_bytes.saturating_add(self.limits.entries.saturating_mul(2048));
        let most = self.compressed.get().saturating_mul(self.limits.ratio);
        let reason = if self.unpacked > room {
            ArchiveError::TooLarge(self.limits.unpacked_bytes)
        } else if self.unpacked > self.limits.ratio_from && self.unpacked > most {
            ArchiveError::Bomb(self.limits.ratio)
        } else {
            return Ok(n);
        };
        self.failed.set(Some(reason));
        Err(io::Error::other("a limit was hit"))
    }
}

fn of_decoding(error: &io::Error, unpacked: u64) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if unpacked == 0 => ArchiveError::NotGzip,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ArchiveError::Truncated,
        io::ErrorKind::UnexpectedEof if unpacked == 0 => ArchiveError::NotGzip,
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ => ArchiveError::Read(io::Error::new(error.kind(), error.to_string())),
    }
}

fn of_reading(error: &io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        // The tar crate's word for "failed to read entire block" and for a bad checksum.
        _ if error.to_string().contains("entire block") => ArchiveError::Truncated,
        _ => ArchiveError::NotTar,
    }
}
