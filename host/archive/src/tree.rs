//! What lies where in an archive, as far as was read: no path may go through a link, and no name is two things.
//!
//! Paths are kept as 128 bits of keyed hash. An archive may name a hundred thousand paths of a kilobyte each, and many
//! archives arrive at once; whole paths would be the largest thing in the host's memory. The keys are random for each
//! archive, so nobody can prepare two paths that are taken for one.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::entry::{Entry, Kind, Parts};
use crate::error::shown;
use crate::{ArchiveError, Limits};

pub(crate) struct Tree {
    nodes: HashMap<u128, Node>,
    keys: (RandomState, RandomState),
    /// A link to the root of the archive: fine, unless the root turns out to be a folder that is stripped.
    to_top: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File,
    Link,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { nodes: HashMap::new(), keys: (RandomState::new(), RandomState::new()), to_top: None }
    }

    /// Adds an entry, and the folders on its way.
    pub(crate) fn add(&mut self, entry: &Entry, limits: &Limits) -> Result<(), ArchiveError> {
        let node = match &entry.kind {
            Kind::Folder => Node::Folder,
            Kind::File { .. } => Node::File,
            Kind::Symlink { to_top, .. } => {
                if *to_top && self.to_top.is_none() {
                    self.to_top = Some(entry.name());
                }
                Node::Link
            }
            Kind::Hardlink { target } => {
                self.must_be_file(target, entry)?;
                Node::File
            }
        };
        let keys: Vec<_> = self.keys_of(&entry.path).collect();
        let last = keys.len();
        for (i, key) in keys.into_iter().enumerate() {
            let wanted = if i + 1 == last { node } else { Node::Folder };
            match (self.nodes.get(&key), wanted) {
                (None, _) | (Some(Node::File), Node::File | Node::Link) | (Some(Node::Link), Node::Link) => {
                    self.nodes.insert(key, wanted);
                }
                (Some(Node::Folder), Node::Folder) => {}
                (Some(Node::Link), _) => return Err(ArchiveError::ThroughLink(entry.name())),
                (Some(_), _) => return Err(ArchiveError::Clash(entry.name())),
            }
        }
        if self.nodes.len() as u64 > limits.entries {
            return Err(ArchiveError::TooManyEntries(limits.entries));
        }
        Ok(())
    }

    /// Stripping the archive's root moves the border inwards: a link that led to the root leads out now.
    pub(crate) fn may_be_stripped(&self) -> Result<(), ArchiveError> {
        self.to_top.clone().map_or(Ok(()), |name| Err(ArchiveError::LinkOut(name)))
    }

    fn must_be_file(&self, target: &Parts, entry: &Entry) -> Result<(), ArchiveError> {
        let mut found = None;
        for key in self.keys_of(target) {
            if found == Some(Node::Link) {
                break;
            }
            found = self.nodes.get(&key).copied();
        }
        match found {
            Some(Node::File) => Ok(()),
            Some(Node::Link) => Err(ArchiveError::ThroughLink(shown(target.join("/").as_bytes()))),
            Some(Node::Folder) | None => Err(ArchiveError::LinkToNothing(entry.name())),
        }
    }

    /// The keys of every folder on the way, then of the path itself.
    fn keys_of<'t>(&'t self, path: &'t Parts) -> impl Iterator<Item = u128> + 't {
        let mut hashers = (self.keys.0.build_hasher(), self.keys.1.build_hasher());
        path.iter().map(move |part| {
            for hasher in [&mut hashers.0, &mut hashers.1] {
                hasher.write(part.as_bytes());
                // No part holds a slash, so different paths are different bytes.
                hasher.write(b"/");
            }
            u128::from(hashers.0.finish()) << 64 | u128::from(hashers.1.finish())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.split('/').map(str::to_owned).collect(), kind, size: 0, mtime: 0 }
    }

    #[test]
    fn folders_on_the_way_count_as_entries() {
        let mut tree = Tree::new();
        let limits = Limits { entries: 3, ..Limits::default() };
        tree.add(&entry("a/b/c", Kind::Folder), &limits).unwrap();
        tree.add(&entry("a/b", Kind::Folder), &limits).unwrap();
        let error = tree.add(&entry("a/d", Kind::Folder), &limits).unwrap_err();
        assert_eq!(error.to_string(), "the archive has more than 3 entries");
    }

    #[test]
    fn parts_are_not_run_together() {
        let tree = Tree::new();
        let keys = |path: &str| tree.keys_of(&path.split('/').map(str::to_owned).collect()).last();
        assert_eq!(keys("a/b"), keys("a/b"));
        assert_ne!(keys("ab/c"), keys("a/bc"));
        assert_ne!(keys("a"), keys("a/a"));
    }
}
