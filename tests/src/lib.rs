//! Verbs for black-box tests: pack a sample, scan it, serve, submit, poll. Nothing of the product is linked here; what a
//! test knows it knows from the command line and from HTTP.

#![expect(clippy::disallowed_methods, reason = "tests start the product and ask their own environment")]

pub mod answers;
pub mod certificates;
pub mod cluster;
pub mod filters;
pub mod link;
pub mod registry;
pub mod samples;
pub mod serve;
pub mod sidekick;
pub mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The built product: `LANNER_BIN`, or the debug build of this workspace.
pub fn lanner() -> Result<PathBuf> {
    let path = match std::env::var_os("LANNER_BIN") {
        Some(path) => PathBuf::from(path),
        None => root().join("target/debug/lanner"),
    };
    ensure!(path.is_file(), "{} is not there: run `make build` first", path.display());
    Ok(path)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// What a scan from the command line came to.
#[derive(Debug)]
pub struct Scanned {
    pub exit: Option<i32>,
    /// `{scan, verdict, alerts}`; null when there was no answer to print.
    pub json: Value,
    pub stderr: String,
}

impl Scanned {
    pub fn state(&self) -> &str {
        self.json.pointer("/scan/state").and_then(Value::as_str).unwrap_or_default()
    }

    /// Rule, package and priority of each kept alert.
    pub fn kept(&self) -> Vec<(String, String, String)> {
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
        let alerts = self.json.get("alerts").and_then(Value::as_array).into_iter().flatten();
        alerts
            .filter(|a| a.get("suppressed") != Some(&Value::Bool(true)))
            .map(|a| (text(a.get("rule")), text(a.pointer("/package/name")), text(a.get("priority"))))
            .collect()
    }
}

/// `lanner scan --format json ARGS`.
pub fn scan<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Result<Scanned> {
    let output = run(Command::new(lanner()?).args(["scan", "--format", "json"]).args(args))?;
    Ok(Scanned {
        exit: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

pub fn run(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("{command:?}"))
}

/// A gzipped tar of one file.
pub fn archive_of(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content)?;
    Ok(tar.into_inner()?.finish()?)
}

/// What an archive should not hold.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'n> {
    /// With this path, whatever it is.
    File(&'n str),
    /// A symbolic link and where it leads.
    Link(&'n str, &'n str),
    Device(&'n str),
    /// A file of so many zeros.
    Zeros(&'n str, usize),
}

/// A gzipped tar of `package.json` and one entry; its path is written as it is.
pub fn archive_with(entry: Entry<'_>) -> Result<Vec<u8>> {
    use tar::EntryType::{Char, Regular, Symlink};
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut add = |kind, name: &str, link: &str, content: &[u8]| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // The crate's own setters refuse such names.
        let old = header.as_old_mut();
        for (to, from) in old.name.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        for (to, from) in old.linkname.iter_mut().zip(link.bytes()) {
            *to = from;
        }
        header.set_cksum();
        Ok(tar.append(&header, content)?)
    };
    add(Regular, "package.json", "", br#"{"name":"a","version":"1.0.0"}"#)?;
    match entry {
        Entry::File(name) => add(Regular, name, "", b"x")?,
        Entry::Link(name, target) => add(Symlink, name, target, b"")?,
        Entry::Device(name) => add(Char, name, "", b"")?,
        Entry::Zeros(name, size) => add(Regular, name, "", &vec![0; size])?,
    }
    Ok(tar.into_inner()?.finish()?)
}

/// Says why a test was not run: never silently.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// Numbers that look random and come again with the same seed (a linear congruential generator, by Knuth's constants).
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
