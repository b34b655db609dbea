//! One entry of a tar, checked by itself: a kind that we take, and a path that stays inside.
//!
//! What other entries have to do with it is `tree`'s business.

use tar::{EntryType, Header};

use crate::error::shown;
use crate::extension::Extension;
use crate::{ArchiveError, Limits};

/// A path as its parts: no root, no `.` or `..`, no empty part. Empty for the root itself.
pub(crate) type Parts = Vec<String>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Parts,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Seconds since the Unix epoch.
    pub(crate) mtime: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File {
        executable: bool,
    },
    /// The target as written; `to_top` when it leads to the root of the archive or something there.
    Symlink {
        target: String,
        to_top: bool,
    },
    /// The path, inside the archive, of the file that it is another name of.
    Hardlink {
        target: Parts,
    },
}

impl Entry {
    /// Checks a header with what the headers before it said about it.
    pub(crate) fn check(
        header: &Header,
        extension: &Extension,
        limits: &Limits,
    ) -> Result<Self, ArchiveError> {
        let raw = extension.path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
        let name = || shown(&raw);
        if extension.sparse || header.entry_type().is_gnu_sparse() {
            return Err(ArchiveError::Sparse(name()));
        }
        let path = parts(&raw, limits)?;
        let target = || extension.link.clone().or_else(|| header.link_name_bytes().map(|b| b.into_owned()));
        let target = || target().ok_or_else(|| ArchiveError::BadPath(name()));
        let kind = match header.entry_type() {
            // The oldest tars have no type for folders, only a slash at the end.
            EntryType::Regular if raw.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => {
                Kind::File { executable: header.mode().is_ok_and(|m| m & 0o100 != 0) }
            }
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => symlink(&path, &target()?, limits)?,
            EntryType::Link => Kind::Hardlink { target: parts(&target()?, limits)? },
            _ => return Err(ArchiveError::Kind(name())),
        };
        if path.is_empty() && kind != Kind::Folder {
            return Err(ArchiveError::BadPath(name()));
        }
        let size = header.entry_size().map_err(|_| ArchiveError::Damaged("a size is not a number"))?;
        // Readers differ in which of two sizes they believe, and in whether a link has bytes: no archive needs either.
        let has_bytes = matches!(kind, Kind::File { .. });
        if extension.size.is_some_and(|s| s != size) || (!has_bytes && size != 0) {
            return Err(ArchiveError::Contradiction(name()));
        }
        if size > limits.file_bytes {
            return Err(ArchiveError::LargeFile(name(), limits.file_bytes));
        }
        Ok(Self { path, kind, size, mtime: header.mtime().unwrap_or(0) })
    }

    /// The path as it may stand in a message.
    pub(crate) fn name(&self) -> String {
        shown(self.path.join("/").as_bytes())
    }
}

/// The parts of a path in the archive.
pub(crate) fn parts(bytes: &[u8], limits: &Limits) -> Result<Parts, ArchiveError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ArchiveError::NotUtf8(shown(bytes)))?;
    if text.starts_with('/') {
        return Err(ArchiveError::Absolute(shown(bytes)));
    }
    if text.is_empty() || text.contains('\0') {
        return Err(ArchiveError::BadPath(shown(bytes)));
    }
    if text.len() > limits.path_bytes {
        return Err(ArchiveError::LongPath(shown(bytes)));
    }
    let parts: Parts = text.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect();
    if parts.iter().any(|p| p == "..") {
        return Err(ArchiveError::ParentPart(shown(bytes)));
    }
    if parts.len() > limits.depth || parts.iter().any(|p| p.len() > 255) {
        return Err(ArchiveError::LongPath(shown(bytes)));
    }
    Ok(parts)
}

/// A symbolic link may lead anywhere below the root of the archive, counted from where it lies.
///
/// `..` is taken at the beginning alone: there it counts real folders, since no path goes through a link. Behind a name
/// it would count from wherever that name leads, which may be a link of its own.
pub(crate) fn symlink(path: &Parts, target: &[u8], limits: &Limits) -> Result<Kind, ArchiveError> {
    let text = std::str::from_utf8(target).map_err(|_| ArchiveError::NotUtf8(shown(target)))?;
    let name = || shown(path.join("/").as_bytes());
    if text.is_empty() || text.contains('\0') || text.len() > limits.path_bytes {
        return Err(ArchiveError::BadPath(shown(target)));
    }
    let parts = || text.split('/').filter(|p| !p.is_empty() && *p != ".");
    let up = parts().take_while(|p| *p == "..").count();
    let depth = path.len().saturating_sub(1);
    if text.starts_with('/') || up > depth {
        return Err(ArchiveError::LinkOut(name()));
    }
    if parts().skip(up).any(|p| p == "..") {
        return Err(ArchiveError::WindingLink(name()));
    }
    Ok(Kind::Symlink { target: text.to_owned(), to_top: up == depth })
}
