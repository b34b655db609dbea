//! Debian's `docker-registry`, started for one test: on loopback, with a password, TLS by a certificate authority of the
//! test's own, and its data in a folder that goes with it.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lanner_oci::{Reference, Registry, Settings};
use serde_json::json;

use crate::authority::certified;

pub(crate) const USER: &str = "anna";
pub(crate) const PASSWORD: &str = "geheim";
/// The password, as bcrypt keeps it.
const HTPASSWD: &str = "anna:$2a$04$mBiaN9ciuO2aMBUj9JuGPO6Bv2QUr1L5y3TPeY/T.HF4vp8RZEojm\n";

pub(crate) struct Distribution {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) host: String,
    pub(crate) ca: String,
    child: Child,
}

impl Distribution {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = certificates(folder.path());
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        // Between our looking for a free port and its taking it, somebody else may.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let host = format!("127.0.0.1:{port}");
            let mut child = serve(folder.path(), &host);
            if came_up(&mut child, &host) {
                return Self { folder, host, ca, child };
            }
            child.kill().ok();
            child.wait().ok();
        }
        panic!("docker-registry did not come up: {}", log(folder.path()));
    }

    pub(crate) fn at(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    /// Docker's config.json with this password.
    pub(crate) fn config(&self, name: &str, password: &str) -> PathBuf {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        std::fs::write(&file, json!({ "auths": { &self.host: { "auth": auth } } }).to_string()).unwrap();
        file
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            docker_config: Some(self.config("good", PASSWORD)),
            ca_certificates: vec![self.ca.clone()],
            ..Settings::default()
        }
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::new(self.settings()).unwrap()
    }

    /// Where it keeps the bytes with this digest.
    pub(crate) fn file_of(&self, digest: lanner_oci::Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = "data/docker/registry/v2/blobs/sha256";
        self.folder.path().join(blobs).join(&hex[..2]).join(&hex).join("data")
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn certificates(folder: &Path) -> String {
    let (ca, certificate, key) = certified();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), &ca).unwrap();
    ca
}

#[expect(clippy::disallowed_methods, reason = "the test is what starts the registry that it tests against")]
fn serve(folder: &Path, host: &str) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    // JSON is YAML.
    let config = json!({
        "version": "0.1",
        "log": { "level": "warn" },
        "storage": { "filesystem": { "rootdirectory": at("data") }, "delete": { "enabled": true } },
        "http": { "addr": host, "secret": "test", "tls": { "certificate": at("server.pem"), "key": at("server.key") } },
        "auth": { "htpasswd": { "realm": "test", "path": at("htpasswd") } },
    });
    std::fs::write(folder.join("config.yml"), config.to_string()).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let started = Command::new("docker-registry")
        .args(["serve", "config.yml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    started.expect("docker-registry is missing: `make tools` installs it")
}

fn came_up(child: &mut Child, host: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        // Ended, so that what listens there, if anything, is another.
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(host).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn log(folder: &Path) -> String {
    let mut text = String::new();
    std::fs::File::open(folder.join("log")).unwrap().read_to_string(&mut text).ok();
    text
}
