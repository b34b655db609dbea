//! The components of all kept revisions as files, named by their digest. A file that does not have its digest is as
//! good as missing.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

#[derive(Clone, Debug)]
pub struct Components {
    folder: PathBuf,
}

const TEMPORARY: &str = "tmp-";

impl Components {
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    /// Writes a component, synced, and answers with its digest.
    pub fn put(&self, wasm: &[u8]) -> io::Result<String> {
        let digest = digest(wasm);
        let path = self.path(&digest);
        if path.exists() && self.get(&digest).is_ok() {
            return Ok(digest);
        }
        let temporary = self.folder.join(format!("{TEMPORARY}{}", hex_of(&digest)));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(wasm)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(digest)
    }

    pub fn get(&self, of: &str) -> io::Result<Vec<u8>> {
        let wasm = fs::read(self.path(of))?;
        if digest(&wasm) == of {
            Ok(wasm)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file of {of} was changed")))
        }
    }

    /// Deletes what is not in `used`.
    pub fn collect(&self, used: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that is being written is in use already.
            let hex = name.strip_suffix(".wasm").or(name.strip_prefix(TEMPORARY));
            let kept = hex.is_some_and(|hex| used.contains(&format!("sha256:{hex}")));
            if !kept {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{}.wasm", hex_of(digest)))
    }
}

/// Digests come from documents of our own, but a path is no place for trust.
fn hex_of(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().filter(char::is_ascii_hexdigit).collect()
}

pub fn digest(wasm: &[u8]) -> String {
    Sha256::digest(wasm).iter().fold("sha256:".to_owned(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_missing_and_what_nobody_uses_goes() {
        let folder = tempfile::tempdir().unwrap();
        let components = Components::open(folder.path().join("c")).unwrap();
        let (one, two) = (components.put(b"one").unwrap(), components.put(b"two").unwrap());
        assert_eq!(components.get(&one).unwrap(), b"one");
        fs::write(components.path(&one), b"other").unwrap();
        assert_eq!(components.get(&one).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(components.put(b"one").unwrap(), one);
        assert_eq!(components.get(&one).unwrap(), b"one");
        components.collect(&[two.clone()].into()).unwrap();
        assert!(components.get(&one).is_err());
        assert_eq!(components.get(&two).unwrap(), b"two");
        assert!(components.get("sha256:../../etc/passwd").is_err());
    }
}
