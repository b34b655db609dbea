//! Who makes the calls: processes as rules see them, with their ancestors and the package responsible.
//!
//! Read from `/proc` once for each process and again after each exec. The kernel holds the caller while we look, so
//! what we see of it is true; of its ancestors it is what they were when we last saw them. The table is bounded: under
//! a fork bomb old entries are forgotten and read again.

use std::collections::HashMap;
use std::rc::Rc;

use super::resolve::is_below;

const MAX_PROCESSES: usize = 8192;
const MAX_CMDLINE: usize = 4096;
const MAX_ANCESTORS: usize = 24;

#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) name: Vec<u8>,
    pub(super) exe: Vec<u8>,
    /// Arguments as they are in memory, each ended by a NUL byte.
    pub(super) arguments: Vec<u8>,
    pub(super) cwd: Vec<u8>,
    /// Started by us and never turned into something else.
    pub(super) leader: bool,
    pub(super) package: Option<Rc<Package>>,
    /// Itself or an ancestor below the leader works in a package's folder: it runs an install script.
    pub(super) script: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: Vec<u8>,
    /// Relative to the project; `.` for the project itself.
    pub(super) folder: Vec<u8>,
    pub(super) absolute: Vec<u8>,
}

/// What the table must know to name packages.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) project: Vec<u8>,
    pub(super) project_name: Vec<u8>,
    pub(super) package_roots: Vec<Vec<u8>>,
}

pub(super) struct Table {
    places: Places,
    processes: HashMap<i32, Rc<Process>>,
    /// Which process a thread belongs to.
    threads: HashMap<i32, i32>,
    /// The leader that we launched last, until it execs again.
    leader: Option<i32>,
    seen: u64,
}

impl Table {
    pub(super) fn new(places: Places) -> Self {
        Self { places, processes: HashMap::new(), threads: HashMap::new(), leader: None, seen: 0 }
    }

    /// Processes and programs seen so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn launched(&mut self, pid: i32) {
        self.forget(pid);
        self.leader = Some(pid);
    }

    /// The process of a thread, read anew if it is not known.
    pub(super) fn of_thread(&mut self, tid: i32) -> Rc<Process> {
        let pid = match self.threads.get(&tid) {
            Some(pid) => *pid,
            None => {
                let pid = thread_group(tid).unwrap_or(tid);
                if self.threads.len() >= MAX_PROCESSES {
                    self.threads.clear();
                }
                self.threads.insert(tid, pid);
                pid
            }
        };
        self.get(pid)
    }

    /// After an exec, or where a mistaken identity would cost: forget what was known and look again.
    pub(super) fn look_again(&mut self, tid: i32) -> Rc<Process> {
        self.threads.remove(&tid);
        let pid = thread_group(tid).unwrap_or(tid);
        self.forget(pid);
        self.of_thread(tid)
    }

    fn forget(&mut self, pid: i32) {
        self.processes.remove(&pid);
        self.threads.retain(|_, of| *of != pid);
    }

    /// An exec is about to happen: what the process is from now on must be read when it is needed.
    ///
    /// A tool may take several execs to become what it is (`npm` is a script for `env`, which runs `node`). Only a program
    /// that the installation itself brought makes the leader something else.
    pub(super) fn exec(&mut self, process: &Process, program: &[u8], brought: bool) {
        self.forget(process.pid);
        if self.leader == Some(process.pid) && (brought || is_below(program, &self.places.project)) {
            self.leader = None;
        }
    }

    pub(super) fn get(&mut self, pid: i32) -> Rc<Process> {
        if let Some(known) = self.processes.get(&pid) {
            return known.clone();
        }
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        self.seen += 1;
        let process = Rc::new(self.read(pid));
        self.processes.insert(pid, process.clone());
        process
    }

    fn read(&mut self, pid: i32) -> Process {
        let mut process = look(pid);
        process.leader = self.leader == Some(pid) && !process.arguments.is_empty();
        let parent = if process.leader || process.parent <= 1 || process.parent == pid {
            None
        } else {
            self.known_parent(process.parent)
        };
        let own = self.places.package(&process.cwd).map(Rc::new);
        let in_package = own.as_ref().is_some_and(|p| p.folder != b".") || self.places.is_script(&process);
        process.script = !process.leader && (in_package || parent.as_ref().is_some_and(|p| p.script));
        process.package = own.or_else(|| parent.and_then(|p| p.package.clone()));
        process
    }

    /// A parent is read only if it is below us: of the watcher and what is above it nothing is to be seen.
    fn known_parent(&mut self, parent: i32) -> Option<Rc<Process>> {
        if i32::try_from(std::process::id()).is_ok_and(|own| own == parent) {
            return None;
        }
        Some(self.get(parent))
    }

    /// The process and its ancestors, nearest first.
    pub(super) fn ancestry(&mut self, process: &Rc<Process>) -> Vec<Rc<Process>> {
        let mut line = vec![process.clone()];
        while line.len() < MAX_ANCESTORS {
            let Some(last) = line.last() else { break };
            let parent = last.parent;
            if last.leader || parent <= 1 || line.iter().any(|p| p.pid == parent) {
                break;
            }
            let Some(next) = self.known_parent(parent) else { break };
            line.push(next);
        }
        line
    }
}

impl Places {
    /// The package that a folder belongs to: the last package root's child on the way, or the project.
    pub(super) fn package(&self, folder: &[u8]) -> Option<Package> {
        if !is_below(folder, &self.project) {
            return None;
        }
        let inside: Vec<&[u8]> =
            folder.get(self.project.len()..)?.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
        let root = inside.iter().rposition(|part| self.package_roots.iter().any(|r| r == part));
        let end = root.and_then(|at| {
            let scoped = inside.get(at + 1)?.first() == Some(&b'@');
            let end = at + if scoped { 3 } else { 2 };
            (inside.len() >= end).then_some((at, end))
        });
        let Some((at, end)) = end else {
            return Some(Package {
                name: self.project_name.clone(),
                folder: b".".to_vec(),
                absolute: self.project.clone(),
            });
        };
        let folder = inside.get(..end)?.join(&b'/');
        let absolute = [self.project.as_slice(), b"/", folder.as_slice()].concat();
        Some(Package { name: inside.get(at + 1..end)?.join(&b'/'), folder, absolute })
    }

    /// A shell or interpreter in the project's own folder that runs the project's own script counts as a script too:
    /// recognised by not being a tool's own child without arguments of ours. The leader itself never counts.
    fn is_script(&self, process: &Process) -> bool {
        is_below(&process.cwd, &self.project) && process.arguments.starts_with(b"sh\0-c\0")
    }
}

/// A process as `/proc` shows it now; empty fields for one that is gone.
fn look(pid: i32) -> Process {
    let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let link = |what: &str| {
        rustix::fs::readlink(format!("/proc/{pid}/{what}"), Vec::new())
            .map(std::ffi::CString::into_bytes)
            .unwrap_or_default()
    };
    let stat = read("stat");
    let (name, parent) = name_and_parent(&stat).unwrap_or_default();
    let mut arguments = read("cmdline");
    arguments.truncate(MAX_CMDLINE);
    let (exe, cwd) = (link("exe"), link("cwd"));
    Process { pid, parent, name, exe, arguments, cwd, ..Process::default() }
}

/// The name stands in parentheses and may hold any byte, a parenthesis too.
fn name_and_parent(stat: &[u8]) -> Option<(Vec<u8>, i32)> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let name = stat.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    Some((name, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

fn thread_group(tid: i32) -> Option<i32> {
    let status = std::fs::read(format!("/proc/{tid}/status")).ok()?;
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            project: b"/home/u/app".to_vec(),
            project_name: b"app".to_vec(),
            package_roots: vec![b"node_modules".to_vec()],
        }
    }

    #[test]
    fn the_innermost_package_on_the_way_is_responsible() {
        let of = |folder: &str| {
            places()
                .package(folder.as_bytes())
                .map(|p| (String::from_utf8(p.name).unwrap(), String::from_utf8(p.folder).unwrap()))
        };
        let some = |n: &str, f: &str| Some((n.to_owned(), f.to_owned()));
        assert_eq!(of("/home/u/app"), some("app", "."));
        assert_eq!(of("/home/u/app/src"), some("app", "."));
        assert_eq!(of("/home/u/app/node_modules/a/lib"), some("a", "node_modules/a"));
        assert_eq!(
            of("/home/u/app/node_modules/a/node_modules/@s/b"),
            some("@s/b", "node_modules/a/node_modules/@s/b")
        );
        assert_eq!(of("/home/u/app/node_modules/@s"), some("app", "."));
        assert_eq!(of("/home/u/application"), None);
    }

    #[test]
    fn a_name_with_parentheses_is_read_whole() {
        let stat = b"42 (a) R (b) S 7 42";
        assert_eq!(name_and_parent(stat), Some((b"a) R (b".to_vec(), 7)));
        assert_eq!(name_and_parent(b"garbage"), None);
    }

    #[test]
    fn this_process_is_read_with_its_arguments() {
        let mut table = Table::new(places());
        let own = i32::try_from(std::process::id()).unwrap();
        let process = table.get(own);
        assert!(!process.arguments.is_empty() && !process.exe.is_empty());
        assert_eq!(table.of_thread(own).pid, own);
    }
}
