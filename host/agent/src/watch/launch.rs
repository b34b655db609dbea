//! Starts a process under the filter and takes its listener.
//!
//! The child shares our table of descriptors until it has the filter, so the listener that it makes is ours at once; it
//! then leaves the table, tells us the number, and execs. Handing the listener over a socket would need `sendmsg`,
//! which the filter holds; `pidfd_getfd` is forbidden in many containers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;

use super::bpf::assemble;
use super::{calls, sys};

const READY_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Launched {
    pub(super) pid: i32,
    /// Nothing when it runs unwatched.
    pub(super) listener: Option<OwnedFd>,
}

pub(super) struct Command<'a> {
    pub(super) argv: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) cwd: &'a Path,
    pub(super) output: BorrowedFd<'a>,
    pub(super) restrict: &'a dyn Fn() -> io::Result<()>,
    pub(super) watched: bool,
    pub(super) isolation: lanner_core::Isolation,
    /// Pids that no package may signal.
    pub(super) ours: &'a [i32],
}

pub(super) fn launch(command: &Command<'_>) -> io::Result<Launched> {
    let text = |s: &str| CString::new(s).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let argv = command.argv.iter().map(|a| text(a)).collect::<Result<Vec<_>, _>>()?;
    let env = command.env.iter().map(|(n, v)| text(&format!("{n}={v}"))).collect::<Result<Vec<_>, _>>()?;
    let program = text(&find(command)?.to_string_lossy())?;
    let null = std::fs::File::open("/dev/null")?;
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut filter = assemble(&calls::rules(command.ours, command.isolation));
    let pid = sys::fork_sharing_files()?;
    if pid == 0 {
        let error = child(command, &mut filter, &write, null.as_fd(), || sys::exec(&program, &argv, &env));
        // What went wrong is said where a user will see it: in the phase's output.
        let _ = rustix::io::write(
            command.output,
            format!("lanner: {}: {error}\n", program.to_string_lossy()).as_bytes(),
        );
        sys::exit(127);
    }
    let listener = receive(pid, &read)?;
    Ok(Launched { pid, listener })
}

/// Returns only when something failed.
fn child(
    command: &Command<'_>,
    filter: &mut [libc::sock_filter],
    ready: &OwnedFd,
    null: BorrowedFd<'_>,
    exec: impl FnOnce() -> io::Error,
) -> io::Error {
    let mut attempt = || -> io::Result<()> {
        sys::ordinary_signals();
        // The folder and the restrictions come first: they open files, which nobody could answer for yet.
        std::env::set_current_dir(command.cwd)?;
        (command.restrict)()?;
        rustix::thread::set_no_new_privs(true)?;
        let listener = if command.watched { sys::install(filter)? } else { -1 };
        // Before we tell: once told, the watcher closes what it has made for us, and a shared table would lose it.
        sys::own_files()?;
        rustix::io::write(ready, &listener.to_ne_bytes())?;
        sys::standard_files(null, command.output)?;
        // Our own copy of the watcher's memory is as unreadable as the watcher's, and so would the exec be. Last of all,
        // under the filter: nobody may take us over before it.
        sys::readable()
    };
    match attempt() {
        Ok(()) => exec(),
        Err(error) => error,
    }
}

/// Waits for the child's word, or for its end.
fn receive(pid: i32, read: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let begun = Instant::now();
    let mut number = [0; 4];
    loop {
        let mut poll = [rustix::event::PollFd::new(read, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if rustix::event::poll(&mut poll, Some(&timeout))? > 0 {
            rustix::io::read(read, &mut number)?;
            let fd = i32::from_ne_bytes(number);
            return Ok((fd >= 0).then(|| sys::adopt(fd)));
        }
        let ended = rustix::process::Pid::from_raw(pid).is_none_or(|p| {
            let options = rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOHANG
                | rustix::process::WaitIdOptions::NOWAIT;
            matches!(rustix::process::waitid(rustix::process::WaitId::Pid(p), options), Ok(Some(_)))
        });
        if ended || begun.elapsed() > READY_LIMIT {
            return Err(io::Error::other("a process could not be put under the filter; its output says why"));
        }
    }
}

/// The program by the search path of its own environment.
fn find(command: &Command<'_>) -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the program is not in the sandbox");
    let name = command.argv.first().ok_or_else(missing)?;
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = command.env.iter().find(|(n, _)| n == "PATH").map_or("/usr/bin:/bin", |(_, v)| v);
    let executable = |p: &PathBuf| rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok() && p.is_file();
    std::env::split_paths(path).map(|dir| dir.join(name)).find(executable).ok_or_else(missing)
}

/// Kills a process that we launched and cannot watch.
pub(super) fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It may be gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
