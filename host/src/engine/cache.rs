//! Compiled code on disk, by digest and engine.
//!
//! Loading it runs whatever machine code is in the file, so nobody else may be able to write it: the folder must belong
//! to this user and be closed to all others, and each file begins with a digest keyed by a secret in the same folder. A
//! file that does not match is compiled anew and replaced. The key guards against mistakes and partial writes; the
//! folder's mode is the boundary.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::hex;

const DIGEST: usize = 32;

pub(super) struct Cache {
    folder: PathBuf,
    key: [u8; DIGEST],
    /// Code of another engine version or other settings is another file.
    engine: String,
}

impl Cache {
    pub(super) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let meta = fs::symlink_metadata(folder)?;
        let ours =
            meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
        if !ours {
            return Err(io::Error::other(
                "the folder belongs to somebody else, or others may use it: chmod 700",
            ));
        }
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = format!("{:016x}", hasher.finish());
        Ok(Self { folder: folder.to_owned(), key: key(folder)?, engine })
    }

    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let bytes = fs::read(self.path(digest)).ok()?;
        let (kept, code) = bytes.split_at_checked(DIGEST)?;
        if !bool::from(self.keyed(digest, code).as_slice().ct_eq(kept)) {
            tracing::warn!(digest, "a file of compiled code was changed: compiling anew");
            return None;
        }
        // SAFETY: the code was written by this user's lanner for this engine: the folder is private (checked when it was
        // opened) and the keyed digest just matched.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    pub(super) fn put(&self, code: &[u8], digest: &str) {
        if let Err(error) = self.try_put(code, digest) {
            tracing::warn!(%error, "compiled code could not be kept");
        }
    }

    fn try_put(&self, code: &[u8], digest: &str) -> io::Result<()> {
        let path = self.path(digest);
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.keyed(digest, code))?;
        file.write_all(code)?;
        fs::rename(&temporary, &path)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}.cwasm", self.engine))
    }

    fn keyed(&self, digest: &str, code: &[u8]) -> [u8; DIGEST] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(digest.as_bytes());
        hash.update(self.engine.as_bytes());
        // The inner digest keeps the outer one of fixed length: no extension of the code matches.
        hash.update(Sha256::digest(code));
        hash.finalize().into()
    }
}

/// The folder's secret, made once.
fn key(folder: &Path) -> io::Result<[u8; DIGEST]> {
    let path = folder.join("key");
    let mut fresh = [0; DIGEST];
    getrandom::fill(&mut fresh).map_err(io::Error::other)?;
    match File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => file.write_all(&fresh)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    match fs::read(&path)?.try_into() {
        Ok(key) => Ok(key),
        // Half written by a process that died: what was kept under it cannot be trusted.
        Err(_) => {
            fs::write(&path, fresh)?;
            tracing::warn!(folder = %folder.display(), key = hex(&fresh[..4]), "the cache's key was made anew");
            Ok(fresh)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, Wasm};
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_changed_file_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("compiled");
        let engine = Engine::new(Some(&cache)).unwrap();
        let empty = Wasm::new(EMPTY);
        engine.load("empty", &empty).unwrap();
        let opened = Cache::open(&cache, engine.wasmtime()).unwrap();
        let hex = empty.digest().trim_start_matches("sha256:");
        assert!(opened.get(engine.wasmtime(), hex).is_some());
        let path = opened.path(hex);
        for at in [0, 40, fs::read(&path).unwrap().len() - 1] {
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(opened.get(engine.wasmtime(), hex).is_none(), "byte {at}");
            engine.load("empty", &empty).unwrap();
            assert!(opened.get(engine.wasmtime(), hex).is_some(), "it was not mended after byte {at}");
        }
    }

    #[test]
    fn a_folder_that_others_may_use_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("open");
        fs::DirBuilder::new().mode(0o755).create(&cache).unwrap();
        let engine = Engine::new(None).unwrap();
        let error = Cache::open(&cache, engine.wasmtime()).err().unwrap();
        assert!(error.to_string().ends_with("chmod 700"), "{error}");
    }
}
