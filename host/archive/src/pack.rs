//! Packs a project folder, as `lanner scan FOLDER` submits it: in a fixed order, without what an installation makes anew.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};
use tar::{Builder, EntryType, Header};

use crate::entry::{Parts, symlink};
use crate::error::shown;
use crate::{ArchiveError, Limits};

/// Left out at any depth: an installation makes the first anew, and the second is history.
const LEFT_OUT: [&str; 2] = ["node_modules", ".git"];

/// The folder that everything is packed in and the reader strips: else a project that holds one folder and nothing
/// else would be taken for that folder.
const ROOT: &str = "project";

/// Writes `folder` as a gzipped tar. Sockets, pipes and devices are left out; a link that leads out is refused.
///
/// Nothing is held but one folder's names at a time, so the reader's limits are the only ones.
pub fn pack(folder: &Path, out: impl Write) -> Result<(), ArchiveError> {
    // Speed over size: the bytes go to this same machine.
    let mut tar = Builder::new(GzEncoder::new(out, Compression::fast()));
    let mut header = Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(0);
    header.set_entry_type(EntryType::Directory);
    tar.append_data(&mut header, ROOT, io::empty()).map_err(ArchiveError::Write)?;
    below(&mut tar, folder, &mut Vec::new())?;
    let mut out = tar.into_inner().and_then(GzEncoder::finish).map_err(ArchiveError::Write)?;
    out.flush().map_err(ArchiveError::Write)
}

fn below<W: Write>(tar: &mut Builder<W>, root: &Path, path: &mut Parts) -> Result<(), ArchiveError> {
    let folder = root.join(path.join("/"));
    let read = |error| ArchiveError::PackRead(shown(folder.as_os_str().as_bytes()), error);
    let entries = std::fs::read_dir(&folder).map_err(read)?;
    let mut names: Vec<_> =
        entries.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>().map_err(read)?;
    names.sort();
    for name in names {
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        let name = name.into_string().map_err(|name| ArchiveError::PackName(shown(name.as_bytes())))?;
        let file = folder.join(&name);
        path.push(name);
        one(tar, root, path, &file)?;
        path.pop();
    }
    Ok(())
}

fn one<W: Write>(
    tar: &mut Builder<W>,
    root: &Path,
    path: &mut Parts,
    file: &Path,
) -> Result<(), ArchiveError> {
    let joined = path.join("/");
    let read = |error| ArchiveError::PackRead(shown(joined.as_bytes()), error);
    let meta = file.symlink_metadata().map_err(read)?;
    let packed = format!("{ROOT}/{joined}");
    let mut header = header(&meta);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, &packed, io::empty()).map_err(ArchiveError::Write)?;
        below(tar, root, path)?;
    } else if meta.is_symlink() {
        let target = std::fs::read_link(file).map_err(read)?;
        // By the rules of the reader, or it would be refused there, with less to say.
        symlink(path, target.as_os_str().as_bytes(), &Limits::default()).map_err(|error| match error {
            ArchiveError::LinkOut(name) => ArchiveError::PackLinkOut(name),
            ArchiveError::WindingLink(name) => ArchiveError::PackWindingLink(name),
            other => other,
        })?;
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, &packed, &target).map_err(ArchiveError::Write)?;
    } else if meta.is_file() {
        let content = open(file).map_err(read)?;
        header.set_size(meta.len());
        let content = Exactly { inner: content, left: meta.len(), name: &joined };
        tar.append_data(&mut header, &packed, content)
            .map_err(|e| e.downcast().unwrap_or_else(ArchiveError::Write))?;
    }
    Ok(())
}

fn header(meta: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 });
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// If the file has become a link or a pipe meanwhile, it is not followed and not waited for.
fn open(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(file, flags, Mode::empty())?.into())
}

/// The bytes that the header announced: a file that grows meanwhile is cut, one that shrinks is an error.
struct Exactly<'n> {
    inner: File,
    left: u64,
    name: &'n str,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(room) = buffer.get_mut(..most).filter(|r| !r.is_empty()) else { return Ok(0) };
        let failed = |e| io::Error::other(ArchiveError::PackRead(shown(self.name.as_bytes()), e));
        let n = self.inner.read(room).map_err(failed)?;
        if n == 0 {
            return Err(failed(io::Error::other("it became shorter while it was packed")));
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
