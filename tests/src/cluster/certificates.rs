//! An authority of the cluster's own, and a certificate for each that speaks in it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::run;

/// File and subject: Kubernetes reads user and groups out of it.
const IDENTITIES: [(&str, &str); 6] = [
    ("api", "/CN=kube-apiserver"),
    ("api-client", "/O=system:masters/CN=api-client"),
    ("admin", "/O=system:masters/CN=admin"),
    ("controllers", "/CN=system:kube-controller-manager"),
    ("scheduler", "/CN=system:kube-scheduler"),
    ("node", "/O=system:nodes/CN=system:node:127.0.0.1"),
];
const KEY: [&str; 6] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days"];

/// `ca.pem`, `NAME.pem` with `NAME.key`, and the pair that signs service accounts' tokens.
pub(super) fn make(folder: &Path, gateway: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let authority = ["req", "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(folder, &[&authority[..], &KEY, &["2"]].concat())?;
    let names = format!(
        "subjectAltName=IP:127.0.0.1,IP:{gateway},DNS:localhost,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    );
    let extensions = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
    for (name, subject) in IDENTITIES {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let request = ["req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", subject];
        let files = ["-keyout", &key, "-out", &certificate];
        openssl(folder, &[&request[..], &files, &extensions, &KEY, &["2"]].concat())?;
    }
    let accounts = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(folder, &[&accounts[..], &["-out", "accounts.key"]].concat())?;
    openssl(folder, &["pkey", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"])
}

fn openssl(folder: &Path, args: &[&str]) -> Result<()> {
    let output = run(Command::new("openssl").current_dir(folder).args(args))?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
