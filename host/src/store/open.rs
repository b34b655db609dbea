//! The data directory: whose it is, and that nobody else uses it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {0} cannot be used: choose another with --data-dir")]
    Directory(String, #[source] io::Error),
    #[error("the data directory {0} belongs to the user with id {1}: choose another with --data-dir")]
    Foreign(String, u32),
    #[error(
        "every user may write to the data directory {0}: run `chmod o-w` on it, or choose another with --data-dir"
    )]
    Exposed(String),
    #[error("another lanner uses the data directory {0}: stop it, or choose another with --data-dir")]
    Locked(String),
    #[error("the disk that holds the data directory {0} is full")]
    Full(String),
    #[error(
        "the database {0} is damaged: move it away, and its scans with it, or bring it back from a backup"
    )]
    Damaged(String, #[source] rusqlite::Error),
    #[error("the database {0} cannot be opened")]
    Database(String, #[source] rusqlite::Error),
    #[error("the database {0} was written by a newer lanner (schema {1}, this one knows {2})")]
    Newer(String, u32, u32),
}

/// A host that was killed a moment ago holds its lock until the kernel has cleared it away.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the directory if it is missing, checks it, and locks it for as long as the file is open.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let name = || folder.display().to_string();
    let directory = |e: io::Error| match e.kind() {
        io::ErrorKind::StorageFull => OpenError::Full(name()),
        _ => OpenError::Directory(name(), e),
    };
    make(folder).map_err(directory)?;
    let meta = folder.metadata().map_err(directory)?;
    check(meta.uid(), meta.mode(), rustix::process::geteuid().as_raw(), &name())?;
    let mut options = File::options();
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(directory)?;
    for _ in 1..TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(e)) => return Err(directory(e)),
        }
    }
    // Two hosts on the same data would run every queued scan twice.
    Err(OpenError::Locked(name()))
}

fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The directory itself has to survive a power cut, or all in it is lost.
    match folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Whoever may write here could hand us scans, and sources to run. A volume that belongs to root and to our group is
/// what a pod gets.
fn check(owner: u32, mode: u32, me: u32, name: &str) -> Result<(), OpenError> {
    if owner != me && owner != 0 {
        return Err(OpenError::Foreign(name.to_owned(), owner));
    }
    if mode & 0o002 != 0 {
        return Err(OpenError::Exposed(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_for_its_user_alone() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("a/b");
        lock(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(folder.join("lock").metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_of_others_or_open_to_all_is_refused() {
        let text = |owner, mode, me| check(owner, mode, me, "D").unwrap_err().to_string();
        let foreign = "the data directory D belongs to the user with id 7: choose another with --data-dir";
        assert_eq!(text(7, 0o700, 8), foreign);
        assert_eq!(text(7, 0o700, 0), foreign);
        check(7, 0o755, 7, "D").unwrap();
        // The volume of a pod.
        check(0, 0o2775, 7, "D").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let error = lock(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("every user may write to the data directory"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below"), "/proc/lanner".into()] {
            let error = lock(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{} cannot be used: choose another", path.display())), "{error}");
        }
    }
}
