//! Execs: the one watched call that only the kernel can carry out. It is looked at before, and the arguments are read
//! while the caller waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lanner_proto::agent::agent_message::Body;
use lanner_proto::agent::{self};
use rustix::fs::{Access, Mode, OFlags};

use super::event::Subject;
use super::memory::{self, Unread};
use super::resolve::{self, OpenError, Opened};
use super::sys::{self, Notification};
use super::{Report, Role, Watcher, low, now, refuse};

const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT: usize = 2048;
const MAX_ALL: usize = 16 * 1024;
const AT_EMPTY_PATH: i32 = 0x1000;

impl Watcher<'_> {
    pub(super) fn exec(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let (dirfd, path_at, argv_at, flags) = match call.number {
            libc::SYS_execve => (libc::AT_FDCWD, call.args[0], call.args[1], 0),
            _ => (low(call.args[0]), call.args[1], call.args[2], low(call.args[4])),
        };
        let read = memory::string(call.tid, path_at).and_then(|p| Ok((p, arguments(call.tid, argv_at)?)));
        let (path, arguments) = match read {
            Ok(read) => read,
            // A list of arguments that the kernel would refuse is refused by the kernel.
            Err(why) => return self.unread(listener, call, why),
        };
        let caller = self.caller(call.tid, dirfd);
        let path = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            format!("/proc/self/fd/{dirfd}").into_bytes()
        } else {
            path
        };
        // Looked at through a descriptor that cannot be read through: the program's bytes are none of our business.
        let opened = match resolve::open(caller, &path, OFlags::PATH, Mode::empty(), &self.guarded) {
            Ok(opened) => opened,
            // A search along PATH is many attempts; only what runs is told.
            Err(OpenError::Errno(errno, _)) => {
                refuse(listener, call, errno);
                return Ok(());
            }
            Err(OpenError::Attack(path)) => {
                refuse(listener, call, libc::EACCES);
                return self.attacked(call, &format!("an exec of {}", String::from_utf8_lossy(&path)));
            }
        };
        if !may(&opened.fd, Access::EXEC_OK) {
            refuse(listener, call, libc::EACCES);
            return Ok(());
        }
        if !may(&opened.fd, Access::READ_OK) {
            return self.unreadable(listener, call, "a program that may be run and not read");
        }
        self.runs(listener, call, &opened, arguments)
    }

    fn runs(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        opened: &Opened,
        arguments: Vec<u8>,
    ) -> io::Result<()> {
        if self.is_mark(call, &opened.path, &arguments) {
            sys::go_on(listener, call.id);
            return self.mark(&arguments);
        }
        let before = self.table.of_thread(call.tid);
        let subject = self.program(&opened.path, rustix::fs::fstat(&opened.fd).ok(), arguments);
        // The phase's own start is our doing; what the package does begins after it.
        let ours = before.arguments.is_empty() || self.is_start(before.pid);
        let announced = subject.arguments.as_deref().unwrap_or_default();
        self.table.exec(&before, &opened.path, announced, subject.dropped || subject.memfd);
        sys::go_on(listener, call.id);
        if let Some(leader) = self.leader.as_mut().filter(|l| l.pid == before.pid) {
            leader.marked = true;
        }
        if ours { Ok(()) } else { self.see_of("execve", &before, &subject) }
    }

    fn program(&self, path: &[u8], stat: Option<rustix::fs::Stat>, arguments: Vec<u8>) -> Subject {
        Subject {
            memfd: path.starts_with(b"/memfd:") || path.ends_with(b" (deleted)"),
            dropped: stat.is_some_and(|s| self.files.was_written((s.st_dev, s.st_ino))),
            path: Some(path.to_vec()),
            arguments: Some(arguments),
            ..Subject::default()
        }
    }

    /// Judges what an exec came to, where that is not what it announced: the interpreter that a script names, or
    /// whatever a thread put in the place of what was looked at. It makes its first call just now.
    pub(super) fn ran_otherwise(&mut self) -> io::Result<()> {
        let Some(process) = self.table.ran_otherwise() else { return Ok(()) };
        let stat = rustix::fs::stat(format!("/proc/{}/exe", process.pid)).ok();
        let subject = self.program(&process.exe, stat, process.arguments.clone());
        self.see_of("execve", &process, &subject)
    }

    /// Whether this is the first exec of the process that we launched.
    fn is_start(&self, pid: i32) -> bool {
        self.leader.as_ref().is_some_and(|l| l.pid == pid && !l.marked)
    }

    fn is_mark(&self, call: &Notification, path: &[u8], arguments: &[u8]) -> bool {
        let Some(leader) = &self.leader else { return false };
        let expected: Vec<u8> = leader.argv.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        leader.role == Role::Mark
            && leader.pid == call.tid
            && !leader.marked
            && path == self.lanner_exe.as_os_str().as_encoded_bytes()
            && arguments == expected
    }

    fn mark(&mut self, arguments: &[u8]) -> io::Result<()> {
        if let Some(leader) = self.leader.as_mut() {
            leader.marked = true;
        }
        let hex = arguments.split(|b| *b == 0).nth(2).unwrap_or_default();
        let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|t| u8::from_str_radix(t, 16).ok());
        let nonce = hex.chunks(2).filter_map(byte).collect();
        self.report(Report::Message(Body::Mark(agent::Mark { nonce, time_ns: now() })))
    }
}

fn may(fd: &OwnedFd, access: Access) -> bool {
    sys::may(fd.as_fd(), access.bits())
}

/// The arguments, each ended by a NUL byte; what is beyond the bounds is cut, not missed.
fn arguments(tid: i32, list: u64) -> Result<Vec<u8>, Unread> {
    let mut all = Vec::new();
    if list == 0 {
        return Ok(all);
    }
    for index in 0..MAX_ARGUMENTS as u64 {
        let pointer = memory::word(tid, list.saturating_add(index * 8))?;
        if pointer == 0 {
            break;
        }
        match memory::bounded_string(tid, pointer, MAX_ARGUMENT) {
            Ok(argument) => all.extend(argument),
            Err(Unread::TooLong) => all.extend(memory::bytes(tid, pointer, MAX_ARGUMENT)?),
            Err(why) => return Err(why),
        }
        all.push(0);
        if all.len() > MAX_ALL {
            break;
        }
    }
    Ok(all)
}
