//! Debian's `docker-registry` on loopback, in a folder of its own: plain, or with TLS by a test's authority and a password.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::certificates::{authority, key_pair, signed};

pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
}

/// What a client of a secured registry needs.
pub struct Secured {
    pub ca_file: PathBuf,
    /// Docker's, with the password.
    pub docker_config: PathBuf,
}

const START: Duration = Duration::from_secs(20);
/// `bench:geheim`, the password as bcrypt keeps it, and both as docker writes them.
const HTPASSWD: &str = "bench:$2a$04$mBiaN9ciuO2aMBUj9JuGPO6Bv2QUr1L5y3TPeY/T.HF4vp8RZEojm\n";
const AUTH: &str = "YmVuY2g6Z2VoZWlt";

impl Registry {
    /// Nothing if there is no such program on this machine.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        if !is_here() {
            return Ok(None);
        }
        let port = free_port()?;
        launch(folder, port, "").map(Some)
    }

    /// With TLS by an authority of its own, and a password.
    pub fn start_secured(folder: &Path) -> Result<Option<(Self, Secured)>> {
        if !is_here() {
            return Ok(None);
        }
        let port = free_port()?;
        authority(folder)?;
        signed(folder, "server", "/CN=127.0.0.1", "IP:127.0.0.1")?;
        std::fs::write(folder.join("htpasswd"), HTPASSWD)?;
        let docker_config = folder.join("config.json");
        let auths = serde_json::json!({ "auths": { format!("127.0.0.1:{port}"): { "auth": AUTH } } });
        std::fs::write(&docker_config, auths.to_string())?;
        let registry = launch(folder, port, &security(folder))?;
        Ok(Some((registry, Secured { ca_file: folder.join("ca.pem"), docker_config })))
    }

    /// The secured one again, on its port, after it was dropped.
    pub fn again(folder: &Path, port: u16) -> Result<Self> {
        launch(folder, port, &security(folder))
    }
}

fn is_here() -> bool {
    Command::new("docker-registry").arg("--version").output().is_ok()
}

/// Given back at once: nobody else on this machine is likely to take it in between.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Certificate and password, as a registry's configuration has them.
fn security(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let (certificate, key, htpasswd) = (at("server.pem"), at("server.key"), at("htpasswd"));
    format!(
        "  tls:\n    certificate: {certificate}\n    key: {key}\nauth:\n  htpasswd:\n    realm: test\n    \
         path: {htpasswd}\n"
    )
}

/// `more` follows the settings of the listener.
fn launch(folder: &Path, port: u16, more: &str) -> Result<Registry> {
    let host = format!("127.0.0.1:{port}");
    let config = folder.join("registry.yml");
    let blobs = folder.join("registry");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\nhttp:\n  addr: {host}\n{more}",
        blobs.display()
    );
    std::fs::write(&config, text)?;
    let mut serve = Command::new("docker-registry");
    let child = serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut registry = Registry { child, host };
    let begun = Instant::now();
    while TcpStream::connect(&registry.host).is_err() {
        if begun.elapsed() > START || registry.child.try_wait()?.is_some() {
            bail!("docker-registry did not start on {}", registry.host);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(registry)
}

/// A key pair for signatures: `key.pem` and `key.pub`; nothing if there is no openssl.
pub fn signing_key(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    key_pair(folder, "key.pem", "key.pub").ok()?;
    Some((folder.join("key.pem"), folder.join("key.pub")))
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
