//! An authority of the cluster's own, and a certificate for each that speaks in it.

use std::path::Path;

use anyhow::Result;

use super::layout::KUBERNETES;
use crate::certificates::{authority, key_pair, signed};

/// File and subject: Kubernetes reads user and groups out of it.
const IDENTITIES: [(&str, &str); 7] = [
    ("api", "/CN=kube-apiserver"),
    ("api-client", "/O=system:masters/CN=api-client"),
    ("admin", "/O=system:masters/CN=admin"),
    ("controllers", "/CN=system:kube-controller-manager"),
    ("scheduler", "/CN=system:kube-scheduler"),
    ("proxy", "/CN=system:kube-proxy"),
    ("node", "/O=system:nodes/CN=system:node:127.0.0.1"),
];

/// `ca.pem`, `NAME.pem` with `NAME.key`, and the pair that signs service accounts' tokens.
pub(super) fn make(folder: &Path, gateway: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    authority(folder)?;
    let names = format!(
        "IP:127.0.0.1,IP:{gateway},IP:{KUBERNETES},DNS:localhost,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    );
    for (name, subject) in IDENTITIES {
        signed(folder, name, subject, &names)?;
    }
    key_pair(folder, "accounts.key", "accounts.pub")
}
