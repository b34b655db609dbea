//! A container image out of files of this machine: one layer, no registry.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Writes what `docker save` would, for [`super::Cluster::import`]: files, or whole folders, at paths inside.
pub fn image(folder: &Path, name: &str, files: &[(PathBuf, String)], entrypoint: &[&str]) -> Result<PathBuf> {
    let layer = layer(files)?;
    let config = config(&hex(&Sha256::digest(&layer)), entrypoint).to_string();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]).to_string();
    let path = folder.join(format!("{}.tar", name.replace(['/', ':'], "_")));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut tar = tar::Builder::new(file);
    for (name, content) in
        [("manifest.json", manifest.as_bytes()), ("config.json", config.as_bytes()), ("layer.tar", &layer)]
    {
        tar.append_data(&mut header(content.len(), 0o644), name, content)?;
    }
    tar.into_inner()?.flush()?;
    Ok(path)
}

fn layer(files: &[(PathBuf, String)]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    for (from, to) in files {
        let to = to.trim_start_matches('/');
        let about = std::fs::metadata(from).with_context(|| from.display().to_string())?;
        if about.is_dir() {
            tar.append_dir_all(to, from)?;
        } else {
            let content = std::fs::read(from)?;
            tar.append_data(&mut header(content.len(), about.permissions().mode()), to, &content[..])?;
        }
    }
    Ok(tar.into_inner()?)
}

/// Of root and without a time, so that the same files are the same image. All may read it: pods run as others.
fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(if mode & 0o111 == 0 { 0o644 } else { 0o755 });
    header
}

fn config(layer: &str, entrypoint: &[&str]) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn entries(tar: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let read = |mut e: tar::Entry<'_, &[u8]>| {
            let mut content = Vec::new();
            e.read_to_end(&mut content).unwrap();
            let path = e.path().unwrap().display().to_string();
            (path, e.header().mode().unwrap(), content)
        };
        archive.entries().unwrap().map(|e| read(e.unwrap())).collect()
    }

    #[test]
    fn the_configuration_names_the_layer_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("p");
        std::fs::write(&program, "#!").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let tar =
            image(folder.path(), "lanner.test/p:1", &[(program, "/bin/p".to_owned())], &["/bin/p"]).unwrap();
        assert_eq!(tar, folder.path().join("lanner.test_p_1.tar"));
        let outer = entries(&std::fs::read(tar).unwrap());
        let of = |name: &str| outer.iter().find(|(n, ..)| n == name).unwrap().2.clone();
        let config: Value = serde_json::from_slice(&of("config.json")).unwrap();
        let layer = of("layer.tar");
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(&layer))));
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/p"]));
        assert_eq!(entries(&layer), [("bin/p".to_owned(), 0o755, b"#!".to_vec())]);
    }
}
