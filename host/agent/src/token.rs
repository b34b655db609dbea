//! The agent's own secret: read from a file that is gone before the package starts.
//!
//! In a pod the package shares the agent's user, so a token in the environment, in an argument or in a file would be
//! found. What the token is for is the caller's knowledge.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// The longest token, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token file {0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    #[error("the token file {0} is not a regular file of 1 to {MAX_TOKEN} bytes of UTF-8")]
    Malformed(PathBuf),
    /// A token that stays where the package could read it is not used.
    #[error(
        "the token file {0} cannot be removed: put it in a folder that the agent may write, such as an emptyDir"
    )]
    Remove(PathBuf, #[source] io::Error),
}

/// Reads a token and unlinks its file; white space around it does not count.
pub fn take_token(path: &Path) -> Result<String, TokenError> {
    let read = |error: io::Error| TokenError::Read(path.to_owned(), error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| read(e.into()))?);
    let stat = rustix::fs::fstat(file.as_fd()).map_err(|e| read(e.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(TokenError::Malformed(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_TOKEN + 1).read_to_end(&mut bytes).map_err(read)?;
    std::fs::remove_file(path).map_err(|error| TokenError::Remove(path.to_owned(), error))?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|n| n <= MAX_TOKEN);
    let text = String::from_utf8(bytes).ok().filter(|_| fits);
    let token = text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    token.ok_or_else(|| TokenError::Malformed(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_gone_after_its_token_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, " secret\n").unwrap();
        assert_eq!(take_token(&path).unwrap(), "secret");
        assert!(!path.exists());
        assert!(matches!(take_token(&path), Err(TokenError::Read(..))));
    }

    #[test]
    fn empty_long_binary_and_linked_tokens_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for bad in [&b" \n"[..], &[0xff, 0xfe], &vec![b'a'; 64 * 1024 + 1]] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(take_token(&path), Err(TokenError::Malformed(_))));
        }
        let target = dir.path().join("target");
        std::fs::write(&target, "secret").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(take_token(&path), Err(TokenError::Read(..))));
        assert!(matches!(take_token(dir.path()), Err(TokenError::Malformed(_))));
        assert!(target.exists());
    }
}
