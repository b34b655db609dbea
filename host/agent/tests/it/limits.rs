//! Every limit ends the package and leaves a gap that names it.

use lanner_proto::agent::{Isolation, gap};

use crate::host::{Said, Scan, everyone};

/// The one gap of a scan that hit a limit; the marks and the order of things are complete all the same.
fn limit(said: &Said) -> &str {
    let gaps = said.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].0, gap::Kind::Limit);
    let skeleton = said.skeleton();
    assert_eq!(skeleton[skeleton.len() - 3..], ["quiet", "end mark", "done"], "{skeleton:?}");
    gaps[0].1
}

#[test]
fn time() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.wall_ms = 500);
        let said = scan.phase("sleep", "sleep 60").phase("never", "true").run();
        assert_eq!(limit(&said), "time: the installation took more than 500 ms");
        assert_eq!(said.ended("sleep").signal, Some(9));
        assert_eq!(said.skeleton().iter().filter(|kind| **kind == "phase started").count(), 1);
    }
}

#[test]
fn cpu_time_of_all_processes_together() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.cpu_seconds = 1);
        // Each for itself stays below the limit, and below the kernel's per process.
        let said = scan.phase("burn", "for i in 1 2 3 4; do (while :; do :; done) & done; wait").run();
        assert_eq!(limit(&said), "CPU time: more than 1 s");
    }
}

#[test]
fn memory_of_processes() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.memory_bytes = 64 << 20);
        let said = scan.phase("grow", "tail /dev/zero; sleep 20").run();
        assert_eq!(limit(&said), "memory: more than 64 MiB in processes and written files");
    }
}

#[test]
fn memory_in_files() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.memory_bytes = 32 << 20);
        let said = scan.phase("write", "head -c 48M /dev/zero > /dev/shm/x; sleep 20").run();
        assert_eq!(limit(&said), "memory: more than 32 MiB in processes and written files");
    }
}

#[test]
fn memory_in_files_that_have_no_name() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.memory_bytes = 96 << 20);
        // Written to and never mapped: in no process's memory, and in no folder.
        let script = "python3 -c '
import os, time
for name in \"abc\":
    fd = os.memfd_create(name)
    for i in range(40): os.write(fd, bytes(1 << 20))
time.sleep(20)'";
        let said = scan.phase("hide", script).run();
        assert_eq!(limit(&said), "memory: more than 96 MiB in processes and written files");
    }
}

#[test]
fn shared_memory_that_no_process_has() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.memory_bytes = 96 << 20);
        let script = "python3 -c '
import ctypes, time
libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p; libc.shmdt.argtypes = [ctypes.c_void_p]
size = 128 << 20
at = libc.shmat(libc.shmget(0, size, 0o1600), None, 0)
ctypes.memset(at, 1, size); libc.shmdt(at); time.sleep(20)'";
        let said = scan.phase("hide", script).run();
        assert_eq!(limit(&said), "memory: more than 96 MiB in processes and written files");
    }
}

#[test]
fn processes() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.processes = 20);
        let said = scan.phase("fork", "for i in $(seq 40); do sleep 20 & done; wait").run();
        assert_eq!(limit(&said), "processes: more than 20 at a time");
    }
}

#[test]
fn a_fork_bomb_ends() {
    for (by, kind) in
        everyone().into_iter().flat_map(|by| [(by, Isolation::Namespaces), (by, Isolation::Container)])
    {
        let said = Scan::new(kind, by).phase("bomb", "b() { b | b & }; b; sleep 20").run();
        assert!(limit(&said).starts_with("processes: "));
    }
}

#[test]
fn disk() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.disk_bytes = 8 << 20);
        let said =
            scan.phase("fill", "head -c 100M /dev/zero > a; head -c 100M /dev/zero > b; sleep 20").run();
        assert_eq!(limit(&said), "disk: the 8 MiB for written files are full");
    }
}

#[test]
fn disk_in_a_container() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Container, by).limit(|limits| limits.disk_bytes = 8 << 20);
        let said = scan.phase("fill", "for i in 1 2 3; do head -c 4M /dev/zero > $i; done; sleep 20").run();
        assert_eq!(limit(&said), "disk: the 8 MiB for written files are full");
    }
}

#[test]
fn open_files_and_core_dumps_are_the_kernels_limits() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by).limit(|limits| limits.open_files = 77);
        assert_eq!(scan.phase("look", "ulimit -n; ulimit -c").run().output("look"), "77\n0\n");
    }
}
