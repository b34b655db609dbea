//! Which answer each call gets: one arm a call.

use std::io;
use std::os::fd::BorrowedFd;

use lanner_proto::agent::gap;

use super::event::Subject;
use super::memory::Unread;
use super::sys::{self, Notification};
use super::{Watcher, calls, low, refuse};

const PR_SET_DUMPABLE: i32 = 4;
const SUID_DUMP_USER: u64 = 1;

impl Watcher<'_> {
    pub(super) fn handle(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        #[cfg(target_arch = "x86_64")]
        match call.number {
            libc::SYS_open | libc::SYS_creat => return self.open(listener, call),
            libc::SYS_unlink | libc::SYS_rmdir | libc::SYS_rename | libc::SYS_link | libc::SYS_symlink => {
                return self.names(listener, call);
            }
            libc::SYS_chmod | libc::SYS_mknod => return self.file_call(listener, call),
            _ => {}
        }
        match call.number {
            libc::SYS_openat | libc::SYS_openat2 => self.open(listener, call),
            libc::SYS_execve | libc::SYS_execveat => self.exec(listener, call),
            libc::SYS_socket => self.socket(listener, call),
            libc::SYS_connect => self.connect(listener, call),
            libc::SYS_bind | libc::SYS_listen => self.bind_or_listen(listener, call),
            libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg => self.send_to(listener, call),
            libc::SYS_prctl => self.prctl(listener, call),
            libc::SYS_ptrace
            | libc::SYS_process_vm_readv
            | libc::SYS_process_vm_writev
            | libc::SYS_pidfd_getfd => {
                refuse(listener, call, libc::EPERM);
                let subject = Subject {
                    number: Some(low(call.args[0]).into()),
                    errno: libc::EPERM,
                    ..Subject::default()
                };
                self.see(calls::name(call.number), call.tid, &subject)
            }
            number if calls::TAKING_A_PID.contains(&number) => {
                refuse(listener, call, libc::EPERM);
                self.attacked(call, "a call that would signal or limit the watcher")
            }
            libc::SYS_memfd_create => {
                sys::go_on(listener, call.id);
                self.see("memfd_create", call.tid, &Subject::default())
            }
            libc::SYS_unlinkat
            | libc::SYS_renameat
            | libc::SYS_renameat2
            | libc::SYS_linkat
            | libc::SYS_symlinkat => self.names(listener, call),
            libc::SYS_fchmod | libc::SYS_fchmodat | calls::SYS_FCHMODAT2 | libc::SYS_mknodat => {
                self.file_call(listener, call)
            }
            _ => {
                // The setuid family: without privileges it changes nothing, and that it is tried is told. Tools that
                // make sure of the user that they are (make does) ask for nothing.
                sys::go_on(listener, call.id);
                if asks_for_itself(call) {
                    return Ok(());
                }
                let subject = Subject { number: Some(low(call.args[0]).into()), ..Subject::default() };
                self.see(calls::name(call.number), call.tid, &subject)
            }
        }
    }

    fn prctl(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        if low(call.args[0]) != PR_SET_DUMPABLE || call.args[1] == SUID_DUMP_USER {
            sys::go_on(listener, call.id);
            return Ok(());
        }
        self.unreadable(listener, call, "a process tried to make itself unreadable")
    }

    /// Refuses what could not be read: never let through unread.
    pub(super) fn unread(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        why: Unread,
    ) -> io::Result<()> {
        match why {
            Unread::Fault | Unread::TooLong => {
                refuse(listener, call, why.errno());
                Ok(())
            }
            // A caller that is gone needs no answer and hides nothing.
            Unread::Denied if !sys::still_waiting(listener, call.id) => Ok(()),
            Unread::Denied => {
                self.unreadable(listener, call, "a process that cannot be read made a watched call")
            }
        }
    }

    pub(super) fn unreadable(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        what: &str,
    ) -> io::Result<()> {
        refuse(listener, call, libc::EPERM);
        let subject = Subject { flags: Some(what.into()), errno: libc::EPERM, ..Subject::default() };
        self.see("unreadable", call.tid, &subject)?;
        let process = self.table.of_thread(call.tid);
        let detail =
            format!("{what} ({} by {})", calls::name(call.number), String::from_utf8_lossy(&process.exe));
        self.gap(gap::Kind::Unreadable, detail)
    }

    pub(super) fn attacked(&mut self, call: &Notification, what: &str) -> io::Result<()> {
        let subject = Subject { flags: Some(what.into()), errno: libc::EPERM, ..Subject::default() };
        self.see("watcher_attacked", call.tid, &subject)
    }
}

/// Every identity that the call names is the caller's own already, or "leave it".
fn asks_for_itself(call: &Notification) -> bool {
    let group = matches!(
        call.number,
        libc::SYS_setgid | libc::SYS_setregid | libc::SYS_setresgid | libc::SYS_setfsgid
    );
    // The watcher's own: the package is the same user, and cannot become another.
    let own = if group { rustix::process::getgid().as_raw() } else { rustix::process::getuid().as_raw() };
    let named = match call.number {
        libc::SYS_setresuid | libc::SYS_setresgid => 3,
        libc::SYS_setreuid | libc::SYS_setregid => 2,
        _ => 1,
    };
    call.args.iter().take(named).all(|id| low(*id) == -1 || low(*id).cast_unsigned() == own)
}
