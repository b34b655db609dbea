//! Opens, done by the watcher in the caller's stead, and the other calls that change what a path means.
//!
//! What an installation wrote is remembered by inode, so that running it later can be told from running what was there;
//! decoys are known by inode too, since a hard link gives a file another name.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use super::event::Subject;
use super::memory;
use super::resolve::{self, Caller, OpenError, Opened};
use super::sys::{self, Notification};
use super::{Watcher, calls, low, refuse};

/// Files that an installation wrote: more are forgotten, oldest knowledge first, all at once.
const MAX_WRITTEN: usize = 200_000;
/// Opens of pipes that wait for their other end.
const MAX_WAITING: usize = 64;

type Inode = (u64, u64);

pub(super) struct Files {
    decoys: HashSet<Inode>,
    decoy_paths: HashSet<Vec<u8>>,
    written: HashSet<Inode>,
    /// Some process has made a pipe with a name, so an open may wait.
    named_pipes: bool,
    waiting: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Files {
    pub(super) fn new(decoys: &[PathBuf]) -> Self {
        let inode = |p: &PathBuf| rustix::fs::stat(p).ok().map(|s| (s.st_dev, s.st_ino));
        Self {
            decoys: decoys.iter().filter_map(inode).collect(),
            decoy_paths: decoys.iter().map(|p| p.as_os_str().as_encoded_bytes().to_vec()).collect(),
            written: HashSet::new(),
            named_pipes: false,
            waiting: std::sync::Arc::default(),
        }
    }

    pub(super) fn is_decoy(&self, path: &[u8], inode: Option<Inode>) -> bool {
        self.decoy_paths.contains(path) || inode.is_some_and(|i| self.decoys.contains(&i))
    }

    pub(super) fn was_written(&self, inode: Inode) -> bool {
        self.written.contains(&inode)
    }

    fn wrote(&mut self, inode: Inode) {
        if self.written.len() >= MAX_WRITTEN {
            self.written.clear();
        }
        self.written.insert(inode);
    }
}

/// What an open asks for, whichever call it is.
struct Asked {
    dirfd: i32,
    path: u64,
    flags: OFlags,
    mode: u32,
    /// `openat2` asks for a way of resolving, or for what we cannot hand over.
    beyond_us: bool,
}

impl Watcher<'_> {
    pub(super) fn caller(&mut self, tid: i32, dirfd: i32) -> Caller {
        Caller { tid, pid: self.table.of_thread(tid).pid, dirfd }
    }

    pub(super) fn open(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let asked = match asked(call) {
            Ok(asked) => asked,
            Err(why) => return self.unread(listener, call, why),
        };
        let path = match memory::string(call.tid, asked.path) {
            Ok(path) => path,
            Err(why) => return self.unread(listener, call, why),
        };
        if asked.beyond_us {
            // Whoever uses openat2 can do without: as on an older kernel. Its flags could change after we have read
            // them, so the kernel must not read them again.
            refuse(listener, call, libc::ENOSYS);
            return Ok(());
        }
        if asked.flags.contains(OFlags::PATH) {
            // Such a descriptor reads nothing; opening through it comes back here. The kernel takes none from us.
            sys::go_on(listener, call.id);
            return Ok(());
        }
        let caller = self.caller(call.tid, asked.dirfd);
        // O_TMPFILE has the bit of O_DIRECTORY in it.
        let creates = asked.flags.contains(OFlags::CREATE) || asked.flags.contains(OFlags::TMPFILE);
        // What changes something must not be done for a caller that is gone and whose number is another's now.
        if (creates || asked.flags.contains(OFlags::TRUNC)) && !sys::still_waiting(listener, call.id) {
            return Ok(());
        }
        let mode =
            if creates { Mode::from_raw_mode(asked.mode & 0o7777 & !umask(call.tid)) } else { Mode::empty() };
        if self.files.named_pipes && self.open_pipe(listener, call, caller, &path, asked.flags)? {
            return Ok(());
        }
        let flags = asked.flags & !OFlags::CLOEXEC;
        let write = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) || creates;
        let subject = |resolved: Vec<u8>, errno: i32| Subject {
            path: Some(resolved),
            raw: Some(path.clone()),
            write,
            read: !flags.contains(OFlags::WRONLY),
            errno,
            ..Subject::default()
        };
        match resolve::open(caller, &path, flags, mode, &self.guarded) {
            Ok(opened) => {
                let mut subject = self.opened(call, &opened, subject(opened.path.clone(), 0));
                subject.errno = give(listener, call, opened.fd.as_fd(), asked.flags).err().unwrap_or(0);
                self.see(calls::name(call.number), call.tid, &subject)
            }
            Err(OpenError::Errno(errno, path)) => {
                refuse(listener, call, errno);
                let mut subject = subject(path, errno);
                subject.decoy = subject.path.as_deref().is_some_and(|p| self.files.is_decoy(p, None));
                self.see(calls::name(call.number), call.tid, &subject)
            }
            Err(OpenError::Attack(path)) => {
                refuse(listener, call, libc::EACCES);
                self.attacked(call, &format!("an open of {}", String::from_utf8_lossy(&path)))
            }
        }
    }

    /// What there is to say of the file, found out while the caller is still held.
    fn opened(&mut self, call: &Notification, opened: &Opened, mut subject: Subject) -> Subject {
        if let Ok(stat) = rustix::fs::fstat(&opened.fd) {
            let inode = (stat.st_dev, stat.st_ino);
            subject.folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            subject.decoy = self.files.is_decoy(&opened.path, Some(inode));
            if subject.write && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                self.files.wrote(inode);
            }
        }
        if subject.decoy {
            // Whom a decoy's reading is put down to decides whether it is an alert at all: look at the process anew.
            self.table.look_again(call.tid);
        }
        subject
    }

    /// Opens a named pipe in a thread, since it waits for its other end; whether the path was one.
    fn open_pipe(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        caller: Caller,
        path: &[u8],
        flags: OFlags,
    ) -> io::Result<bool> {
        let look = OFlags::PATH | (flags & OFlags::NOFOLLOW);
        let Ok(found) = resolve::open(caller, path, look, Mode::empty(), &self.guarded) else {
            return Ok(false);
        };
        let is_pipe =
            rustix::fs::fstat(&found.fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if !is_pipe {
            return Ok(false);
        }
        use std::sync::atomic::Ordering;
        let waiting = self.files.waiting.clone();
        if waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            waiting.fetch_sub(1, Ordering::Relaxed);
            refuse(listener, call, libc::EMFILE);
            return Ok(true);
        }
        let (listener, call) = (listener.try_clone_to_owned()?, *call);
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            match reopen(&found.fd, flags) {
                Ok(fd) => _ = give(listener.as_fd(), &call, fd.as_fd(), flags),
                Err(error) => refuse(listener.as_fd(), &call, error.raw_os_error()),
            }
            waiting.fetch_sub(1, Ordering::Relaxed);
        })?;
        Ok(true)
    }

    /// Chmod and mknod: told, and left to the kernel.
    pub(super) fn file_call(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let kind = calls::name(call.number);
        let path = match self.named(call) {
            Ok(path) => path,
            Err(why) => return self.unread(listener, call, why),
        };
        if matches!(call.number, libc::SYS_mknodat) || kind == "mknod" {
            self.files.named_pipes = true;
        }
        sys::go_on(listener, call.id);
        let Some(path) = path else { return Ok(()) };
        let decoy = self.files.is_decoy(&path, None);
        self.see(kind, call.tid, &Subject { decoy, path: Some(path), ..Subject::default() })
    }

    /// The path of such a call: absolute, the last part not followed.
    fn named(&mut self, call: &Notification) -> Result<Option<Vec<u8>>, memory::Unread> {
        let [a, b, ..] = call.args;
        let (dirfd, path) = match call.number {
            libc::SYS_fchmod => return Ok(resolve::descriptor(call.tid, low(a))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod | libc::SYS_mknod => (libc::AT_FDCWD, a),
            _ => (low(a), b),
        };
        let caller = self.caller(call.tid, dirfd);
        memory::string(call.tid, path).map(|path| Some(resolve::locate(caller, &path, false)))
    }
}

fn asked(call: &Notification) -> Result<Asked, memory::Unread> {
    let [a, b, c, d, ..] = call.args;
    let of = |dirfd, path, flags: i32, mode: u64| Asked {
        dirfd,
        path,
        // openat ignores flags that it does not know, openat2 refuses them.
        flags: OFlags::from_bits_retain(flags.cast_unsigned() & KNOWN_FLAGS),
        mode: low(mode).cast_unsigned(),
        beyond_us: false,
    };
    #[cfg(target_arch = "x86_64")]
    match call.number {
        libc::SYS_open => return Ok(of(libc::AT_FDCWD, a, low(b), c)),
        libc::SYS_creat => {
            return Ok(of(libc::AT_FDCWD, a, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, b));
        }
        _ => {}
    }
    if call.number == libc::SYS_openat {
        return Ok(of(low(a), b, low(c), d));
    }
    // openat2: flags, mode and resolve in a structure.
    let how = |at| memory::word(call.tid, c.saturating_add(at));
    let asked = of(low(a), b, low(how(0)?), how(8)?);
    let beyond_us = asked.flags.contains(OFlags::PATH) || how(16)? != 0;
    Ok(Asked { beyond_us, ..asked })
}

const KNOWN_FLAGS: u32 = (libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DSYNC
    | libc::O_SYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE)
    .cast_unsigned();

fn give(listener: BorrowedFd<'_>, call: &Notification, fd: BorrowedFd<'_>, flags: OFlags) -> Result<(), i32> {
    let given = sys::answer_with_fd(listener, call.id, fd, flags.contains(OFlags::CLOEXEC));
    given.inspect_err(|errno| {
        if *errno != libc::ENOENT {
            refuse(listener, call, *errno);
        }
    })
}

fn reopen(found: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let flags = (flags | OFlags::CLOEXEC) & !(OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL);
    rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())
}

fn umask(tid: i32) -> u32 {
    let status = std::fs::read(format!("/proc/{tid}/status")).unwrap_or_default();
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Umask:"));
    let text = line.and_then(|l| std::str::from_utf8(l).ok()).map(str::trim);
    text.and_then(|t| u32::from_str_radix(t, 8).ok()).unwrap_or(0o022)
}
