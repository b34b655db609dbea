//! Renames, links and removals, done by the watcher in the caller's stead, so that the names that are reported are the
//! names that changed: a thread that rewrites a path while we look gains nothing.
//!
//! Both folders are opened first, without following any link; the kernel then acts on descriptors and last parts.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::event::Subject;
use super::memory::{self, Unread};
use super::resolve::{self, Caller, OpenError};
use super::sys::{self, Notification};
use super::{Watcher, calls, low};

/// What is asked for, as far as it can be read from the registers.
enum Asked {
    Rename { from: At, to: At, flags: u32 },
    Link { from: At, to: At, flags: u32 },
    Symlink { text: u64, at: At },
    Remove { at: At, flags: u32 },
}

#[derive(Clone, Copy)]
struct At {
    dirfd: i32,
    path: u64,
}

/// A name in a folder that is certain.
struct Place {
    folder: OwnedFd,
    name: Vec<u8>,
    /// Absolute, without links but the last part.
    path: Vec<u8>,
}

enum Failed {
    Unread(Unread),
    Errno(Errno),
}

impl From<Unread> for Failed {
    fn from(why: Unread) -> Self {
        Self::Unread(why)
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        Self::Errno(error)
    }
}

impl Watcher<'_> {
    pub(super) fn names(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let Some(asked) = asked(call) else {
            sys::answer(listener, call.id, Err(libc::ENOSYS));
            return Ok(());
        };
        let mut subject = Subject::default();
        let result = match self.act(listener, call, &asked, &mut subject) {
            Err(Failed::Unread(why)) => return self.unread(listener, call, why),
            Err(Failed::Errno(error)) => Err(error.raw_os_error()),
            Ok(()) => Ok(0),
        };
        sys::answer(listener, call.id, result);
        if subject.path.is_none() {
            return Ok(());
        }
        subject.errno = result.err().unwrap_or(0);
        self.see(calls::name(call.number), call.tid, &subject)
    }

    fn act(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        asked: &Asked,
        subject: &mut Subject,
    ) -> Result<(), Failed> {
        let waits = || sys::still_waiting(listener, call.id);
        match asked {
            Asked::Rename { from, to, flags } => {
                let (from, to) = (self.place(call, *from)?, self.place(call, *to)?);
                self.both(subject, from.path.clone(), to.path.clone());
                // What changes something must not be done for a caller that is gone.
                if !waits() {
                    return Ok(());
                }
                let flags = RenameFlags::from_bits_retain(*flags);
                Ok(rustix::fs::renameat_with(&from.folder, from.name, &to.folder, to.name, flags)?)
            }
            Asked::Link { from, to, flags } => {
                let (fd, path) = self.source(call, *from, *flags)?;
                let to = self.place(call, *to)?;
                self.both(subject, path, to.path.clone());
                let inode = rustix::fs::fstat(&fd).ok().map(|s| (s.st_dev, s.st_ino));
                subject.decoy |= self.files.is_decoy(b"", inode);
                if !waits() {
                    return Ok(());
                }
                let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
                Ok(rustix::fs::linkat(CWD, from, &to.folder, to.name, AtFlags::SYMLINK_FOLLOW)?)
            }
            Asked::Symlink { text, at } => {
                let text = memory::string(call.tid, *text)?;
                let at = self.place(call, *at)?;
                self.both(subject, text.clone(), at.path.clone());
                if !waits() {
                    return Ok(());
                }
                Ok(rustix::fs::symlinkat(text, &at.folder, at.name)?)
            }
            Asked::Remove { at, flags } => {
                let at = self.place(call, *at)?;
                subject.decoy = self.files.is_decoy(&at.path, None);
                subject.path = Some(at.path.clone());
                if !waits() {
                    return Ok(());
                }
                Ok(rustix::fs::unlinkat(&at.folder, at.name, AtFlags::from_bits_retain(*flags))?)
            }
        }
    }

    fn both(&self, subject: &mut Subject, source: Vec<u8>, target: Vec<u8>) {
        subject.decoy = self.files.is_decoy(&source, None);
        subject.source = Some(source);
        subject.path = Some(target.clone());
        subject.target = Some(target);
    }

    /// The folder that a path's last part lies in, opened, and that last part.
    fn place(&mut self, call: &Notification, at: At) -> Result<Place, Failed> {
        let path = memory::string(call.tid, at.path)?;
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let slash: &[u8] = if path.ends_with(b"/") { b"/" } else { b"" };
        let trimmed = without_slashes(&path);
        let cut = trimmed.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (folder, name) = (trimmed.get(..cut).unwrap_or_default(), trimmed.get(cut..).unwrap_or_default());
        if matches!(name, b"" | b"." | b"..") {
            // The kernel renames, links and removes none of them either.
            return Err(Errno::BUSY.into());
        }
        let folder = if folder.is_empty() { b"." } else { folder };
        let caller = self.caller(call.tid, at.dirfd);
        let opened = self.open_path(caller, folder, OFlags::DIRECTORY)?;
        let path = [opened.path.as_slice(), b"/", name].concat();
        Ok(Place { folder: opened.fd, name: [name, slash].concat(), path: resolve::normal(&path) })
    }

    /// What a hard link is to be another name of.
    fn source(&mut self, call: &Notification, at: At, flags: u32) -> Result<(OwnedFd, Vec<u8>), Failed> {
        let path = memory::string(call.tid, at.path)?;
        let flags = AtFlags::from_bits_retain(flags);
        let by_descriptor = path.is_empty() && flags.contains(AtFlags::EMPTY_PATH);
        let path = if by_descriptor { format!("/proc/self/fd/{}", at.dirfd).into_bytes() } else { path };
        let follow = by_descriptor || flags.contains(AtFlags::SYMLINK_FOLLOW);
        let caller = self.caller(call.tid, at.dirfd);
        let opened =
            self.open_path(caller, &path, if follow { OFlags::empty() } else { OFlags::NOFOLLOW })?;
        Ok((opened.fd, opened.path))
    }

    fn open_path(&self, caller: Caller, path: &[u8], flags: OFlags) -> Result<resolve::Opened, Failed> {
        resolve::open(caller, path, OFlags::PATH | flags, Mode::empty(), &self.guarded).map_err(|error| {
            Failed::Errno(match error {
                OpenError::Errno(errno, _) => Errno::from_raw_os_error(errno),
                OpenError::Attack(_) => Errno::ACCESS,
            })
        })
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    path.get(..end).unwrap_or_default()
}

fn asked(call: &Notification) -> Option<Asked> {
    let [a, b, c, d, e, _] = call.args;
    let here = |path| At { dirfd: libc::AT_FDCWD, path };
    let at = |dirfd: u64, path| At { dirfd: low(dirfd), path };
    let bits = |argument: u64| low(argument).cast_unsigned();
    #[cfg(target_arch = "x86_64")]
    match call.number {
        libc::SYS_rename => return Some(Asked::Rename { from: here(a), to: here(b), flags: 0 }),
        libc::SYS_link => return Some(Asked::Link { from: here(a), to: here(b), flags: 0 }),
        libc::SYS_symlink => return Some(Asked::Symlink { text: a, at: here(b) }),
        libc::SYS_unlink => return Some(Asked::Remove { at: here(a), flags: 0 }),
        libc::SYS_rmdir => {
            return Some(Asked::Remove { at: here(a), flags: AtFlags::REMOVEDIR.bits() });
        }
        _ => {}
    }
    Some(match call.number {
        libc::SYS_renameat => Asked::Rename { from: at(a, b), to: at(c, d), flags: 0 },
        libc::SYS_renameat2 => Asked::Rename { from: at(a, b), to: at(c, d), flags: bits(e) },
        libc::SYS_linkat => Asked::Link { from: at(a, b), to: at(c, d), flags: bits(e) },
        libc::SYS_symlinkat => Asked::Symlink { text: a, at: at(b, c) },
        libc::SYS_unlinkat => Asked::Remove { at: at(a, b), flags: bits(c) },
        _ => return None,
    })
}
