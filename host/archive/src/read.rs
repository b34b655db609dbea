//! One pass over a gzipped tar. What becomes of each entry is the visitor's business.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::Header;

use crate::entry::{Entry, Kind};
use crate::extension::Extension;
use crate::guard::Guard;
use crate::tree::Tree;
use crate::{ArchiveError, Limits, MAX_TOP_LEVEL, Summary};

const BLOCK: u64 = 512;

/// Walks an archive and checks everything, without writing anything.
pub fn inspect(reader: impl Read, limits: &Limits) -> Result<Summary, ArchiveError> {
    walk(reader, limits, &mut |_, _| Ok(()))
}

/// What a walk does with each entry and its bytes; those that it leaves are skipped.
pub(crate) type Visit<'v> = dyn FnMut(&Entry, &mut dyn Read) -> Result<(), ArchiveError> + 'v;

pub(crate) fn walk(
    reader: impl Read,
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<Summary, ArchiveError> {
    let mut guard = Guard::new(reader, limits)?;
    let mut tree = Tree::new();
    let mut summary = Summary::default();
    let mut names = Names::default();
    let mut extension = Extension::default();
    let mut first = true;
    while let Some(header) = header(&mut guard, first)? {
        first = false;
        if Extension::is_one(&header) {
            let size = header.entry_size().map_err(|_| ArchiveError::Damaged("a size is not a number"))?;
            let mut data = Data { left: size, guard: &mut guard };
            extension.read(&header, size, &mut data)?;
            skip(&mut guard, padding(size))?;
            continue;
        }
        let entry = Entry::check(&header, &std::mem::take(&mut extension), limits)?;
        summary.entries += 1;
        if summary.entries > limits.entries {
            return Err(ArchiveError::TooManyEntries(limits.entries));
        }
        summary.unpacked_bytes = summary.unpacked_bytes.saturating_add(entry.size);
        if summary.unpacked_bytes > limits.unpacked_bytes {
            return Err(ArchiveError::TooLarge(limits.unpacked_bytes));
        }
        tree.add(&entry, limits)?;
        names.note(&entry);
        let mut data = Data { left: entry.size, guard: &mut guard };
        visit(&entry, &mut data)?;
        let left = data.left;
        skip(&mut guard, left.saturating_add(padding(entry.size)))?;
    }
    if extension != Extension::default() {
        return Err(ArchiveError::Truncated);
    }
    guard.finish()?;
    if summary.entries == 0 {
        return Err(ArchiveError::Empty);
    }
    (summary.root, summary.top_level) = names.end();
    if !summary.root.is_empty() {
        tree.may_be_stripped()?;
    }
    Ok(summary)
}

/// The next header; none at the block of zeros that ends an archive, or where the bytes end between two entries.
fn header(guard: &mut impl Read, first: bool) -> Result<Option<Header>, ArchiveError> {
    let mut header = Header::new_old();
    let mut filled = 0;
    while let Some(room) = header.as_mut_bytes().get_mut(filled..).filter(|r| !r.is_empty()) {
        match guard.read(room).map_err(ArchiveError::of_read)? {
            0 if filled == 0 => return Ok(None),
            // A text file is no truncated archive.
            0 if first => return Err(ArchiveError::NotTar),
            0 => return Err(ArchiveError::Truncated),
            n => filled += n,
        }
    }
    if header.as_bytes().iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if !checksum_fits(&header) {
        return Err(if first {
            ArchiveError::NotTar
        } else {
            ArchiveError::Damaged("a header's checksum is wrong")
        });
    }
    Ok(Some(header))
}

/// The sum of a header's bytes, those of the sum itself taken as spaces.
fn checksum_fits(header: &Header) -> bool {
    let sum = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b }));
    header.cksum().is_ok_and(|stated| stated == sum.sum::<u32>())
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn skip<R: Read>(guard: &mut Guard<R>, bytes: u64) -> Result<(), ArchiveError> {
    let mut data = Data { left: bytes, guard };
    let mut buffer = [0; 32 * 1024];
    while data.read(&mut buffer).map_err(ArchiveError::of_read)? != 0 {}
    Ok(())
}

/// An entry's bytes: fewer than its header says are an error, not a shorter file.
struct Data<'g, R: Read> {
    left: u64,
    guard: &'g mut Guard<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(room) = buffer.get_mut(..most).filter(|r| !r.is_empty()) else { return Ok(0) };
        let n = self.guard.read(room)?;
        if n == 0 {
            return Err(io::Error::other(ArchiveError::Truncated));
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// Finds the one folder around everything, and the names at the project's root.
#[derive(Default)]
struct Names {
    /// Name to whether it is something else than a folder.
    first: BTreeMap<String, bool>,
    second: BTreeMap<String, bool>,
}

impl Names {
    /// More than are told of, so that a manifest among a thousand folders is not missed; a megabyte at most.
    const MOST: usize = 16 * MAX_TOP_LEVEL;

    fn note(&mut self, entry: &Entry) {
        let mut parts = entry.path.iter();
        for names in [&mut self.first, &mut self.second] {
            let Some(name) = parts.next() else { return };
            let file = parts.len() == 0 && entry.kind != Kind::Folder;
            if names.len() < Self::MOST || names.contains_key(name) {
                names.insert(name.clone(), file);
            }
        }
    }

    fn end(self) -> (String, Vec<String>) {
        match self.first.first_key_value() {
            Some((only, false)) if self.first.len() == 1 => (only.clone(), told(self.second)),
            _ => (String::new(), told(self.first)),
        }
    }
}

fn told(names: BTreeMap<String, bool>) -> Vec<String> {
    let (files, folders): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, file)| *file);
    let mut told: Vec<_> =
        files.into_iter().chain(folders).take(MAX_TOP_LEVEL).map(|(name, _)| name).collect();
    told.sort();
    told
}
