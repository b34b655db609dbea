//! Other people's tools at the same registry: `oras` and `cosign`, where they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lanner_oci::{PublicKey, SigningKey, Verify};

use crate::component;
use crate::distribution::Distribution;

/// Where `make tools` puts tools that no distribution packs, or the `PATH`.
fn tool(name: &str, test: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(name);
    let found =
        [own, PathBuf::from(name)].into_iter().find(|path| run(path, &["version"], Path::new("/")).is_some());
    if found.is_none() {
        eprintln!("skipped: {test}, because {name} is not installed (`make tools` tries to)");
    }
    found
}

/// Nothing if it cannot be started.
#[expect(clippy::disallowed_methods, reason = "what is tested is how we get along with these programs")]
fn run(program: &Path, arguments: &[&str], folder: &Path) -> Option<Output> {
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("DOCKER_CONFIG", folder.join("good"))
        .env("SSL_CERT_FILE", folder.join("ca.pem"))
        .env("COSIGN_PASSWORD", "correct horse")
        .output()
        .ok()
}

fn succeeds(program: &Path, arguments: &[&str], folder: &Path) {
    let output = run(program, arguments, folder).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {text}", program.display());
}

#[tokio::test]
async fn what_oras_pushes_is_pulled_and_what_we_push_it_pulls() {
    let Some(oras) = tool("oras", "what_oras_pushes_is_pulled_and_what_we_push_it_pulls") else { return };
    let there = Distribution::start();
    let registry = there.registry();
    there.config("good", crate::distribution::PASSWORD);
    let folder = there.folder.path();
    let bytes = component(1000).bytes;
    std::fs::write(folder.join("it.wasm"), &bytes).unwrap();
    let at = there.at("theirs:1");
    succeeds(&oras, &["push", &at.to_string(), "it.wasm:application/wasm", "--annotation", "a=b"], folder);
    let digest = registry.resolve(&at, None).await.unwrap();
    let artifact = registry.pull(&at.at(digest)).await.unwrap();
    assert_eq!(artifact.bytes, bytes);
    assert_eq!(artifact.annotations["a"], "b");

    let at = there.at("ours:1");
    let digest = registry.push(&at, &component(2000)).await.unwrap();
    succeeds(&oras, &["pull", &at.at(digest).to_string(), "--output", "out"], folder);
    assert_eq!(std::fs::read(folder.join("out/component.wasm")).unwrap(), component(2000).bytes);
}

#[tokio::test]
async fn what_cosign_signs_is_verified_and_what_we_sign_it_verifies() {
    let Some(cosign) = tool("cosign", "what_cosign_signs_is_verified_and_what_we_sign_it_verifies") else {
        return;
    };
    let there = Distribution::start();
    let registry = there.registry();
    let folder = there.folder.path();
    let (private, public) = (include_str!("../hostile/sealed.key"), include_str!("../hostile/sealed.pub"));
    std::fs::write(folder.join("cosign.key"), private).unwrap();
    std::fs::write(folder.join("cosign.pub"), public).unwrap();
    let verify = Verify::any_of(vec![PublicKey::from_pem(public).unwrap()]).unwrap();

    let at = there.at("theirs:1");
    let pinned = at.at(registry.push(&at, &component(1)).await.unwrap());
    let sign = ["sign", "--key", "cosign.key", "--tlog-upload=false", "--yes", &pinned.to_string()];
    succeeds(&cosign, &sign, folder);
    registry.verify(&pinned, &verify).await.unwrap();

    let at = there.at("ours:1");
    let pinned = at.at(registry.push(&at, &component(2)).await.unwrap());
    let check = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", &pinned.to_string()];
    let before = run(&cosign, &check, folder).unwrap();
    assert!(!before.status.success(), "cosign verified what nobody signed");
    let key = SigningKey::from_pem(private, Some("correct horse")).unwrap();
    registry.sign(&pinned, &key).await.unwrap();
    succeeds(&cosign, &check, folder);
}
