//! One entry of a tar, checked: a kind that we take, and a path that stays inside.

use std::collections::HashSet;

use tar::EntryType;

use crate::error::shown;
use crate::{ArchiveError, Limits};

/// A path as its parts: no root, no `.` or `..`, no empty part. Empty for the root itself.
pub(crate) type Parts = Vec<String>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File { executable: bool },
    /// The target as written; where it leads was checked.
    Symlink { target: String },
    /// The path, inside the archive, of the file that it is another name of.
    Hardlink { target: Parts },
    /// A PAX header for the whole archive: says nothing that we need.
    Ignored,
}

/// Remembers what an archive's paths may not go through.
#[derive(Default)]
pub(crate) struct Checker {
    links: HashSet<Parts>,
}

impl Checker {
    /// Checks an entry by its header, before its bytes.
    pub(crate) fn check<R: std::io::Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
        limits: &Limits,
    ) -> Result<(Parts, Kind), ArchiveError> {
        let header = entry.header();
        let path = parts(&entry.path_bytes(), limits)?;
        let name = || shown(&entry.path_bytes());
        let target = || entry.link_name_bytes().ok_or_else(|| ArchiveError::BadPath(name()));
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                Kind::File { executable: header.mode().is_ok_and(|m| m & 0o100 != 0) }
            }
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink { target: symlink(&path, &target()?, limits)? },
            EntryType::Link => Kind::Hardlink { target: parts(&target()?, limits)? },
            EntryType::XGlobalHeader => Kind::Ignored,
            _ => return Err(ArchiveError::Kind(name())),
        };
        if kind == Kind::Ignored {
            return Ok((path, kind));
        }
        if path.is_empty() && kind != Kind::Folder {
            return Err(ArchiveError::BadPath(name()));
        }
        self.no_link_on_the_way(&path, &name)?;
        match &kind {
            // A second entry of the same name would be written through the link.
            Kind::Symlink { .. } => _ = self.links.insert(path.clone()),
            Kind::Hardlink { target } => {
                self.no_link_on_the_way(target, &name)?;
                if target.is_empty() || self.links.contains(target) {
                    return Err(ArchiveError::LinkOut(name()));
                }
            }
            _ if self.links.contains(&path) => return Err(ArchiveError::ThroughLink(name())),
            Kind::Folder | Kind::File { .. } | Kind::Ignored => {}
        }
        Ok((path, kind))
    }

    fn no_link_on_the_way(&self, path: &Parts, name: &dyn Fn() -> String) -> Result<(), ArchiveError> {
        let through = (1..path.len()).any(|n| path.get(..n).is_some_and(|p| self.links.contains(p)));
        if through { Err(ArchiveError::ThroughLink(name())) } else { Ok(()) }
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
    let parts: Parts = text.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect();
    if parts.iter().any(|p| p == "..") {
        return Err(ArchiveError::ParentPart(shown(bytes)));
    }
    if text.len() > limits.path_bytes || parts.len() > limits.depth || parts.iter().any(|p| p.len() > 255) {
        return Err(ArchiveError::LongPath(shown(bytes)));
    }
    Ok(parts)
}

/// A symbolic link may lead anywhere below the root of the archive, counted from where it lies.
fn symlink(path: &Parts, target: &[u8], limits: &Limits) -> Result<String, ArchiveError> {
    let text = std::str::from_utf8(target).map_err(|_| ArchiveError::NotUtf8(shown(target)))?;
    let out = || ArchiveError::LinkOut(shown(path.join("/").as_bytes()));
    if text.is_empty() || text.contains('\0') || text.starts_with('/') || text.len() > limits.path_bytes {
        return Err(out());
    }
    let mut depth = path.len().saturating_sub(1);
    for part in text.split('/').filter(|p| !p.is_empty() && *p != ".") {
        depth = if part == ".." { depth.checked_sub(1).ok_or_else(out)? } else { depth + 1 };
    }
    Ok(text.to_owned())
}
