//! Builds the guests and puts them where `include_bytes!` finds them, so that the one binary works alone.
//!
//! Functions are built for wasm32-wasip2, which makes components. Filters are built for wasm32-unknown-unknown, because the
//! standard library for WASI imports what a filter must not have, and are made components here.

#![expect(clippy::disallowed_methods, reason = "a build script runs cargo and is told by its environment")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const FUNCTIONS: [&str; 3] = ["submit", "status", "alerts"];
const FILTERS: [&str; 1] = ["filter-baseline"];

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a folder")?.to_path_buf();
    // Relative ones stay true when the folder is moved, or its target folder copied with it.
    for watched in ["functions", "proto/wit", "spin.toml"] {
        println!("cargo:rerun-if-changed=../{watched}");
    }
    let out = PathBuf::from(env("OUT_DIR")?);
    let target = root.join("target/guests");
    build(&root, &target, "wasm32-wasip2", &FUNCTIONS)?;
    build(&root, &target, "wasm32-unknown-unknown", &FILTERS)?;
    for name in FUNCTIONS {
        copy(&built(&target, "wasm32-wasip2", name), &out, &target, name, Ok)?;
    }
    for name in FILTERS {
        copy(&built(&target, "wasm32-unknown-unknown", name), &out, &target, name, |bytes| {
            wit_component::ComponentEncoder::default().module(&bytes)?.validate(true).encode()
        })?;
    }
    Ok(())
}

fn env(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("cargo sets {name}"))
}

fn build(root: &Path, target: &Path, triple: &str, packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new(env("CARGO")?);
    cargo.current_dir(root.join("functions")).args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--target",
        triple,
    ]);
    cargo.args(packages.iter().flat_map(|p| ["--package", p])).arg("--target-dir").arg(target);
    // The outer build's flags are for another machine, and its wrapper (clippy) for another purpose.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo.status().context("cargo cannot be started")?;
    ensure!(status.success(), "the guests {packages:?} were not built: rustup target add {triple}");
    Ok(())
}

fn built(target: &Path, triple: &str, name: &str) -> PathBuf {
    target.join(triple).join("release").join(format!("{}.wasm", name.replace('-', "_")))
}

/// Into OUT_DIR for embedding, and beside it under the name that `spin.toml` gives.
fn copy(
    from: &Path,
    out: &Path,
    target: &Path,
    name: &str,
    finish: impl Fn(Vec<u8>) -> Result<Vec<u8>>,
) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| from.display().to_string())?;
    let bytes = finish(bytes).with_context(|| format!("{name} cannot be made a component"))?;
    for folder in [out, target] {
        let path = folder.join(format!("{name}.wasm"));
        if std::fs::read(&path).ok().as_deref() != Some(bytes.as_slice()) {
            std::fs::write(path, &bytes)?;
        }
    }
    Ok(())
}
