//! An OCI image layout of one image with one layer: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
//!
//! The types are our own and few: those of `oci-spec` keep labels in a map without an order, and the same image would have
//! another digest each time. A test reads what is written here with `oci-spec`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use flate2::{Compression, GzBuilder};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub(crate) const TAG: &str = env!("CARGO_PKG_VERSION");
/// A number, so that a kubelet sees without the image's files that it is not root.
pub(crate) const USER: &str = "65532:65532";
pub(crate) const FOLDER: &str = "/";
pub(crate) const ENTRYPOINT: &str = "/usr/bin/lanner";
pub(crate) const LABELS: [(&str, &str); 4] = [
    ("org.opencontainers.image.title", "lanner"),
    (
        "org.opencontainers.image.description",
        "Is it safe to install this package? The host and its command line",
    ),
    ("org.opencontainers.image.licenses", "Apache-2.0"),
    ("org.opencontainers.image.version", TAG),
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

#[derive(Serialize)]
struct Image<'a> {
    created: &'a str,
    #[serde(flatten)]
    platform: Platform,
    config: Run,
    rootfs: Rootfs,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    user: &'static str,
    entrypoint: [&'static str; 1],
    working_dir: &'static str,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Rootfs {
    r#type: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'static str,
}

/// The digest of the manifest, by which a cluster can be told to use this image and no other.
pub(crate) fn write(
    out: &Path,
    layer: &[u8],
    architecture: &'static str,
    time: u64,
) -> anyhow::Result<String> {
    let blobs = emptied(out)?;
    let platform = || Platform { architecture, os: "linux" };
    let packed = add(&blobs, "application/vnd.oci.image.layer.v1.tar+gzip", &compressed(layer)?)?;
    let created = jiff::Timestamp::from_second(time.try_into()?)?.to_string();
    let image = Image {
        created: &created,
        platform: platform(),
        config: Run {
            user: USER,
            entrypoint: [ENTRYPOINT],
            working_dir: FOLDER,
            labels: LABELS.into_iter().collect(),
        },
        rootfs: Rootfs { r#type: "layers", diff_ids: [digest(layer)] },
        history: [History { created: &created, created_by: "cargo xtask image" }],
    };
    let config = add(&blobs, "application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&image)?)?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = Manifest { schema_version: 2, media_type, config, layers: [packed] };
    let mut manifest = add(&blobs, media_type, &serde_json::to_vec(&manifest)?)?;
    manifest.platform = Some(platform());
    manifest.annotations.insert("org.opencontainers.image.ref.name", TAG);
    let digest = manifest.digest.clone();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = Index { schema_version: 2, media_type, manifests: [manifest] };
    put(&out.join("index.json"), &serde_json::to_vec(&index)?)?;
    // Last: whoever finds it finds the rest.
    put(&out.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

/// The folder of blobs, empty. An earlier layout is replaced; a folder of anything else is not ours to empty.
fn emptied(out: &Path) -> anyhow::Result<std::path::PathBuf> {
    let blobs = out.join("blobs/sha256");
    if out.join("oci-layout").is_file() {
        for name in ["oci-layout", "index.json"] {
            std::fs::remove_file(out.join(name)).with_context(|| out.display().to_string())?;
        }
        std::fs::remove_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    }
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let strange = std::fs::read_dir(out)?.filter_map(Result::ok).find(|e| e.file_name() != "blobs");
    ensure!(strange.is_none(), "{} holds something else than an image layout", out.display());
    std::fs::create_dir_all(&blobs)?;
    Ok(blobs)
}

/// Without a name and a time.
fn compressed(layer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    gzip.write_all(layer)?;
    Ok(gzip.finish()?)
}

fn add(blobs: &Path, media_type: &'static str, content: &[u8]) -> anyhow::Result<Descriptor> {
    let digest = digest(content);
    put(&blobs.join(digest.trim_start_matches("sha256:")), content)?;
    Ok(Descriptor { media_type, digest, size: content.len(), platform: None, annotations: BTreeMap::new() })
}

fn put(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| path.display().to_string())
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oci_spec_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("image");
        let digest = write(&out, b"layer", "amd64", 86_400).unwrap();
        oci_spec::image::OciLayout::from_file(out.join("oci-layout")).unwrap();
        let index = oci_spec::image::ImageIndex::from_file(out.join("index.json")).unwrap();
        assert_eq!(index.manifests()[0].digest().to_string(), digest);
        let blob = |d: &oci_spec::image::Descriptor| {
            let path = out.join("blobs/sha256").join(d.digest().digest());
            assert_eq!(std::fs::metadata(&path).unwrap().len(), d.size());
            path
        };
        let manifest = oci_spec::image::ImageManifest::from_file(blob(&index.manifests()[0])).unwrap();
        let image = oci_spec::image::ImageConfiguration::from_file(blob(manifest.config())).unwrap();
        blob(&manifest.layers()[0]);
        assert_eq!(image.architecture(), &oci_spec::image::Arch::Amd64);
        assert_eq!(image.created().as_deref(), Some("1970-01-02T00:00:00Z"));
        assert_eq!(image.rootfs().diff_ids(), &[super::digest(b"layer")]);
        let run = image.config().as_ref().unwrap();
        assert_eq!(run.user().as_deref(), Some(USER));
        assert_eq!(run.entrypoint().as_deref(), Some(&[ENTRYPOINT.to_owned()][..]));
        assert_eq!(run.labels().as_ref().unwrap().len(), LABELS.len());
    }

    #[test]
    fn an_earlier_layout_is_replaced_and_another_folder_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("image");
        let first = write(&out, b"one", "amd64", 0).unwrap();
        let second = write(&out, b"two", "amd64", 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 3);
        assert_eq!(write(&out, b"one", "amd64", 0).unwrap(), first);
        std::fs::write(folder.path().join("letter"), "x").unwrap();
        assert!(write(folder.path(), b"one", "amd64", 0).is_err());
        assert_eq!(std::fs::read(folder.path().join("letter")).unwrap(), b"x");
    }
}
