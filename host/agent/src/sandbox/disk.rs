//! How much the package has written.
//!
//! With namespaces that is what its tmpfs holds, which the kernel counts. In a container the folders lie on a disk
//! that others use too, so they are walked, never following a link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

/// Folders nested deeper are not walked but count as a full disk: walking them would need more descriptors than we
/// want to hold.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Debug)]
pub(crate) enum Disk {
    /// A file system of our own at this path, and the size that it was given.
    Filesystem(PathBuf, u64),
    /// Folders on a shared disk, and how much they may hold.
    Folders(Vec<PathBuf>, u64),
}

/// A measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    /// Nothing more can be written, or more was written than allowed.
    pub(crate) full: bool,
}

impl Disk {
    pub(crate) fn measure(&self) -> Usage {
        match self {
            Self::Filesystem(path, _) => filesystem(path),
            Self::Folders(folders, limit) => {
                let bytes = folders.iter().fold(0, |sum: u64, folder| {
                    sum.saturating_add(walk(folder, limit.saturating_add(1).saturating_sub(sum)))
                });
                let out_of_space = folders.first().is_some_and(|folder| filesystem(folder).full);
                Usage { bytes, full: bytes > *limit || out_of_space }
            }
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        match self {
            Self::Filesystem(_, limit) | Self::Folders(_, limit) => *limit,
        }
    }

    /// The device that what is written here lies on.
    pub(crate) fn device(&self) -> u64 {
        let path = match self {
            Self::Filesystem(path, _) => Some(path),
            Self::Folders(folders, _) => folders.first(),
        };
        path.and_then(|path| rustix::fs::stat(path).ok()).map_or(0, |found| found.st_dev)
    }

    /// Whether what is written here is memory at the same time.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, Self::Filesystem(..))
    }
}

fn filesystem(path: &Path) -> Usage {
    // The package cannot unmount it; if the call fails, the other limits still hold.
    let Ok(stat) = rustix::fs::statvfs(path) else { return Usage::default() };
    let bytes = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
    Usage { bytes, full: stat.f_bavail == 0 || (stat.f_files > 0 && stat.f_ffree == 0) }
}

/// Bytes in files under a folder; stops counting beyond `enough`.
fn walk(folder: &Path, enough: u64) -> u64 {
    let Ok(fd) = open(CWD, folder.as_os_str()) else { return 0 };
    let mut sum = 0;
    walk_into(fd, enough, 0, &mut sum);
    sum
}

fn walk_into(folder: OwnedFd, enough: u64, depth: usize, sum: &mut u64) {
    if depth > MAX_DEPTH {
        *sum = enough;
        return;
    }
    let Ok(entries) = Dir::new(folder) else { return };
    let Ok(parent) = entries.fd().and_then(rustix::io::dup) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || *sum >= enough {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        *sum = sum.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if FileType::from_raw_mode(stat.st_mode).is_dir()
            && let Ok(child) = open(parent.as_fd(), name)
        {
            walk_into(child, enough, depth + 1, sum);
        }
    }
}

fn open(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_summed_without_following_links() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("elsewhere"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(dir.path().join("deep/file"), vec![1; 300_000]).unwrap();
        let usage = Disk::Folders(vec![dir.path().into()], 1 << 30).measure();
        assert!((300_000..600_000).contains(&usage.bytes), "{usage:?}");
        assert!(!usage.full);
        let usage = Disk::Folders(vec![dir.path().into()], 100_000).measure();
        assert!(usage.full);
    }

    #[test]
    fn a_nest_of_folders_counts_as_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().to_owned();
        for _ in 0..MAX_DEPTH + 2 {
            path.push("d");
            std::fs::create_dir(&path).unwrap();
        }
        assert!(Disk::Folders(vec![dir.path().into()], 1 << 40).measure().full);
    }
}
