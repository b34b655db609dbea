//! A process as rules see it, read from `/proc`, and the package that a folder belongs to.
//!
//! Most of what `/proc` tells of a process is the process's own to change: its arguments, its environment, its name,
//! its working directory. What may be believed, and since when, is the table's knowledge.

use std::rc::Rc;

use super::resolve::is_below;

const MAX_CMDLINE: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// With the pid it names a process, not just a number that is used again. 0 for one that was gone already.
    pub(super) started: u64,
    /// Where the kernel put the program's stack: another place for each program that is started.
    pub(super) stack: u64,
    pub(super) name: Vec<u8>,
    pub(super) exe: Vec<u8>,
    /// Arguments, each ended by a NUL byte.
    pub(super) arguments: Vec<u8>,
    /// The arguments (and variables) were read before the program's first instruction, so it cannot have forged them.
    pub(super) at_start: bool,
    /// Those of its environment that rules ask for.
    pub(super) variables: Rc<[(String, Option<Vec<u8>>)]>,
    pub(super) cwd: Vec<u8>,
    /// Started by us and never turned into something else.
    pub(super) leader: bool,
    pub(super) package: Option<Rc<Package>>,
    /// Itself or an ancestor below the leader works in a package's folder: it runs an install script. So does whatever
    /// has no ancestors left: tools of the package manager do not come loose from it.
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
    pub(super) fn is_script(&self, process: &Process) -> bool {
        is_below(&process.cwd, &self.project) && process.arguments.starts_with(b"sh\0-c\0")
    }
}

/// A process as `/proc` shows it now; empty fields for one that is gone.
pub(super) fn look(pid: i32) -> Process {
    let link = |what: &str| {
        rustix::fs::readlink(format!("/proc/{pid}/{what}"), Vec::new())
            .map(std::ffi::CString::into_bytes)
            .unwrap_or_default()
    };
    let Stat { name, parent, started, stack } = stat(pid).unwrap_or_default();
    let (exe, cwd, arguments) = (link("exe"), link("cwd"), command_line(pid));
    Process { pid, parent, started, stack, name, exe, arguments, cwd, ..Process::default() }
}

pub(super) fn command_line(pid: i32) -> Vec<u8> {
    let mut arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.truncate(MAX_CMDLINE);
    arguments
}

/// What the kernel alone decides of a process, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: Vec<u8>,
    pub(super) parent: i32,
    pub(super) started: u64,
    pub(super) stack: u64,
}

/// `None` for a process that is gone.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may hold any byte, a parenthesis too.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let name = stat.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc(5), the state, is the first after the name.
    let number = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<u64>().ok());
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat { name, parent, started: number(22)?, stack: number(28)? })
}

pub(super) fn thread_group(tid: i32) -> Option<i32> {
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
        let stat = b"42 (a) R (b) S 7 42 42 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 3 0 99 1 1 1 2 3 140 5";
        let expected = Stat { name: b"a) R (b".to_vec(), parent: 7, started: 99, stack: 140 };
        assert_eq!(parse_stat(stat), Some(expected));
        assert_eq!(parse_stat(b"garbage"), None);
    }
}
