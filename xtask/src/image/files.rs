//! What the image holds, and the one layer that it becomes. No shell, no library, no package manager: the program, whom it
//! runs as, and whom it believes on the network.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nlanner:x:65532:65532:lanner:/tmp:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nlanner:x:65532:\n";

pub(crate) struct File {
    path: &'static str,
    mode: u32,
    /// None is a folder.
    content: Option<Vec<u8>>,
}

/// All of root, each folder before what is in it.
pub(crate) fn files(binary: Vec<u8>) -> Vec<File> {
    let folder = |path, mode| File { path, mode, content: None };
    let file = |path, mode, content| File { path, mode, content: Some(content) };
    vec![
        folder("etc/", 0o755),
        file("etc/group", 0o644, GROUP.into()),
        file("etc/passwd", 0o644, PASSWD.into()),
        folder("etc/ssl/", 0o755),
        folder("etc/ssl/certs/", 0o755),
        file("etc/ssl/certs/ca-certificates.crt", 0o644, authorities().into()),
        folder("tmp/", 0o1777),
        folder("usr/", 0o755),
        folder("usr/bin/", 0o755),
        file("usr/bin/lanner", 0o755, binary),
    ]
}

/// Mozilla's list, of the version in `Cargo.lock`: a list of the machine that builds would make an image of that machine.
fn authorities() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let encoded = STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// A tar, not yet compressed.
pub(crate) fn layer(files: &[File], time: u64) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let content = file.content.as_deref().unwrap_or_default();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match file.content {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        });
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, file.path, content).context(file.path)?;
    }
    Ok(tar.into_inner()?)
}

/// Below a folder of this machine, which becomes the root of an image there.
pub(crate) fn lay_out(files: &[File], tree: &Path) -> anyhow::Result<()> {
    for file in files {
        let path = tree.join(file.path);
        match &file.content {
            Some(content) => std::fs::write(&path, content),
            None => std::fs::create_dir_all(&path),
        }
        .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(file.mode)))
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_holds_what_the_tree_holds() {
        let files = files(b"program".to_vec());
        let folder = tempfile::tempdir().unwrap();
        lay_out(&files, folder.path()).unwrap();
        let tar = layer(&files, 7).unwrap();
        let mut names = Vec::new();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let about = std::fs::metadata(folder.path().join(&name)).unwrap();
            assert_eq!(about.permissions().mode() & 0o7777, entry.header().mode().unwrap(), "{name}");
            assert_eq!(about.is_dir(), entry.header().entry_type().is_dir(), "{name}");
            assert_eq!(entry.header().mtime().unwrap(), 7);
            if about.is_file() {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), content, "{name}");
            }
            names.push(name);
        }
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), files.len());
    }

    #[test]
    fn the_authorities_are_certificates_that_others_can_read() {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject;
        let text = authorities();
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        assert_eq!(read.unwrap(), webpki_root_certs::TLS_SERVER_ROOT_CERTS);
        assert!(text.lines().all(|l| l.len() <= 64));
    }
}
