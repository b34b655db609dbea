//! One cgroup of the cluster's own in each hierarchy, version 1 or 2: what is in it is what the cluster started, daemons
//! of daemons and pods included, so nothing is ever ended by its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where programs that are no pods are, beside the pods' `kubepods`.
const SYSTEM: &str = "system";

/// Makes it; fails where this process may not.
pub(super) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir(&group).with_context(|| group.display().to_string())?;
        // A group of the cpuset hierarchy takes no process before it has these.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                let _ = fs::write(group.join(file), value);
            }
        }
    }
    let system = home()?.join(name).join(SYSTEM);
    fs::create_dir(&system).with_context(|| system.display().to_string())
}

/// With whatever it starts from now on.
pub(super) fn add(name: &str, pid: u32) -> Result<()> {
    let procs = home()?.join(name).join(SYSTEM).join("cgroup.procs");
    fs::write(&procs, pid.to_string()).with_context(|| procs.display().to_string())
}

pub(super) fn kill(name: &str, within: Duration) -> Result<()> {
    let group = home()?.join(name);
    let begun = Instant::now();
    loop {
        let left: Vec<libc::pid_t> = groups(&group).iter().flat_map(|g| members(g)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < within, "processes {left:?} do not end");
        for pid in left {
            // SAFETY: no pointers are involved.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kernel may need a moment after the last process.
pub(super) fn remove(name: &str, within: Duration) -> Result<()> {
    let begun = Instant::now();
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        while group.exists() {
            ensure!(begun.elapsed() < within, "{} is in use", group.display());
            for group in groups(&group) {
                let _ = fs::remove_dir(group);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn members(group: &Path) -> Vec<libc::pid_t> {
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Itself and all below, the deepest first.
fn groups(group: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let folders = below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let mut all: Vec<PathBuf> = folders.flat_map(|e| groups(&e.path())).collect();
    if group.exists() {
        all.push(group.to_path_buf());
    }
    all
}

/// The one in which processes are found again.
fn home() -> Result<PathBuf> {
    let all = hierarchies()?;
    let pids = all.iter().find(|h| h.ends_with("pids"));
    pids.or(all.first()).cloned().context("no cgroup is mounted on this machine")
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    Ok(mounted(&fs::read_to_string("/proc/mounts")?))
}

fn mounted(mounts: &str) -> Vec<PathBuf> {
    let target = |line: &str| {
        let mut words = line.split(' ');
        let (target, kind) = (words.nth(1)?, words.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(target))
    };
    mounts.lines().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_hierarchies() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let paths = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(mounted(mounts), paths);
    }
}
