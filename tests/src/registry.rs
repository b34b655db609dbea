//! Debian's `docker-registry` on loopback, in a folder of its own.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
}

const START: Duration = Duration::from_secs(20);

impl Registry {
    /// Nothing if there is no such program on this machine.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        if Command::new("docker-registry").arg("--version").output().is_err() {
            return Ok(None);
        }
        // Given back at once: nobody else on this machine is likely to take it in between.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Self::start_at(folder, port).map(Some)
    }

    /// The same registry again, after it was stopped.
    pub fn start_at(folder: &Path, port: u16) -> Result<Self> {
        let host = format!("127.0.0.1:{port}");
        let config = folder.join("registry.yml");
        let blobs = folder.join("registry");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {host}\n",
            blobs.display()
        );
        std::fs::write(&config, text)?;
        let mut serve = Command::new("docker-registry");
        let child = serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut registry = Self { child, host };
        let begun = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            if begun.elapsed() > START || registry.child.try_wait()?.is_some() {
                bail!("docker-registry did not start on {}", registry.host);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
