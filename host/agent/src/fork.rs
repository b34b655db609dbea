//! Fork, for a process that has only one thread.
//!
//! The child of a fork has only the forking thread; locks that others held stay locked for ever. So each fork here
//! checks first that there are no others. The child ends with [`exit`], never by returning: what it inherited is
//! not its to drop.

use std::fs;
use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus};

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Side {
    Parent(Pid),
    Child,
}

pub(crate) fn fork() -> io::Result<Side> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("this process has threads, and forking would lose them"));
    }
    // SAFETY: this process has one thread, so the child inherits no lock that nobody can release.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        pid => Pid::from_raw(pid).filter(|_| pid > 0).map(Side::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Ends this process at once: no destructor of the parent's runs, and nothing buffered is written twice.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(code) }
}

/// Waits for a child of ours.
pub(crate) fn wait(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
