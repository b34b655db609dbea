//! Writes a checked archive below a folder. Every folder on the way is opened by itself and never through a link, so
//! even an archive that the checks misjudged cannot be written elsewhere.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::entry::{Entry, Kind};
use crate::read::walk;
use crate::{ArchiveError, Limits, Summary};

/// Unpacks below `dest`; `strip` is the [`Summary::root`] of an earlier [`inspect`](crate::inspect).
///
/// Of a file's mode only the owner's right to execute is kept, of its times the modification, of its owner nothing.
/// After an error `dest` holds what came before it: the caller throws the whole folder away.
pub fn unpack(
    reader: impl Read,
    limits: &Limits,
    strip: &str,
    dest: BorrowedFd<'_>,
) -> Result<Summary, ArchiveError> {
    let mut folders = Folders { dest, open: Vec::new() };
    let mut buffer = vec![0; 64 * 1024];
    walk(reader, limits, &mut |entry, bytes| {
        let path = stripped(&entry.path, strip, entry)?;
        let Some((name, parents)) = path.split_last() else { return Ok(()) };
        match &entry.kind {
            Kind::Folder => folders.enter(path).map(|_| ()),
            Kind::File { executable } => {
                let mut file = create(folders.enter(parents)?, name, *executable)?;
                copy(bytes, &mut file, &mut buffer)?;
                set_mtime(&file, entry.mtime)
            }
            Kind::Symlink { target, .. } => symlink(folders.enter(parents)?, name, target),
            // A file that was given to tar twice is a hard link to itself.
            Kind::Hardlink { target } if *target == entry.path => Ok(()),
            Kind::Hardlink { target } => {
                let target = stripped(target, strip, entry)?;
                let (old, old_parents) =
                    target.split_last().ok_or_else(|| ArchiveError::BadPath(entry.name()))?;
                let mut others = Folders { dest, open: Vec::new() };
                let from = others.enter(old_parents)?;
                let to = folders.enter(parents)?;
                remove(to, name)?;
                rustix::fs::linkat(from, old, to, name, AtFlags::empty()).map_err(write)
            }
        }
    })
}

/// Without the folder around everything.
fn stripped<'p>(path: &'p [String], strip: &str, entry: &Entry) -> Result<&'p [String], ArchiveError> {
    match path.split_first() {
        Some((first, rest)) if !strip.is_empty() && first == strip => Ok(rest),
        Some(_) if !strip.is_empty() => Err(ArchiveError::Contradiction(entry.name())),
        _ => Ok(path),
    }
}

/// The folders that were opened last, each in the one before: an archive goes folder by folder.
struct Folders<'d> {
    dest: BorrowedFd<'d>,
    open: Vec<(String, OwnedFd)>,
}

impl Folders<'_> {
    /// The folder at `path`; what is missing is made.
    fn enter(&mut self, path: &[String]) -> Result<BorrowedFd<'_>, ArchiveError> {
        let common = self.open.iter().zip(path).take_while(|((name, _), part)| name == *part).count();
        self.open.truncate(common);
        for part in path.iter().skip(common) {
            let opened = open_or_make(self.last(), part)?;
            self.open.push((part.clone(), opened));
        }
        Ok(self.last())
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.dest, |(_, fd)| fd.as_fd())
    }
}

fn open_or_make(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, ArchiveError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(write)?;
            open().map_err(write)
        }
        result => result.map_err(write),
    }
}

fn create(parent: BorrowedFd<'_>, name: &str, executable: bool) -> Result<std::fs::File, ArchiveError> {
    let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::openat(parent, name, flags, mode);
    let opened = match open() {
        // Replaced, not written over: an earlier entry of the same name may be a hard link to another file.
        Err(Errno::EXIST) => remove(parent, name).and_then(|()| open().map_err(write)),
        result => result.map_err(write),
    };
    opened.map(std::fs::File::from)
}

fn copy(bytes: &mut dyn Read, file: &mut std::fs::File, buffer: &mut [u8]) -> Result<(), ArchiveError> {
    loop {
        // Errors of reading are the archive's, errors of writing are ours.
        let n = bytes.read(buffer).map_err(ArchiveError::of_read)?;
        let Some(chunk) = buffer.get(..n).filter(|c| !c.is_empty()) else { return Ok(()) };
        file.write_all(chunk).map_err(ArchiveError::Write)?;
    }
}

/// Build tools compare times; they hold 32 bits, as some file systems do.
fn set_mtime(file: &std::fs::File, seconds: u64) -> Result<(), ArchiveError> {
    let tv_sec = i64::from(u32::try_from(seconds).unwrap_or(u32::MAX));
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access, last_modification: Timespec { tv_sec, tv_nsec: 0 } };
    rustix::fs::futimens(file, &times).map_err(write)
}

fn symlink(parent: BorrowedFd<'_>, name: &str, target: &str) -> Result<(), ArchiveError> {
    remove(parent, name)?;
    rustix::fs::symlinkat(target, parent, name).map_err(write)
}

fn remove(parent: BorrowedFd<'_>, name: &str) -> Result<(), ArchiveError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(write(error)),
    }
}

fn write(error: Errno) -> ArchiveError {
    ArchiveError::Write(error.into())
}
