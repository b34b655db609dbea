//! The container image as `cargo xtask image` writes it: what is in it, that it is the same each time, and, where `make image` has
//! left a static program, that this runs with nothing but the image's files around it. No container engine takes part.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lanner_tests::{lanner, root, run, skipped};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const FILES: [&str; 4] = ["etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/bin/lanner"];
const FOLDERS: [&str; 6] = ["etc/", "etc/ssl/", "etc/ssl/certs/", "tmp/", "usr/", "usr/bin/"];

/// `cargo xtask image`, with an end: cargo may have to wait for another build.
fn make(binary: &Path, out: &Path, epoch: Option<&str>) -> String {
    let mut command = Command::new("timeout");
    command.args(["900", "cargo", "xtask", "image", "--binary"]).arg(binary).arg("--out").arg(out);
    command.current_dir(root()).env_remove("SOURCE_DATE_EPOCH");
    command.envs(epoch.map(|e| ("SOURCE_DATE_EPOCH", e)));
    let output = run(&mut command).unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[derive(Debug)]
struct Image {
    digest: String,
    config: Value,
    layer: Vec<u8>,
}

/// The image in a layout, each part of it only if it is what the part before says.
fn image(folder: &Path) -> Result<Image> {
    let read = |name: &str| std::fs::read(folder.join(name)).context(name.to_owned());
    let layout: Value = serde_json::from_slice(&read("oci-layout")?)?;
    ensure!(layout == json!({ "imageLayoutVersion": "1.0.0" }), "{layout}");
    let index: Value = serde_json::from_slice(&read("index.json")?)?;
    let manifest: Value = serde_json::from_slice(&blob(folder, only(&index["manifests"])?)?)?;
    let config: Value = serde_json::from_slice(&blob(folder, &manifest["config"])?)?;
    let packed = blob(folder, only(&manifest["layers"])?)?;
    // Neither a name nor a time.
    ensure!(packed.starts_with(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), "gzip begins with {:?}", packed.get(..10));
    let mut layer = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut layer)?;
    ensure!(config["rootfs"]["diff_ids"] == json!([sha256(&layer)]), "{}", config["rootfs"]);
    let blobs = std::fs::read_dir(folder.join("blobs/sha256"))?.count();
    ensure!(blobs == 3, "{blobs} blobs, of which three are spoken of");
    let digest = only(&index["manifests"])?["digest"].as_str().unwrap_or_default().to_owned();
    Ok(Image { digest, config, layer })
}

fn only(list: &Value) -> Result<&Value> {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => anyhow::bail!("one is expected: {list}"),
    }
}

fn blob(folder: &Path, descriptor: &Value) -> Result<Vec<u8>> {
    let digest = descriptor["digest"].as_str().context("a digest")?;
    let hex = digest.strip_prefix("sha256:").context("sha256")?;
    let content = std::fs::read(folder.join("blobs/sha256").join(hex)).context(digest.to_owned())?;
    ensure!(descriptor["size"] == content.len(), "{digest} has {} bytes: {descriptor}", content.len());
    ensure!(sha256(&content) == digest, "{digest} is {}", sha256(&content));
    Ok(content)
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Each path with its mode, its time and what it holds; all of root.
fn entries(layer: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, header) = (entry.path().unwrap().display().to_string(), entry.header().clone());
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0), "{path}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(header.entry_type().is_dir(), path.ends_with('/'), "{path}");
        let about = (header.mode().unwrap(), header.mtime().unwrap(), content);
        assert!(found.insert(path.clone(), about).is_none(), "{path} is there twice");
    }
    found
}

fn holds_the_program_and_nothing_to_run_beside_it(image: &Image, binary: &Path, time: u64) {
    let found = entries(&image.layer);
    let mut paths: Vec<&str> = FILES.into_iter().chain(FOLDERS).collect();
    paths.sort_unstable();
    assert_eq!(found.keys().collect::<Vec<_>>(), paths);
    assert!(found.values().all(|(_, at, _)| *at == time));
    let runs: Vec<_> = FILES.iter().filter(|p| found[**p].0 & 0o111 != 0).collect();
    assert_eq!(runs, [&"usr/bin/lanner"]);
    assert_eq!((found["usr/bin/lanner"].0, found["tmp/"].0), (0o755, 0o1777));
    assert!(found["usr/bin/lanner"].2 == std::fs::read(binary).unwrap(), "another program");
    let text = |path: &str| String::from_utf8(found[path].2.clone()).unwrap();
    assert!(text("etc/passwd").contains("lanner:x:65532:65532:"));
    assert!(text("etc/group").contains("lanner:x:65532:"));
    let authorities =
        text("etc/ssl/certs/ca-certificates.crt").matches("-----BEGIN CERTIFICATE-----").count();
    assert!(authorities > 50, "{authorities} authorities");
    let config = &image.config;
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/lanner"]));
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(config["config"].get("Cmd").or_else(|| config["config"].get("Shell")), None);
}

#[test]
fn the_same_program_is_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let binary = lanner().unwrap();
    let said = make(&binary, &one, None);
    make(&binary, &two, None);
    let index = |at: &Path| std::fs::read_to_string(at.join("index.json")).unwrap();
    assert_eq!(index(&one), index(&two));
    let (first, second) = (image(&one).unwrap(), image(&two).unwrap());
    assert_eq!(first.digest, second.digest);
    assert!(said.starts_with(&format!("{} ", first.digest)), "{said}");
    assert_eq!(first.config["created"], "1970-01-01T00:00:00Z");
    holds_the_program_and_nothing_to_run_beside_it(&first, &binary, 0);
}

#[test]
fn another_time_is_another_image_and_what_was_tampered_with_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let small = Path::new("/bin/true");
    make(small, &old, None);
    make(small, &new, Some("86400"));
    let found = image(&new).unwrap();
    assert_ne!(image(&old).unwrap().digest, found.digest);
    assert_eq!(found.config["created"], "1970-01-02T00:00:00Z");
    holds_the_program_and_nothing_to_run_beside_it(&found, small, 86_400);

    let blobs = std::fs::read_dir(new.join("blobs/sha256")).unwrap();
    let paths: Vec<PathBuf> = blobs.map(|b| b.unwrap().path()).collect();
    for path in &paths {
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        for (bad, word) in [(&bad[..], " is sha256:"), (&good[1..], " bytes: ")] {
            std::fs::write(path, bad).unwrap();
            let error = image(&new).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
        std::fs::write(path, good).unwrap();
    }
    let stray = new.join("blobs/sha256/stray");
    std::fs::write(&stray, "x").unwrap();
    assert_eq!(image(&new).unwrap_err().to_string(), "4 blobs, of which three are spoken of");
    std::fs::remove_file(stray).unwrap();
    assert_eq!(image(&new).unwrap().digest, found.digest);
}

/// As a kubelet would: the layer's files, the user, no other file of this machine.
#[test]
fn the_static_program_needs_only_what_is_in_its_image() {
    const TEST: &str = "the_static_program_needs_only_what_is_in_its_image";
    let binary = root().join("target/image/x86_64-unknown-linux-musl/image/lanner");
    if !binary.is_file() {
        return skipped(TEST, "there is no static program: `make image` makes one");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image");
    make(&binary, &out, None);
    let image = image(&out).unwrap();
    holds_the_program_and_nothing_to_run_beside_it(&image, &binary, 0);
    // SAFETY: it has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skipped(TEST, "changing the root needs root; what is in the image was looked at");
    }
    let tree = folder.path().join("tree");
    let mut archive = tar::Archive::new(&image.layer[..]);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_mask(0);
    archive.unpack(&tree).unwrap();
    let inside = |args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["60", "chroot", "--userspec=65532:65532"]).arg(&tree).arg("/usr/bin/lanner");
        let output =
            run(command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = inside(&["--version"]);
    assert_eq!((code, said.trim()), (Some(0), concat!("lanner ", env!("CARGO_PKG_VERSION"))));
    let rules = |text: &str| {
        std::fs::write(tree.join("tmp/rules.yaml"), text).unwrap();
        inside(&["rules", "check", "/tmp/rules.yaml"])
    };
    let good = std::fs::read_to_string(root().join("host/rules/lanner_rules.yaml")).unwrap();
    let (code, said) = rules(&good);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = rules("- rule: half");
    assert!(code != Some(0) && said.contains("/tmp/rules.yaml"), "{code:?} {said}");
}
