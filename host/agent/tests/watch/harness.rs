//! A supervisor for one watcher: forks it without any sandbox around it, gives orders and keeps what it reported.
//!
//! The watcher runs as an ordinary user, since what it may not do as one is half of what is tested. The package is a
//! small C program with one verb for each thing that a package may try, compiled once.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use lanner_agent::watch::{self, Order, Report, Role, WatcherSetup};
use lanner_core::Isolation;
use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{Alert, Gap, gap};
use lanner_rules::{RuleSet, Source};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tempfile::TempDir;

/// An ordinary user that owns nothing on this machine.
const ORDINARY: u32 = 54321;
/// No report for so long is a watcher that hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a package that a test left behind is killed: it may fork meanwhile.
const ROUNDS: u32 = 50;

pub(crate) const SECRET: &str = "decoy-token";

/// Each kind of event as an alert of its own, so that what was seen can be asked for.
const RULES: &str = r#"
- macro: opened
  condition: evt.type in (open, openat, openat2, creat)
- rule: open
  desc: files of the scan, by any open
  condition: opened and not fd.name startswith /usr and not fd.name startswith /lib and not fd.name startswith /etc
  output: "%evt.type %fd.name %evt.res write=%evt.is_open_write decoy=%lanner.decoy type=%fd.type"
  priority: INFORMATIONAL
- rule: decoy
  desc: a decoy's content was given away
  condition: opened and lanner.decoy = true and evt.res = SUCCESS
  output: "%fd.name by %proc.cmdline"
  priority: CRITICAL
- rule: exec
  desc: what ran
  condition: evt.type in (execve, execveat)
  output: "%proc.exepath %proc.cmdline memfd=%lanner.memfd dropped=%lanner.dropped"
  priority: INFORMATIONAL
- rule: net
  desc: the network
  condition: evt.type in (connect, bind, listen, sendto, sendmsg, sendmmsg)
  output: "%evt.type %fd.name %evt.res"
  priority: INFORMATIONAL
- rule: socket
  desc: sockets made
  condition: evt.type = socket
  output: "%evt.type %fd.type %fd.l4proto %evt.res"
  priority: INFORMATIONAL
- rule: asked
  desc: names asked for
  condition: evt.type = dns
  output: "%dns.name by %proc.cmdline"
  priority: INFORMATIONAL
- rule: way out
  desc: hosts asked for
  condition: evt.type = proxy
  output: "%fd.sip.name allowed=%lanner.proxy_allowed by %proc.cmdline"
  priority: INFORMATIONAL
- rule: files
  desc: names that change
  condition: evt.type in (unlink, unlinkat, rename, renameat, renameat2, link, linkat, symlink, symlinkat, chmod, fchmodat)
  output: "%evt.type %fs.path.source %fs.path.target %fs.path.name"
  priority: INFORMATIONAL
- rule: own
  desc: attempts on the sensor
  condition: evt.type in (unreadable, watcher_attacked)
  output: "%evt.type %evt.arg.flags"
  priority: CRITICAL
- rule: other
  desc: calls without a path
  condition: evt.type in (memfd_create, ptrace, setuid, process_vm_writev)
  output: "%evt.type"
  priority: INFORMATIONAL
"#;

/// One scan to be made.
pub(crate) struct Scan {
    folder: TempDir,
    pub(crate) isolation: Isolation,
    pub(crate) proxy_port: Option<u16>,
    pub(crate) dns: Option<OwnedFd>,
    pub(crate) max_alerts: u32,
    pub(crate) unwatched: bool,
    pub(crate) rules: String,
}

/// A running watcher, seen from its supervisor.
pub(crate) struct Running {
    pub(crate) orders: OwnedFd,
    pub(crate) watcher: i32,
    output: Option<JoinHandle<Vec<u8>>>,
    pub(crate) said: Said,
    folder: PathBuf,
}

/// What the watcher said until now.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) alerts: Vec<Alert>,
    pub(crate) repeats: Vec<(u64, u64)>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) marks: Vec<Vec<u8>>,
    pub(crate) launched: Option<u32>,
    pub(crate) exit: Option<(Option<i32>, Option<i32>)>,
    pub(crate) gone: Option<(u64, u64)>,
    pub(crate) output: String,
}

impl Scan {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("watch").tempdir().unwrap();
        open_to_all(folder.path());
        let scan = Self {
            folder,
            isolation: Isolation::Namespaces,
            proxy_port: None,
            dns: None,
            max_alerts: 2000,
            unwatched: false,
            rules: RULES.into(),
        };
        for made in ["home", "home/app", "tmp"] {
            std::fs::create_dir(scan.path(made)).unwrap();
            scan.give_away(made);
        }
        scan.write("home/.npmrc", SECRET);
        scan.write("home/plain", "plain");
        scan.copy(package(), "package", 0o755);
        scan
    }

    /// A path of the scan's own folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(relative)
    }

    pub(crate) fn text(&self, relative: &str) -> String {
        self.path(relative).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, relative: &str, content: &str) {
        std::fs::write(self.path(relative), content).unwrap();
        self.give_away(relative);
    }

    /// Copies a program, by another process: a descriptor that we wrote to could live on in another test's watcher, and
    /// a program that somebody has open for writing does not run.
    #[expect(clippy::disallowed_methods, reason = "see above")]
    pub(crate) fn copy(&self, program: &Path, to: &str, mode: u32) {
        let status = Command::new("cp").arg(program).arg(self.path(to)).status();
        assert!(status.unwrap().success());
        self.give_away(to);
        std::fs::set_permissions(self.path(to), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Makes a file or folder the package's.
    pub(crate) fn give_away(&self, relative: &str) {
        if rustix::process::geteuid().is_root() {
            chown(self.path(relative), Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }

    /// Forks the watcher.
    pub(crate) fn start(&self) -> Running {
        self.start_with(&|| Ok(()))
    }

    pub(crate) fn start_with(&self, restrict: &dyn Fn() -> io::Result<()>) -> Running {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let supervisor = i32::try_from(std::process::id()).unwrap();
        let setup = WatcherSetup {
            rules: RuleSet::compile(&[Source { name: "test", text: &self.rules }], &watch::known_field)
                .unwrap(),
            home: self.path("home"),
            project: self.path("home/app"),
            tmp: self.path("tmp"),
            project_name: "app".into(),
            package_roots: vec!["node_modules".into()],
            decoys: vec![self.path("home/.npmrc")],
            lanner_exe: self.path("package"),
            isolation: self.isolation,
            supervisor_pid: supervisor,
            proxy_port: self.proxy_port,
            dns: self.dns.as_ref().map(|d| d.try_clone().unwrap()),
            output: write,
            max_alerts: self.max_alerts,
            unwatched: self.unwatched,
        };
        // SAFETY: the child runs the watcher and nothing else; it takes no lock that another test's thread may hold
        // but the allocator's, which the C library keeps usable after a fork.
        let watcher = unsafe { libc::fork() };
        assert!(watcher >= 0);
        if watcher == 0 {
            drop(ours);
            become_ordinary(supervisor, &setup.output);
            let code = i32::from(watch::run(setup, theirs, restrict).is_err());
            // SAFETY: ends the child without running what the test's process has registered.
            unsafe { libc::_exit(code) }
        }
        drop(setup);
        let mut read = std::fs::File::from(read);
        let output = std::thread::spawn(move || {
            let mut all = Vec::new();
            read.read_to_end(&mut all).unwrap();
            all
        });
        let folder = self.path("");
        Running { orders: ours, watcher, output: Some(output), said: Said::default(), folder }
    }

    /// Runs the package's program with these arguments to the end of everything.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let program = self.text("package");
        self.run_program(&[&[program.as_str()], arguments].concat())
    }

    pub(crate) fn run_program(&self, argv: &[&str]) -> Said {
        let mut running = self.start();
        running.launch(Role::Phase, argv);
        running.until_exit();
        running.finish(2000)
    }
}

impl Running {
    pub(crate) fn launch(&mut self, role: Role, argv: &[&str]) {
        self.said.exit = None;
        let home = self.folder.join("home");
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", home.to_str().unwrap())];
        let order = Order::Launch {
            role,
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: env.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            cwd: self.folder.join("home/app"),
        };
        self.order(&order);
    }

    pub(crate) fn order(&self, order: &Order) {
        watch::send_order(self.orders.as_fd(), order).unwrap();
    }

    /// Takes the next report; false when the watcher is gone.
    pub(crate) fn take(&mut self) -> bool {
        let report =
            watch::recv_report(self.orders.as_fd()).unwrap_or_else(|e| panic!("{e}: {:#?}", self.said));
        let said = &mut self.said;
        match report {
            None => return false,
            Some(Report::Message(Body::Alert(alert))) => said.alerts.push(alert),
            Some(Report::Message(Body::AlertRepeated(more))) => said.repeats.push((more.id, more.count)),
            Some(Report::Message(Body::Gap(gap))) => said.gaps.push(gap),
            Some(Report::Message(Body::Mark(mark))) => said.marks.push(mark.nonce),
            Some(Report::Message(other)) => panic!("not the watcher's to say: {other:?}"),
            Some(Report::Launched { pid }) => said.launched = Some(pid),
            Some(Report::LeaderExited { exit_code, signal }) => said.exit = Some((exit_code, signal)),
            Some(Report::AllGone { events, processes }) => said.gone = Some((events, processes)),
        }
        true
    }

    pub(crate) fn until_exit(&mut self) {
        while self.said.exit.is_none() {
            assert!(self.take(), "the watcher is gone: {:#?}", self.said);
        }
    }

    pub(crate) fn until_alert(&mut self, rule: &str, part: &str) {
        while !self.said.saw(rule, part) {
            assert!(self.take(), "the watcher is gone: {:#?}", self.said);
        }
    }

    /// Ends what runs, then the watcher.
    pub(crate) fn finish(mut self, grace_ms: u64) -> Said {
        self.order(&Order::End { grace_ms });
        while self.said.gone.is_none() {
            assert!(self.take(), "the watcher is gone: {:#?}", self.said);
        }
        self.order(&Order::Stop);
        while self.take() {}
        self.end()
    }

    /// After the watcher's end: what it and the package left behind.
    pub(crate) fn end(mut self) -> Said {
        let mut status = 0;
        // SAFETY: waits for our own child and writes one integer.
        unsafe { libc::waitpid(self.watcher, &raw mut status, 0) };
        let output = self.output.take().unwrap().join().unwrap();
        self.said.output = String::from_utf8_lossy(&output).into_owned();
        eprintln!("--- output\n{}--- {:?}", self.said.output, self.said.gaps);
        std::mem::take(&mut self.said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.output.is_none() {
            return;
        }
        // The test panicked. Held, the watcher neither ends before its package, which would then be nobody's, nor lets
        // it go on.
        // SAFETY: our own child, not waited for yet, so the number is still its own.
        unsafe { libc::kill(self.watcher, libc::SIGSTOP) };
        for _ in 0..ROUNDS {
            let left = descendants(self.watcher);
            if left.is_empty() {
                break;
            }
            for pid in left {
                // SAFETY: two numbers. One that ended meanwhile is not waited for by its held parent, so the number is its.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        // SAFETY: as above; the status is not asked for.
        unsafe {
            libc::kill(self.watcher, libc::SIGKILL);
            libc::waitpid(self.watcher, std::ptr::null_mut(), 0);
        }
    }
}

/// The living that descend from a process.
fn descendants(root: i32) -> Vec<i32> {
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        let living = rest.next()? != "Z";
        Some((pid, rest.next()?.parse::<i32>().ok()?, living))
    };
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<_> = numbers.filter_map(parent).collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(of) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, parent, _)| *parent == of).map(|(pid, ..)| *pid));
        at += 1;
    }
    let living = |pid: &i32| *pid != root && all.iter().any(|(p, _, living)| p == pid && *living);
    found.into_iter().filter(living).collect()
}

impl Said {
    /// The alerts of a rule, as text.
    pub(crate) fn of(&self, rule: &str) -> Vec<String> {
        let text = |a: &Alert| String::from_utf8_lossy(&a.output).into_owned();
        self.alerts.iter().filter(|a| a.rule == rule).map(text).collect()
    }

    pub(crate) fn saw(&self, rule: &str, part: &str) -> bool {
        self.of(rule).iter().any(|line| line.contains(part))
    }

    #[track_caller]
    pub(crate) fn must(&self, rule: &str, part: &str) {
        assert!(self.saw(rule, part), "no {part:?} in {rule:?}: {:#?}", self.of(rule));
    }

    #[track_caller]
    pub(crate) fn must_not(&self, rule: &str, part: &str) {
        assert!(!self.saw(rule, part), "{part:?} in {rule:?}: {:#?}", self.of(rule));
    }

    /// The package's own words, and that it ended well.
    #[track_caller]
    pub(crate) fn printed(&self, expected: &str) {
        assert_eq!(self.output, expected, "{:?} {:?}", self.exit, self.gaps);
        assert_eq!(self.exit, Some((Some(0), None)));
    }

    pub(crate) fn has_gap(&self, kind: gap::Kind) -> bool {
        self.gaps.iter().any(|g| g.kind == i32::from(kind))
    }
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
}

/// In the fresh child: dies with the test, has another umask than the package, and no privilege.
fn become_ordinary(parent: i32, output: &OwnedFd) {
    // SAFETY: no pointers are involved but a null one for an empty list.
    unsafe {
        assert!(
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0 && libc::getppid() == parent
        );
        libc::umask(0o027);
        if libc::geteuid() == 0 {
            assert_eq!(libc::fchown(output.as_raw_fd(), ORDINARY, ORDINARY), 0);
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(ORDINARY, ORDINARY, ORDINARY), 0);
            assert_eq!(libc::setresuid(ORDINARY, ORDINARY, ORDINARY), 0);
            assert!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0);
        }
    }
}

/// The package's program, compiled once.
#[expect(clippy::disallowed_methods, reason = "the C compiler makes the program under test's package")]
fn package() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("package");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/watch/package.c");
        let status = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(&program)
            .arg(source)
            .status();
        assert!(status.unwrap().success(), "a C compiler is needed: apt-get install gcc libc6-dev");
        (folder, program)
    });
    program
}
