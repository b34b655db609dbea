//! What a cluster leaves on the machine beside its own folder, and how each of it is taken away again. Written down before it
//! is made, so that the next start in the folder also clears up after one that was killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::layout::{bridge, gateway};
use crate::run;

#[derive(Default, Deserialize, Serialize)]
pub(super) struct Remains {
    pub(super) run: PathBuf,
    pub(super) name: String,
    pub(super) bridge: String,
    /// The kernel's settings as they were: a kubelet changes them for the whole machine.
    settings: BTreeMap<String, String>,
}

const FILE: &str = "remains.json";
const SETTINGS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];
/// Where the CNI library and the kubelet write whatever their configuration says.
const NETWORK_CACHE: &str = "/var/lib/cni/results";
const LOG_LINKS: &str = "/var/log/containers";
const DEVICES: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// Folders that they make for it, the deepest first.
const FOLDERS: [&str; 11] = [
    NETWORK_CACHE,
    "/var/lib/cni",
    LOG_LINKS,
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
];
const END: Duration = Duration::from_secs(10);

impl Remains {
    pub(super) fn begin(folder: &Path, run: PathBuf, name: String) -> Result<Self> {
        let value = |key: &&str| {
            let text = fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
            Some(((*key).to_owned(), text.trim().to_owned()))
        };
        let settings = SETTINGS.iter().filter_map(value).collect();
        let remains = Self { run, name, settings, ..Self::default() };
        remains.save(folder)?;
        Ok(remains)
    }

    /// Of a cluster that did not end by itself.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join(FILE), serde_json::to_vec(self)?)?)
    }

    /// The first bridge of that kind that nobody has.
    pub(super) fn make_bridge(&mut self, folder: &Path) -> Result<u8> {
        let subnet = (77..=92)
            .find(|n| ip(&["link", "add", &bridge(*n), "type", "bridge"]).is_ok())
            .context("no bridge can be made: lnr-br77 to lnr-br92 are taken, or this is not allowed")?;
        self.bridge = bridge(subnet);
        self.save(folder)?;
        give_address(subnet)?;
        Ok(subnet)
    }

    /// Each step is tried, whatever became of the one before; what could not be done is printed.
    pub(super) fn clear(&self, folder: &Path) {
        report("end its processes", cgroup::kill(&self.name, END));
        remove_shim_sockets(&self.run);
        report("unmount", unmount(&self.run));
        remove_network_cache(&self.name);
        remove_log_links(&self.run);
        // Whatever a kubelet's own folder is, this is where it listens for drivers of devices.
        if UnixStream::connect(DEVICES).is_err() {
            let _ = fs::remove_file(DEVICES);
        }
        for folder in FOLDERS {
            // Nothing of anybody else's is lost: one that holds something stays.
            let _ = fs::remove_dir(folder);
        }
        if !self.bridge.is_empty() {
            report("delete the bridge", ip(&["link", "del", &self.bridge]));
        }
        for (key, value) in &self.settings {
            report(key, restore(key, value));
        }
        report("remove its cgroups", cgroup::remove(&self.name, END));
        report("remove its files", remove_files(&self.run));
        let _ = fs::remove_file(folder.join(FILE));
    }
}

fn report(what: &str, result: Result<()>) {
    if let Err(error) = result {
        eprintln!("cluster: cannot {what}: {error:#}");
    }
}

/// In a namespace of its own, with which it ends.
pub(super) fn make_bridge(subnet: u8) -> Result<()> {
    ip(&["link", "add", &bridge(subnet), "type", "bridge"])?;
    give_address(subnet)
}

/// The one that pods know the host by.
fn give_address(subnet: u8) -> Result<()> {
    let bridge = bridge(subnet);
    // Of its own: a bridge without takes its ports' lowest, and a pod that comes would change it under the others' feet.
    ip(&["link", "set", &bridge, "address", &format!("02:1a:77:00:00:{subnet:02x}")])?;
    ip(&["addr", "add", &format!("{}/24", gateway(subnet)), "dev", &bridge])?;
    ip(&["link", "set", &bridge, "up"])
}

pub(super) fn ip(args: &[&str]) -> Result<()> {
    let output = run(Command::new("ip").args(args))?;
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn restore(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    if fs::read_to_string(&path)?.trim() != value {
        fs::write(&path, value)?;
    }
    Ok(())
}

/// A shim's socket is in `/run/containerd/s` whatever the configuration says; its bundle knows which.
fn remove_shim_sockets(run: &Path) {
    let bundles = run.join("state/io.containerd.runtime.v2.task/k8s.io");
    for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
        let address = fs::read_to_string(bundle.path().join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Network namespaces are among the mounts, and end with them.
fn unmount(run: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut below = mounts_below(run, &fs::read_to_string("/proc/self/mountinfo")?);
        if below.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < END, "still mounted: {below:?}");
        below.reverse();
        for path in below {
            let path = std::ffi::CString::new(path)?;
            // SAFETY: the path is a string that outlives the call.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// In the order in which they were made.
fn mounts_below(run: &Path, mountinfo: &str) -> Vec<String> {
    let target = |line: &str| line.split(' ').nth(4).map(ToOwned::to_owned);
    mountinfo.lines().filter_map(target).filter(|t| Path::new(t).starts_with(run)).collect()
}

/// Files are named `NETWORK-CONTAINER-DEVICE`; those of the loopback network have only the container in common with ours.
fn remove_network_cache(network: &str) {
    let names = || fs::read_dir(NETWORK_CACHE).into_iter().flatten().flatten().map(|e| e.file_name());
    let names: Vec<String> = names().filter_map(|n| n.into_string().ok()).collect();
    let of_ours =
        |n: &String| Some(n.strip_prefix(network)?.strip_prefix('-')?.split('-').next()?.to_owned());
    let containers: Vec<String> = names.iter().filter_map(of_ours).collect();
    for name in names.iter().filter(|n| containers.iter().any(|c| n.contains(c))) {
        let _ = fs::remove_file(Path::new(NETWORK_CACHE).join(name));
    }
}

fn remove_log_links(run: &Path) {
    for entry in fs::read_dir(LOG_LINKS).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(run)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Not while anything is mounted there: that would be somebody's own files.
fn remove_files(run: &Path) -> Result<()> {
    let below = mounts_below(run, &fs::read_to_string("/proc/self/mountinfo")?);
    ensure!(below.is_empty(), "{below:?} are mounted");
    if run.exists() {
        fs::remove_dir_all(run).with_context(|| run.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_its_own() {
        let info = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:4 n /tmp/lnr-a/state/netns/x rw - nsfs nsfs rw\n\
                    3 1 0:5 / /tmp/lnr-ab rw - tmpfs t rw\n";
        assert_eq!(mounts_below(Path::new("/tmp/lnr-a"), info), ["/tmp/lnr-a/state/netns/x"]);
    }
}
