//! Fills the project: the source, then the host's own files.
//!
//! Done as the package's user, inside the walls: an archive is hostile. The archive crate refuses what leaves the
//! folder; the host's files are written so that no link of the archive can lead them elsewhere.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::plan::Plan;
use super::{SandboxError, step};

pub(super) fn unpack(source: Option<&mut File>, plan: &Plan, project: &Path) -> Result<(), SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(project, flags, Mode::empty()).map_err(step("open the project folder"))?;
    if let Some(source) = source {
        let default = lanner_archive::Limits::default();
        let unpacked_bytes = default.unpacked_bytes.min(plan.limits.disk_bytes);
        let limits = lanner_archive::Limits { unpacked_bytes, ..default };
        // The first reading finds the folder that everything may lie in, as `package/` in what npm publishes.
        let summary = lanner_archive::inspect(&mut *source, &limits).map_err(SandboxError::Archive)?;
        source.rewind().map_err(step("read the source again"))?;
        lanner_archive::unpack(source, &limits, &summary.root, folder.as_fd())
            .map_err(SandboxError::Archive)?;
    }
    for (path, content) in &plan.files {
        write(folder.as_fd(), path, content).map_err(step(format!("write the file {}", path.display())))?;
    }
    Ok(())
}

/// Writes one file under `root`, replacing what is there.
fn write(root: BorrowedFd<'_>, path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut folder = root.try_clone_to_owned()?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        folder = enter(&folder, Path::new(&part))?;
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
    File::from(file).write_all(content)
}

/// Opens a folder in a folder, making it if need be; not through a link.
fn enter(parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn files_are_written_into_folders_made_for_them() {
        let (dir, fd) = folder();
        write(fd.as_fd(), Path::new("a/b/c.txt"), b"new").unwrap();
        write(fd.as_fd(), Path::new("a/b/c.txt"), b"newer").unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/b/c.txt")).unwrap(), b"newer");
    }

    #[test]
    fn no_link_leads_a_file_out() {
        let (dir, fd) = folder();
        let out = tempfile::tempdir().unwrap();
        std::fs::write(out.path().join("victim"), "old").unwrap();
        std::os::unix::fs::symlink(out.path(), dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink(out.path().join("victim"), dir.path().join("b")).unwrap();
        assert!(write(fd.as_fd(), Path::new("a/victim"), b"new").is_err());
        write(fd.as_fd(), Path::new("b"), b"new").unwrap();
        assert_eq!(std::fs::read(out.path().join("victim")).unwrap(), b"old");
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"new");
    }
}
