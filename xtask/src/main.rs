//! Chores of the repository: `cargo xtask tidy` holds what the compiler cannot.
//!
//! Each check is a function that returns what it found wrong, so that all findings are shown at once. It reads files and
//! `cargo metadata` and changes nothing. `falco-rules` writes the one file that is made out of others, `image` the container image.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

mod arrows;
mod falco;
mod image;
mod licences;
mod sources;

fn main() -> ExitCode {
    match run() {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|f| eprintln!("tidy: {f}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a folder")?;
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(root),
        Some("falco-rules") => falco::write(root).map(|()| Vec::new()),
        Some("image") => image::run(root, std::env::args().skip(2)).map(|()| Vec::new()),
        _ => bail!("the verbs are tidy, falco-rules and image"),
    }
}

fn tidy(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = sources::check(root)?;
    findings.extend(arrows::check(root)?);
    findings.extend(licences::check(root)?);
    findings.extend(falco::check(root)?);
    findings.extend(top_level(root)?);
    Ok(findings)
}

/// The top level is fixed, so that a newcomer finds the same few names for years.
const TOP_LEVEL: [&str; 19] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Containerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "charts",
    "clippy.toml",
    "deny.toml",
    "docs",
    "functions",
    "fuzz",
    "host",
    "proto",
    "spin.toml",
    "tests",
    "xtask",
];

fn top_level(root: &Path) -> anyhow::Result<Vec<String>> {
    let allowed =
        |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || name.ends_with("fmt.toml");
    let names =
        std::fs::read_dir(root)?.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
    let strange = names.filter(|n| !allowed(n) && !matches!(n.as_str(), "target" | "rust-toolchain.toml"));
    Ok(strange.map(|n| format!("{n} does not belong at the top level")).collect())
}

/// Every Rust file below a folder, without build output and generated code.
fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !matches!(name.as_str(), "target" | "gen" | "node_modules" | "packages") {
                folders.push(path);
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
