//! `/etc` of the private root: what programs need to know of this machine, and nothing of who uses it.
//!
//! Users, hosts and the resolver are the sandbox's own; certificates, the loader's cache and alternatives are this
//! machine's. Everything else of the machine's `/etc` does not exist inside.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::home::write;
use super::plan::Plan;
use super::root::{bind_read_only, copy_link};
use super::seed::Stream;
use super::{NOBODY, SandboxError, USER};

/// Folders bound read-only, where the machine has them. `/etc/ssl` in parts: its `private` is not for the package.
const FOLDERS: [&str; 8] = [
    "etc/ssl/certs",
    "etc/ca-certificates",
    "etc/pki/ca-trust",
    "etc/pki/tls/certs",
    "etc/alternatives",
    "etc/ld.so.conf.d",
    "etc/crypto-policies",
    "etc/fonts",
];

/// Files copied, where the machine has them.
const FILES: [&str; 14] = [
    "etc/ssl/openssl.cnf",
    "etc/pki/tls/cert.pem",
    "etc/pki/tls/openssl.cnf",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/services",
    "etc/protocols",
    "etc/mime.types",
    "etc/debian_version",
    "etc/lsb-release",
    "etc/bash.bashrc",
    "etc/profile",
    "etc/login.defs",
    "etc/gai.conf",
];

/// Links copied as links, for they point into `/usr`.
const LINKS: [&str; 4] = ["etc/os-release", "etc/localtime", "etc/ssl/cert.pem", "etc/ca-certificates.conf"];

/// No file of `/etc` that we copy is larger.
const MAX_COPY: u64 = 16 * 1024 * 1024;

/// Fills `etc` under the current folder, the root to be.
pub(crate) fn furnish(plan: &Plan) -> Result<(), SandboxError> {
    for folder in FOLDERS {
        let source = Path::new("/").join(folder);
        if source.is_dir() {
            bind_read_only(&source, Path::new(folder))?;
        }
    }
    for link in LINKS {
        copy_link(Path::new(link))?;
    }
    for file in FILES {
        copy(Path::new(file))?;
    }
    for (path, content) in own(plan) {
        write(Path::new(path), content.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Copies one of the machine's files to the same place under the current folder, unless it is there already.
pub(crate) fn copy(relative: &Path) -> Result<(), SandboxError> {
    let source = Path::new("/").join(relative);
    let Ok(file) = fs::File::open(&source) else { return Ok(()) };
    if relative.exists() || !file.metadata().is_ok_and(|m| m.is_file()) {
        return Ok(());
    }
    let mut content = Vec::new();
    let read = file.take(MAX_COPY).read_to_end(&mut content);
    read.map_err(super::step(format!("read {}", source.display())))?;
    write(relative, &content, 0o644)
}

fn own(plan: &Plan) -> [(&'static str, String); 8] {
    let (user, host) = (&plan.user, &plan.hostname);
    [
        (
            "etc/passwd",
            format!(
                "root:x:0:0:root:/root:/bin/bash\n{user}:x:{USER}:{USER}::/home/{user}:/bin/bash\nnobody:x:{NOBODY}:\
                 {NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("etc/group", format!("root:x:0:\n{user}:x:{USER}:\nnogroup:x:{NOBODY}:\n")),
        (
            "etc/hosts",
            format!("127.0.0.1 localhost\n127.0.1.1 {host}\n::1 localhost ip6-localhost ip6-loopback\n"),
        ),
        ("etc/hostname", format!("{host}\n")),
        // The watcher answers here, that no name exists, and sees who asked for what.
        ("etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n".to_owned()),
        ("etc/host.conf", "multi on\n".to_owned()),
        ("etc/machine-id", format!("{}\n", Stream::new(&plan.seed, "machine").hex(32))),
    ]
}
