//! The components of all kept revisions as files, named by their digest. A file that does not have its digest is as
//! good as missing.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::engine::Wasm;

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

    /// Writes a component, synced.
    pub fn put(&self, wasm: &Wasm) -> io::Result<()> {
        let path = self.path(wasm.digest());
        if fs::read(&path).is_ok_and(|kept| *kept == **wasm) {
            return Ok(());
        }
        let temporary = self.folder.join(format!("{TEMPORARY}{}", hex_of(wasm.digest())));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(wasm)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    pub fn get(&self, of: &str) -> io::Result<Wasm> {
        let wasm = Wasm::new(fs::read(self.path(of))?);
        if wasm.digest() == of {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_missing_and_what_nobody_uses_goes() {
        let folder = tempfile::tempdir().unwrap();
        let components = Components::open(folder.path().join("c")).unwrap();
        let [one, two] = ["one", "two"].map(Wasm::new);
        components.put(&one).and_then(|()| components.put(&two)).unwrap();
        assert_eq!(*components.get(one.digest()).unwrap(), *b"one");
        fs::write(components.path(one.digest()), b"other").unwrap();
        assert_eq!(components.get(one.digest()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        components.put(&one).unwrap();
        assert_eq!(*components.get(one.digest()).unwrap(), *b"one");
        components.collect(&[two.digest().to_owned()].into()).unwrap();
        assert!(components.get(one.digest()).is_err());
        assert_eq!(*components.get(two.digest()).unwrap(), *b"two");
        assert!(components.get("sha256:../../etc/passwd").is_err());
    }
}
