//! The sandbox's network: a loopback interface, a place where name lookups arrive, and the one way out.
//!
//! The network namespace is empty, so nothing leaves it but through the way out's port. What is answered to a lookup
//! and who may connect is the watcher's business; which hosts are allowed is the host's proxy's.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{SandboxError, WayOut, step};

/// `libc` gives it a type that its own `ioctl` does not take with musl.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;

/// The proxy's socket as a descriptor that outlives the old root.
pub(crate) fn open_socket(path: &Path) -> Result<OwnedFd, SandboxError> {
    let open = || {
        let socket =
            rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&socket)?;
        if FileType::from_raw_mode(stat.st_mode).is_socket() { Ok(socket) } else { Err(Errno::NOTSOCK) }
    };
    open().map_err(step(format!("open the proxy's socket {}", path.display())))
}

/// The port that the package's requests go to. Any free one: a fixed port would be a mark of this sandbox.
pub(crate) fn way_out(proxy: OwnedFd) -> Result<WayOut, SandboxError> {
    let failed = || step("listen on a loopback port");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
    let port = listener.local_addr().map_err(failed())?.port();
    Ok(WayOut { listener, port, proxy })
}

/// Where the resolver of the sandbox's `resolv.conf` sends its questions.
pub(crate) fn dns() -> Result<OwnedFd, SandboxError> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).map_err(step("listen for name lookups"))?.into())
}

/// Brings `lo` up in a new network namespace.
pub(crate) fn loopback() -> Result<(), SandboxError> {
    set_up("lo").map_err(step("bring up the loopback interface"))
}

fn set_up(interface: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: ifreq is plain old data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags, which this is; the kernel keeps no pointer to it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
