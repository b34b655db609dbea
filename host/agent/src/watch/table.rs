//! Who makes the calls: every process that was seen, read once, and told apart from a later one of the same number.
//!
//! The kernel holds a caller while we look, so what we see of it is true, but not all of it is the kernel's word: a
//! process can rewrite its arguments and environment. They are read at the first call of a program, before any
//! instruction of its own, and never again; what a fork copies is taken from the parent. An exec is announced before
//! the kernel carries it out and compared with what came of it: see [`Table::ran_otherwise`]. Of ancestors the table
//! tells what they were when they were last seen. It is bounded: those who are gone are forgotten first.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::process::{self, Package, Places, Process, look};
use super::resolve::is_below;

const MAX_PROCESSES: usize = 8192;
const MAX_ANCESTORS: usize = 24;
/// For so long a number stays whose it was: all others cannot be used up in less.
const CERTAIN: Duration = Duration::from_millis(100);
/// Arguments are compared as far as an announcement keeps them.
const COMPARED: usize = 2048;

pub(super) struct Table {
    places: Places,
    /// Environment variables that rules ask for.
    variables: Vec<String>,
    processes: HashMap<i32, Entry>,
    /// Which process a thread belongs to, and when that was seen.
    threads: HashMap<i32, (i32, Instant)>,
    announced: HashMap<i32, Announced>,
    otherwise: Option<Rc<Process>>,
    /// The leader that we launched last, until it execs again or ends.
    leader: Option<i32>,
    seen: u64,
}

struct Entry {
    process: Rc<Process>,
    checked: Instant,
}

/// An exec that the kernel was told to carry out.
struct Announced {
    before: Rc<Process>,
    /// Where the stack was, and what the arguments read like, before it.
    stack: u64,
    command_line: Vec<u8>,
    program: Vec<u8>,
    arguments: Vec<u8>,
}

impl Table {
    pub(super) fn new(places: Places, variables: Vec<String>) -> Self {
        let (processes, threads, announced) = Default::default();
        Self { places, variables, processes, threads, announced, otherwise: None, leader: None, seen: 0 }
    }

    /// Processes and programs seen so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn launched(&mut self, pid: i32) {
        self.forget(pid);
        self.leader = Some(pid);
    }

    /// Its number may be anybody's from now on.
    pub(super) fn leader_ended(&mut self, pid: i32) {
        if self.leader == Some(pid) {
            self.leader = None;
        }
    }

    /// The process of a thread that is held just now.
    pub(super) fn of_thread(&mut self, tid: i32) -> Rc<Process> {
        let pid = match self.threads.get(&tid) {
            Some((pid, seen)) if seen.elapsed() < CERTAIN => *pid,
            _ => {
                let pid = process::thread_group(tid).unwrap_or(tid);
                if self.threads.len() >= MAX_PROCESSES {
                    self.threads.clear();
                }
                self.threads.insert(tid, (pid, Instant::now()));
                pid
            }
        };
        self.get(pid, CERTAIN)
    }

    /// Where a mistaken identity would cost: looks again, however short a time ago it was done.
    pub(super) fn look_again(&mut self, tid: i32) -> Rc<Process> {
        self.threads.remove(&tid);
        let pid = self.of_thread(tid).pid;
        self.get(pid, Duration::ZERO)
    }

    fn forget(&mut self, pid: i32) {
        self.processes.remove(&pid);
        self.announced.remove(&pid);
        self.threads.retain(|_, (of, _)| *of != pid);
    }

    /// An exec is about to happen. What comes of it is seen at the process's next call.
    ///
    /// A tool may take several execs to become what it is (`npm` is a script for `env`, which runs `node`). Only a program
    /// that the installation itself brought makes the leader something else.
    pub(super) fn exec(&mut self, before: &Rc<Process>, program: &[u8], arguments: &[u8], brought: bool) {
        let pid = before.pid;
        if self.leader == Some(pid) && (brought || is_below(program, &self.places.project)) {
            self.leader = None;
        }
        if self.announced.len() >= MAX_PROCESSES {
            self.announced.retain(|pid, _| process::stat(*pid).is_some());
        }
        let announced = Announced {
            before: before.clone(),
            stack: process::stat(pid).map_or(0, |s| s.stack),
            command_line: process::command_line(pid),
            program: program.to_vec(),
            arguments: arguments.to_vec(),
        };
        self.announced.insert(pid, announced);
    }

    /// A process that has become another program, or with other arguments, than its exec announced: the interpreter of
    /// a script, or what a thread put in the place of what we had read. Told once.
    pub(super) fn ran_otherwise(&mut self) -> Option<Rc<Process>> {
        self.otherwise.take()
    }

    /// The process of this number, not older than `within`.
    fn get(&mut self, pid: i32, within: Duration) -> Rc<Process> {
        let execs = self.announced.contains_key(&pid);
        if let Some(entry) = self.processes.get_mut(&pid) {
            if !execs && entry.checked.elapsed() < within {
                return entry.process.clone();
            }
            match process::stat(pid) {
                // Gone: what it was is still true.
                None => return entry.process.clone(),
                Some(now) if now.started != entry.process.started => self.forget(pid),
                Some(_) if !execs && within > Duration::ZERO => {
                    entry.checked = Instant::now();
                    return entry.process.clone();
                }
                Some(_) => {}
            }
        }
        self.make_room();
        let process = Rc::new(self.read(pid));
        let entry = Entry { process: process.clone(), checked: Instant::now() };
        self.processes.insert(pid, entry);
        process
    }

    fn make_room(&mut self) {
        if self.processes.len() < MAX_PROCESSES {
            return;
        }
        self.processes.retain(|pid, _| process::stat(*pid).is_some());
        if self.processes.len() > MAX_PROCESSES / 2 {
            self.processes.clear();
        }
    }

    fn read(&mut self, pid: i32) -> Process {
        let mut process = look(pid);
        let known = self.processes.get(&pid).map(|e| e.process.clone());
        let became = self.became(&process);
        let previous = became.as_ref().map(|a| a.before.clone()).or(known);
        if previous.is_none() || became.is_some() {
            self.seen += 1;
        }
        let launched = self.leader == Some(pid);
        process.leader = launched && !process.arguments.is_empty();
        let parent = if process.leader || process.parent <= 1 || process.parent == pid {
            None
        } else {
            self.known_parent(process.parent)
        };
        self.believe(&mut process, became.as_ref(), previous.as_deref(), parent.as_deref());

        let own = self.places.package(&process.cwd).map(Rc::new);
        let in_package = own.as_ref().is_some_and(|p| p.folder != b".") || self.places.is_script(&process);
        let lost = parent.is_none() && previous.is_none() && !launched && process.started != 0;
        let line = previous.as_ref().or(parent.as_ref());
        process.script = !process.leader
            && (in_package || lost || [&previous, &parent].into_iter().flatten().any(|p| p.script));
        process.package = responsible(own, line.and_then(|p| p.package.clone()));
        if became.is_some_and(|a| a.differs(&process)) && !process.leader {
            self.otherwise = Some(Rc::new(process.clone()));
        }
        process
    }

    /// Takes the announcement of an exec that has happened. One that failed leaves the process as it was.
    fn became(&mut self, now: &Process) -> Option<Announced> {
        let announced = self.announced.get(&now.pid)?;
        let happened = announced.before.started == now.started
            && (announced.stack != now.stack
                || announced.before.exe != now.exe
                || announced.command_line != now.arguments);
        if happened { self.announced.remove(&now.pid) } else { None }
    }

    /// Decides what to believe of the arguments and the environment.
    fn believe(
        &self,
        process: &mut Process,
        became: Option<&Announced>,
        previous: Option<&Process>,
        parent: Option<&Process>,
    ) {
        let forked = parent.filter(|p| p.stack == process.stack && p.exe == process.exe && p.stack != 0);
        if let Some(announced) = became {
            // The stack moves only by an exec; arguments may read differently because they were rewritten.
            process.at_start = announced.stack != process.stack;
            process.variables = environment(process.pid, &self.variables);
        } else if let Some(same) = previous.or(forked) {
            process.arguments.clone_from(&same.arguments);
            process.at_start = same.at_start;
            process.variables = same.variables.clone();
        } else {
            process.variables = environment(process.pid, &self.variables);
        }
    }

    /// A parent is read only if it is below us: of the watcher and what is above it nothing is to be seen.
    fn known_parent(&mut self, parent: i32) -> Option<Rc<Process>> {
        if i32::try_from(std::process::id()).is_ok_and(|own| own == parent) {
            return None;
        }
        // Young enough that its number is its own; one whose exec is under way is looked at anew.
        Some(self.get(parent, CERTAIN))
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
            // As it was when it was last seen; it may be gone.
            let next = match self.processes.get(&parent) {
                Some(entry) => entry.process.clone(),
                None => match self.known_parent(parent) {
                    Some(next) => next,
                    None => break,
                },
            };
            // A parent is older than its child: otherwise the number is another's by now.
            if next.started > last.started {
                break;
            }
            line.push(next);
        }
        line
    }
}

impl Announced {
    fn differs(&self, now: &Process) -> bool {
        if now.exe.is_empty() {
            return false;
        }
        let cut = |a: &[u8]| a.get(..COMPARED).unwrap_or(a).to_vec();
        now.exe != self.program || cut(&now.arguments) != cut(&self.arguments)
    }
}

/// The package that a process's doings are put down to. A script stays its package's wherever it goes, and so does all
/// that it starts; only what lies inside that package is another's.
fn responsible(own: Option<Rc<Package>>, line: Option<Rc<Package>>) -> Option<Rc<Package>> {
    match (own, line) {
        (Some(own), Some(line)) if line.folder != b"." && !is_below(&own.absolute, &line.absolute) => {
            Some(line)
        }
        (own, line) => own.or(line),
    }
}

fn environment(pid: i32, names: &[String]) -> Rc<[(String, Option<Vec<u8>>)]> {
    const MAX_VALUE: usize = 1024;
    if names.is_empty() {
        return Rc::default();
    }
    let all = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let value = |name: &String| {
        let found = all.split(|b| *b == 0).find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        (name.clone(), found.map(|v| v.iter().copied().take(MAX_VALUE).collect()))
    };
    names.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let places = Places {
            project: b"/home/u/app".to_vec(),
            project_name: b"app".to_vec(),
            package_roots: vec![b"node_modules".to_vec()],
        };
        Table::new(places, vec!["PATH".into()])
    }

    #[test]
    fn this_process_is_read_with_its_arguments() {
        let mut table = table();
        let own = i32::try_from(std::process::id()).unwrap();
        let process = table.get(own, CERTAIN);
        assert!(!process.arguments.is_empty() && !process.exe.is_empty());
        assert!(process.started > 0 && process.stack > 0 && !process.at_start);
        assert_eq!(process.variables[0].0, "PATH");
        assert_eq!(table.of_thread(own).pid, own);
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let mut table = table();
        let own = i32::try_from(std::process::id()).unwrap();
        let other = Process { pid: own, started: 1, script: true, leader: true, ..Process::default() };
        let long_ago = Instant::now().checked_sub(CERTAIN).unwrap();
        table.processes.insert(own, Entry { process: Rc::new(other), checked: long_ago });
        let now = table.of_thread(own);
        assert!(now.started > 1 && !now.leader);
    }

    #[test]
    fn a_package_keeps_what_it_does_elsewhere_and_brings_others_inside() {
        let package =
            |folder: &str| table().places.package(format!("/home/u/app/{folder}").as_bytes()).map(Rc::new);
        let name = |own, line| responsible(own, line).map(|p| String::from_utf8(p.name.clone()).unwrap());
        let evil = package("node_modules/evil");
        assert_eq!(name(package("node_modules/victim"), evil.clone()), Some("evil".into()));
        assert_eq!(name(package("node_modules/evil/node_modules/inner"), evil.clone()), Some("inner".into()));
        assert_eq!(name(package(""), evil.clone()), Some("evil".into()));
        assert_eq!(name(None, evil.clone()), Some("evil".into()));
        assert_eq!(name(evil, package("")), Some("evil".into()));
    }
}
