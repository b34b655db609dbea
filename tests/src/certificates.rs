//! A test's own authority and what it signs, by openssl.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::run;

const KEY: [&str; 7] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];

/// `ca.pem` with `ca.key`.
pub fn authority(folder: &Path) -> Result<()> {
    let authority = ["req", "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(folder, &[&authority[..], &KEY].concat())
}

/// `NAME.pem` with `NAME.key` by that authority; `names` as openssl has them: `IP:127.0.0.1,DNS:localhost`.
pub fn signed(folder: &Path, name: &str, subject: &str, names: &str) -> Result<()> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let names = format!("subjectAltName={names}");
    let request = ["req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", subject];
    let files = ["-keyout", &key, "-out", &certificate];
    let extensions = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(folder, &[&request[..], &files, &extensions, &KEY].concat())
}

/// A private key and its public half, each in its file.
pub fn key_pair(folder: &Path, private: &str, public: &str) -> Result<()> {
    let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private];
    openssl(folder, &curve)?;
    openssl(folder, &["pkey", "-in", private, "-pubout", "-out", public])
}

fn openssl(folder: &Path, args: &[&str]) -> Result<()> {
    let output = run(Command::new("openssl").current_dir(folder).args(args))?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
