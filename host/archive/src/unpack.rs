//! Writes a checked archive below a folder. Every name is resolved below that folder by the kernel, without links, so
//! even an archive that the checks misjudged cannot be written elsewhere.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::entry::{Kind, Parts};
use crate::read::walk;
use crate::{ArchiveError, Limits, Summary};

/// Unpacks below `dest`; `strip` is the [`Summary::root`] of an earlier [`inspect`](crate::inspect).
pub fn unpack(
    reader: impl Read,
    limits: &Limits,
    strip: &str,
    dest: BorrowedFd<'_>,
) -> Result<Summary, ArchiveError> {
    walk(reader, limits, &mut |path, kind, bytes| {
        let Some(path) = stripped(path, strip) else { return Ok(()) };
        match kind {
            Kind::Folder => folder(dest, path).map(|_| ()),
            Kind::File { executable } => file(dest, path, *executable, bytes),
            Kind::Symlink { target } => symlink(dest, path, target),
            Kind::Hardlink { target } => match stripped(target, strip) {
                Some(target) => hardlink(dest, path, target),
                None => Ok(()),
            },
            Kind::Ignored => Ok(()),
        }
    })
}

/// Without the folder around everything; nothing for that folder itself.
fn stripped<'p>(path: &'p Parts, strip: &str) -> Option<&'p [String]> {
    let rest = if strip.is_empty() { path.as_slice() } else { path.get(1..)? };
    (!rest.is_empty()).then_some(rest)
}

fn file(dest: BorrowedFd<'_>, path: &[String], executable: bool, bytes: &mut dyn Read) -> Result<(), ArchiveError> {
    let (name, parent) = parent(dest, path)?;
    // Replaced, not written over: an earlier entry of the same name may be a hard link to another file.
    remove(&parent, name)?;
    let mode = if executable { 0o755 } else { 0o644 };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = open(&parent, name, flags, Mode::from_raw_mode(mode))?;
    let mut file = std::fs::File::from(opened);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Errors of reading are the archive's, errors of writing are ours.
        let n = bytes.read(&mut buffer).map_err(|_| ArchiveError::Truncated)?;
        let Some(chunk) = buffer.get(..n).filter(|c| !c.is_empty()) else { return Ok(()) };
        file.write_all(chunk).map_err(ArchiveError::Write)?;
    }
}

fn symlink(dest: BorrowedFd<'_>, path: &[String], target: &str) -> Result<(), ArchiveError> {
    let (name, parent) = parent(dest, path)?;
    remove(&parent, name)?;
    rustix::fs::symlinkat(target, &parent, name).map_err(write)
}

fn hardlink(dest: BorrowedFd<'_>, path: &[String], target: &[String]) -> Result<(), ArchiveError> {
    let (name, folder) = parent(dest, path)?;
    let (old, old_folder) = parent(dest, target)?;
    remove(&folder, name)?;
    rustix::fs::linkat(&old_folder, old, &folder, name, AtFlags::empty()).map_err(write)
}

/// The last part, and the opened folder that it lies in.
fn parent<'p>(dest: BorrowedFd<'_>, path: &'p [String]) -> Result<(&'p str, OwnedFd), ArchiveError> {
    let (name, parents) = path.split_last().ok_or_else(|| ArchiveError::BadPath(String::new()))?;
    Ok((name, folder(dest, parents)?))
}

/// Opens a folder below `dest`, making what is missing.
fn folder(dest: BorrowedFd<'_>, path: &[String]) -> Result<OwnedFd, ArchiveError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let whole = if path.is_empty() { ".".to_owned() } else { path.join("/") };
    match open(&dest, &whole, flags, Mode::empty()) {
        Err(ArchiveError::Write(e)) if e.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let (name, parent) = parent(dest, path)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open(&parent, name, flags, Mode::empty()),
        Err(error) => Err(write(error)),
    }
}

fn open(at: &impl std::os::fd::AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, ArchiveError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(at, path, flags, mode, resolve).map_err(write)
}

fn remove(parent: &OwnedFd, name: &str) -> Result<(), ArchiveError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(write(error)),
    }
}

fn write(error: Errno) -> ArchiveError {
    ArchiveError::Write(error.into())
}
