//! A network of a cluster's own: a namespace in which all of its programs run, and a second one behind it that stands for the
//! rest of the world. Rules, sets and tracked connections are a namespace's and end with it, so none of them touches this
//! machine's traffic or another cluster's. Knows nothing of Kubernetes.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::layout::pods;
use super::remains::{ip, make_bridge};
use crate::run;

/// Files in the folder of sockets and mounts: each is a namespace as long as it is mounted.
pub(super) const NODE: &str = "node";
pub(super) const OUTSIDE: &str = "outside";
/// The only bridge in its namespace.
pub(super) const SUBNET: u8 = 77;
/// Between the two, as a router has it. Addresses for documentation are nobody's.
const WAY_OUT: [&str; 2] = ["192.0.2.1/30", "192.0.2.2/30"];
/// A place in the world, and where clouds tell a machine its secrets.
pub const WORLD: &str = "203.0.113.10";
pub const METADATA: &str = "169.254.169.254";
/// They are a namespace's own. By the second, packets from pod to pod over the bridge pass the rules too.
const SETTINGS: [&str; 2] = ["net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"];

pub(super) fn make(folder: &Path) -> Result<()> {
    let [node, outside] = [NODE, OUTSIDE].map(|name| folder.join(name));
    for namespace in [&node, &outside] {
        File::create(namespace)?;
        let output = run(Command::new("unshare").arg(format!("--net={}", namespace.display())).arg("true"))?;
        ensure!(output.status.success(), "unshare: {}", String::from_utf8_lossy(&output.stderr));
    }
    let [here, there] = WAY_OUT;
    let router = |address: &'static str| address.split('/').next().unwrap_or_default();
    within(&node, || {
        ip(&["link", "set", "lo", "up"])?;
        make_bridge(SUBNET)?;
        let peer = outside.display().to_string();
        ip(&["link", "add", "out", "type", "veth", "peer", "name", "in", "netns", &peer])?;
        ip(&["addr", "add", here, "dev", "out"])?;
        ip(&["link", "set", "out", "up"])?;
        ip(&["route", "add", "default", "via", router(there)])?;
        SETTINGS.iter().try_for_each(|key| {
            let path = Path::new("/proc/sys").join(key);
            fs::write(&path, "1").with_context(|| path.display().to_string())
        })
    })??;
    within(&outside, || {
        ip(&["link", "set", "lo", "up"])?;
        ip(&["addr", "add", there, "dev", "in"])?;
        for address in [WORLD, METADATA] {
            ip(&["addr", "add", &format!("{address}/32"), "dev", "in"])?;
        }
        ip(&["link", "set", "in", "up"])?;
        ip(&["route", "add", &pods(SUBNET), "via", router(here)])
    })?
}

/// On a thread of its own: what is opened or started in it stays in the namespace.
pub(super) fn within<T: Send>(namespace: &Path, act: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
    let inside = move || {
        // SAFETY: no pointers are involved, and the descriptor lives as long as the call.
        let entered = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        ensure!(entered == 0, "a namespace cannot be entered: {}", std::io::Error::last_os_error());
        Ok(act())
    };
    std::thread::scope(|scope| match scope.spawn(inside).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::skipped;

    /// The machine itself has none of these addresses, before and while they are there.
    #[test]
    fn the_world_of_a_namespace_is_not_this_machines() {
        // SAFETY: no pointers are involved.
        if unsafe { libc::geteuid() } != 0 {
            return skipped("a network of a cluster's own", "only root can make one");
        }
        let folder = tempfile::tempdir().unwrap();
        make(folder.path()).unwrap();
        let [node, outside] = [NODE, OUTSIDE].map(|name| folder.path().join(name));
        let listener = within(&outside, || TcpListener::bind((WORLD, 0)).unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let reached = within(&node, || TcpStream::connect((WORLD, port)).is_ok()).unwrap();
        assert!(TcpListener::bind((WORLD, 0)).is_err() && TcpListener::bind((METADATA, 0)).is_err());
        for namespace in [node, outside] {
            let output = run(Command::new("umount").arg(namespace)).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(reached);
    }
}
