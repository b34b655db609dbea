//! The kernel's side of the watcher, and all of its unsafe code: installing the filter, receiving and answering
//! notifications, reading another process's memory.
//!
//! Nothing is decided here. Lengths and pointers from a watched process are numbers to be checked by the kernel, never
//! dereferenced.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{Ioctl, seccomp_data, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sock_filter};

// musl takes them as a signed number; the kernel looks at the 32 bits.
const NOTIF_RECV: Ioctl = 0xc050_2100_u32 as Ioctl;
const NOTIF_SEND: Ioctl = 0xc018_2101_u32 as Ioctl;
const NOTIF_ID_VALID: Ioctl = 0x4008_2102_u32 as Ioctl;
const NOTIF_ADDFD: Ioctl = 0x4018_2103_u32 as Ioctl;
const NOTIF_SET_FLAGS: Ioctl = 0x4008_2104_u32 as Ioctl;
const ADDFD_FLAG_SEND: u32 = 2;
const SYNC_WAKE_UP: u64 = 1;
const FILTER_NEW_LISTENER: u64 = 1 << 3;
const FILTER_WAIT_KILLABLE: u64 = 1 << 5;

/// One call that the kernel holds for us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    pub(super) id: u64,
    /// The thread that made the call.
    pub(super) tid: i32,
    pub(super) number: i64,
    pub(super) args: [u64; 6],
}

/// Installs the filter for this thread and everything it becomes; the listener is closed by exec.
pub(super) fn install(program: &mut [sock_filter]) -> io::Result<RawFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let install = |flags: u64| {
        // SAFETY: the program outlives the call, which copies it.
        let fd = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
    };
    // Without the second flag (before 5.19) a signal restarts the held call; with it only a fatal one ends the wait.
    install(FILTER_NEW_LISTENER | FILTER_WAIT_KILLABLE).or_else(|_| install(FILTER_NEW_LISTENER))
}

/// Lets the kernel switch straight between watcher and watched (6.6 and later); whether it does.
pub(super) fn sync_wake_up(listener: BorrowedFd<'_>) -> bool {
    // SAFETY: this request takes its flags by value.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) == 0 }
}

/// `None` when the caller went away before it could be taken.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let data = seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    // The kernel demands zeroes here.
    let mut notification = seccomp_notif { id: 0, pid: 0, flags: 0, data };
    // SAFETY: the kernel fills the structure that it is given.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notification) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    let tid = i32::try_from(notification.pid).unwrap_or(0);
    let (number, args) = (i64::from(notification.data.nr), notification.data.args);
    Ok(Some(Notification { id: notification.id, tid, number, args }))
}

/// Whether the call is still waiting: what was read of the process was then really its.
pub(super) fn still_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Lets the kernel carry the call out.
pub(super) fn go_on(listener: BorrowedFd<'_>, id: u64) {
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
    send(listener, seccomp_notif_resp { id, val: 0, error: 0, flags });
}

/// Answers in the kernel's stead: a result, or an error as a positive errno.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, result: Result<i64, i32>) {
    let (val, error) = match result {
        Ok(value) => (value, 0),
        Err(errno) => (0, -errno.abs()),
    };
    send(listener, seccomp_notif_resp { id, val, error, flags: 0 });
}

fn send(listener: BorrowedFd<'_>, response: seccomp_notif_resp) {
    // SAFETY: the kernel reads the structure. An error says that the caller is gone; there is nobody to tell.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
}

/// Gives the caller a copy of `fd` and answers its call with the number, in one step.
pub(super) fn answer_with_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<(), i32> {
    let newfd_flags = if close_on_exec { u32::try_from(libc::O_CLOEXEC).unwrap_or(0) } else { 0 };
    let srcfd = u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
    let add = seccomp_notif_addfd { id, flags: ADDFD_FLAG_SEND, srcfd, newfd: 0, newfd_flags };
    // SAFETY: the kernel reads the structure and takes its own reference to the file.
    match unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const add) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// Whether a container's filter forbids `process_vm_readv` whomever it is about, as containerd's did until 1.7.
static READV_FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Reads another thread's memory; a short read stops at the first unmapped page.
pub(super) fn read_memory(tid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    if READV_FORBIDDEN.load(Ordering::Relaxed) {
        return read_mem_file(tid, address, buffer);
    }
    match readv(tid, address, buffer) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            // A process that is closed to us is so by this way, too; the call itself may be forbidden where this is not.
            let length = read_mem_file(tid, address, buffer)?;
            READV_FORBIDDEN.store(true, Ordering::Relaxed);
            Ok(length)
        }
        read => read,
    }
}

fn read_mem_file(tid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let file = std::fs::File::open(format!("/proc/{tid}/mem"))?;
    match file.read_at(buffer, address) {
        // What is not mapped is EIO there, and what is no place in a file EINVAL.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
            Err(io::Error::from_raw_os_error(libc::EFAULT))
        }
        read => read,
    }
}

fn readv(tid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let base = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(base), iov_len: buffer.len() };
    // SAFETY: the local vector is the buffer; the remote one is only looked at by the kernel, in the other process.
    let n = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Forks into a child that shares our table of descriptors, so that what it opens appears with us at once.
/// Returns 0 in the child.
pub(super) fn fork_sharing_files() -> io::Result<i32> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: like fork, with no memory shared; the watcher's main thread holds no lock here, and the child calls only
    // plain system calls and code that takes no lock of another thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    i32::try_from(pid).ok().filter(|p| *p >= 0).ok_or_else(io::Error::last_os_error)
}

/// In a fresh child: a table of descriptors of its own.
pub(super) fn own_files() -> io::Result<()> {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
    // Closes a descriptor that nobody has. `unshare` would do the same, and is forbidden in containers.
    // SAFETY: no pointers are involved.
    match unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, CLOSE_RANGE_UNSHARE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In a fresh child: standard descriptors, and everything else closed by exec.
pub(super) fn standard_files(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are involved; the descriptors are the child's own by now.
    let ok = unsafe {
        libc::dup2(input.as_raw_fd(), 0) >= 0
            && libc::dup2(output.as_raw_fd(), 1) >= 0
            && libc::dup2(output.as_raw_fd(), 2) >= 0
            && libc::syscall(libc::SYS_close_range, 3, u32::MAX, 4) == 0
    };
    if ok { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// In a fresh child: no signal blocked, every one with its default action, a session and the usual umask of its own.
pub(super) fn ordinary_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is read; the handlers are set to the default.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::setsid();
        libc::umask(0o022);
    }
}

/// Becomes another program; returns only the error.
pub(super) fn exec(
    path: &std::ffi::CStr,
    argv: &[std::ffi::CString],
    env: &[std::ffi::CString],
) -> io::Error {
    let pointers = |list: &[std::ffi::CString]| {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and outlive the call, as do the strings.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, without running anything that the parent registered.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: never returns and touches nothing.
    unsafe { libc::_exit(code) }
}

/// A descriptor that becomes readable when a child ends; from here on that signal is blocked for this thread.
pub(super) fn child_signal() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    let fd = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Orphans below us become our children; nobody of our own user may read our memory.
pub(super) fn become_watcher() -> io::Result<()> {
    // SAFETY: no pointers are involved.
    let ok = unsafe {
        // The package's own umask is applied to what we create for it, and ours must not be.
        libc::umask(0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    };
    if ok { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether we, and with us the package, may use the file that this descriptor stands for; it need not be readable.
pub(super) fn may(fd: BorrowedFd<'_>, access: u32) -> bool {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a constant that ends with NUL.
    unsafe { libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), access, flags) == 0 }
}

/// In a fresh child: lets the watcher read us again.
pub(super) fn readable() -> io::Result<()> {
    // SAFETY: no pointers are involved.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ties a socket to the loopback device; whether the kernel let us.
pub(super) fn bind_to_loopback(socket: BorrowedFd<'_>) -> bool {
    let name = b"lo";
    let length = libc::socklen_t::try_from(name.len()).unwrap_or(0);
    // SAFETY: the kernel reads so many bytes of the name.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        ) == 0
    }
}

/// Takes over a descriptor that a child sharing our table has made.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the child gave up its use of the number by leaving the shared table; it is ours alone now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
