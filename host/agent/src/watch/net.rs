//! Sockets on the package's behalf: the watcher makes each inet socket, hands it over, and connects it through its own
//! duplicate, so that the address that is reported is the one that was connected to.
//!
//! A duplicate is kept only until its socket is connected or listens: held longer, it would keep a connection open that
//! the package has closed. Which duplicate belongs to a descriptor is told by the socket's inode.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::sys;

/// Sockets made and not yet connected; the oldest is given up beyond that, and can then only be closed.
const MAX_OPEN: usize = 1024;
const MAX_REMEMBERED: usize = 8192;
/// Connects that wait in threads of their own.
const MAX_WAITING: usize = 64;

pub(super) struct Sockets {
    open: HashMap<u64, Open>,
    order: VecDeque<u64>,
    connected: VecDeque<u64>,
    /// Local ports of connections to the way out, and the thread that made each.
    ports: VecDeque<(u16, i32)>,
    waiting: Arc<AtomicUsize>,
}

/// A duplicate of a socket that the package has.
struct Open {
    fd: Arc<OwnedFd>,
    /// The thread that connected it or sent through it last.
    user: i32,
}

/// What `socket()` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) family: i32,
    pub(super) kind: i32,
    pub(super) protocol: i32,
}

impl Wanted {
    pub(super) fn new(args: &[u64; 6]) -> Self {
        let [family, kind, protocol, ..] = args.map(super::low);
        Self { family, kind, protocol }
    }

    pub(super) fn is_inet(self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
    }

    pub(super) fn is_unix(self) -> bool {
        self.family == libc::AF_UNIX
    }

    pub(super) fn socket_type(self) -> i32 {
        self.kind & 0xf
    }

    pub(super) fn close_on_exec(self) -> bool {
        self.kind & libc::SOCK_CLOEXEC != 0
    }

    pub(super) fn describe(self) -> (&'static str, &'static str) {
        let family = match self.family {
            libc::AF_INET => "ipv4",
            libc::AF_INET6 => "ipv6",
            libc::AF_UNIX => "unix",
            libc::AF_NETLINK => "netlink",
            libc::AF_PACKET => "packet",
            _ => "other",
        };
        let protocol = match self.socket_type() {
            libc::SOCK_STREAM => "tcp",
            libc::SOCK_DGRAM => "udp",
            libc::SOCK_RAW => "raw",
            _ => "other",
        };
        (family, protocol)
    }
}

/// How a connect went, or that a thread will answer it.
pub(super) enum Connected {
    Now(Result<(), Errno>),
    Later,
    /// Not a socket that we made.
    Unknown,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            open: HashMap::new(),
            order: VecDeque::new(),
            connected: VecDeque::new(),
            ports: VecDeque::new(),
            waiting: Arc::default(),
        }
    }

    /// Makes a socket; the caller of this hands it over.
    pub(super) fn make(
        &mut self,
        wanted: Wanted,
        user: i32,
        loopback_only: bool,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let family = match wanted.family {
            libc::AF_INET => AddressFamily::INET,
            libc::AF_UNIX => AddressFamily::UNIX,
            _ => AddressFamily::INET6,
        };
        let kind = match wanted.socket_type() {
            libc::SOCK_STREAM => SocketType::STREAM,
            libc::SOCK_DGRAM => SocketType::DGRAM,
            libc::SOCK_SEQPACKET if wanted.is_unix() => SocketType::SEQPACKET,
            _ => return Err(Errno::PERM),
        };
        let mut flags = SocketFlags::CLOEXEC;
        if wanted.kind & libc::SOCK_NONBLOCK != 0 {
            flags |= SocketFlags::NONBLOCK;
        }
        let protocol = u32::try_from(wanted.protocol).ok().and_then(std::num::NonZeroU32::new);
        let protocol = protocol.map(rustix::net::Protocol::from_raw);
        let fd = Arc::new(rustix::net::socket_with(family, kind, flags, protocol)?);
        if loopback_only && wanted.is_inet() {
            // A second lock: should the package ever bring the kernel to connect this socket behind our back, it gets no
            // further than loopback, and an ordinary user cannot undo it. Kernels before 5.7 do not let us.
            sys::bind_to_loopback(fd.as_fd());
        }
        let inode = rustix::fs::fstat(&*fd)?.st_ino;
        self.connected.retain(|i| *i != inode);
        self.open.insert(inode, Open { fd: fd.clone(), user });
        self.order.push_back(inode);
        while self.order.len() > MAX_OPEN {
            if let Some(oldest) = self.order.pop_front() {
                self.open.remove(&oldest);
            }
        }
        Ok(fd)
    }

    /// The duplicate of a descriptor's socket.
    pub(super) fn of(&self, tid: i32, fd: i32) -> Option<(u64, Arc<OwnedFd>)> {
        let inode = inode(tid, fd)?;
        self.open.get(&inode).map(|open| (inode, open.fd.clone()))
    }

    /// A thread connects or sends through a socket.
    pub(super) fn used(&mut self, tid: i32, fd: i32) {
        if let Some(open) = inode(tid, fd).and_then(|inode| self.open.get_mut(&inode)) {
            open.user = tid;
        }
    }

    /// Who used the datagram socket with this local port last.
    pub(super) fn user(&self, port: u16) -> Option<i32> {
        let bound = |open: &&Open| local_port(&open.fd) == Some(port);
        let datagram = |open: &&Open| {
            rustix::net::sockopt::socket_type(&*open.fd).is_ok_and(|kind| kind == SocketType::DGRAM)
        };
        self.open.values().filter(datagram).find(bound).map(|open| open.user)
    }

    /// Connects one of our unix sockets to the socket file that a descriptor stands for.
    pub(super) fn connect_file(&mut self, tid: i32, fd: i32, file: &OwnedFd) -> Result<(), Errno> {
        let Some((inode, socket)) = self.of(tid, fd) else {
            let again = inode(tid, fd).is_some_and(|i| self.connected.contains(&i));
            return Err(if again { Errno::ISCONN } else { Errno::CONNREFUSED });
        };
        // A full queue of the listener must not make us wait for the package.
        let flags = rustix::fs::fcntl_getfl(&*socket)?;
        rustix::fs::fcntl_setfl(&*socket, flags | OFlags::NONBLOCK)?;
        let to = rustix::net::SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let result = rustix::net::connect(&*socket, &to);
        rustix::fs::fcntl_setfl(&*socket, flags)?;
        result?;
        self.open.remove(&inode);
        self.order.retain(|i| *i != inode);
        remember(&mut self.connected, inode);
        Ok(())
    }

    /// Connects; `answer` is called from a thread when the socket is one that waits.
    pub(super) fn connect(
        &mut self,
        tid: i32,
        fd: i32,
        address: SocketAddr,
        to_proxy: bool,
        answer: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) -> Connected {
        let Some((inode, socket)) = self.of(tid, fd) else {
            let again = inode(tid, fd).is_some_and(|i| self.connected.contains(&i));
            return if again { Connected::Now(Err(Errno::ISCONN)) } else { Connected::Unknown };
        };
        let stream = rustix::net::sockopt::socket_type(&*socket) == Ok(SocketType::STREAM);
        let waits = rustix::fs::fcntl_getfl(&*socket).is_ok_and(|f| !f.contains(OFlags::NONBLOCK));
        if to_proxy {
            self.remember_port(&socket, address, tid);
        }
        if stream {
            // From here on the package's descriptor is the only one that counts.
            self.open.remove(&inode);
            self.order.retain(|i| *i != inode);
            remember(&mut self.connected, inode);
        }
        if stream && waits && self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            let waiting = self.waiting.clone();
            let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                answer(rustix::net::connect(&*socket, &address));
                waiting.fetch_sub(1, Ordering::Relaxed);
            });
            return if thread.is_ok() { Connected::Later } else { Connected::Now(Err(Errno::AGAIN)) };
        }
        if stream && waits {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Connected::Now(Err(Errno::AGAIN));
        }
        Connected::Now(rustix::net::connect(&*socket, &address))
    }

    /// Connects one of our inet sockets to what is no inet address; nothing if it is none of ours.
    pub(super) fn connect_elsewhere(
        &self,
        tid: i32,
        fd: i32,
        to: Option<&Address>,
    ) -> Option<Result<(), Errno>> {
        let inode = inode(tid, fd)?;
        let Some(ours) = self.open.get(&inode) else {
            return self.connected.contains(&inode).then_some(Err(Errno::ISCONN));
        };
        Some(match to {
            Some(Address::None) => rustix::net::connect_unspec(&*ours.fd),
            Some(_) => Err(Errno::AFNOSUPPORT),
            None => Err(Errno::INVAL),
        })
    }

    /// A listening socket is the package's alone.
    pub(super) fn listens(&mut self, tid: i32, fd: i32) {
        if let Some((inode, _)) = self.of(tid, fd) {
            self.open.remove(&inode);
            self.order.retain(|i| *i != inode);
        }
    }

    /// The way out sees only a port; binding it before the connect makes it known whose it is.
    fn remember_port(&mut self, socket: &OwnedFd, to: SocketAddr, tid: i32) {
        let any =
            SocketAddr::new(if to.is_ipv4() { [127, 0, 0, 1].into() } else { IpAddr::from([0u16; 8]) }, 0);
        let _ = rustix::net::bind(socket, &any);
        if let Some(port) = local_port(socket) {
            self.ports.retain(|(known, _)| *known != port);
            remember(&mut self.ports, (port, tid));
        }
    }

    /// Which thread made the connection from this local port.
    pub(super) fn maker(&self, port: u16) -> Option<i32> {
        self.ports.iter().find(|(known, _)| *known == port).map(|(_, tid)| *tid)
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > MAX_REMEMBERED {
        list.pop_front();
    }
}

fn local_port(socket: &OwnedFd) -> Option<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket.as_fd()).ok()?).ok()?;
    Some(address.port()).filter(|port| *port != 0)
}

fn inode(tid: i32, fd: i32) -> Option<u64> {
    let name = super::resolve::descriptor(tid, fd)?;
    let text = std::str::from_utf8(&name).ok()?;
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A `sockaddr` as a process wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Inet(SocketAddr),
    /// A path, or (with a NUL byte in front) an abstract name.
    Unix(Vec<u8>),
    /// `AF_UNSPEC`: forget the connection.
    None,
    Other(u16),
}

pub(super) fn address(bytes: &[u8]) -> Option<Address> {
    let family = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]);
    let port = || Some(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    Some(match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Address::Inet(SocketAddr::new(ip.into(), port()?))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Address::Inet(SocketAddr::new(ip.into(), port()?))
        }
        libc::AF_UNIX => {
            let path = bytes.get(2..)?;
            let end = if path.first() == Some(&0) {
                path.len()
            } else {
                path.iter().position(|b| *b == 0).unwrap_or(path.len())
            };
            Address::Unix(path.get(..end)?.to_vec())
        }
        libc::AF_UNSPEC => Address::None,
        _ => Address::Other(family),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let inet = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(&inet), Some(Address::Inet("127.0.0.1:8080".parse().unwrap())));
        assert_eq!(address(&[1, 0, b'/', b'x', 0, b'y']), Some(Address::Unix(b"/x".to_vec())));
        assert_eq!(address(&[0, 0]), Some(Address::None));
        assert_eq!(address(&inet[..7]), None);
    }

    #[test]
    fn a_socket_is_found_by_its_inode_and_given_up_once_connected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut sockets = Sockets::new();
        let wanted =
            Wanted { family: libc::AF_INET, kind: libc::SOCK_STREAM | libc::SOCK_NONBLOCK, protocol: 0 };
        let ours = sockets.make(wanted, 1, false).unwrap();
        let fd = ours.as_raw_fd();
        let me = i32::try_from(std::process::id()).unwrap();
        let connected = sockets.connect(me, fd, to, true, |_| unreachable!("it does not wait"));
        assert!(matches!(connected, Connected::Now(Ok(()) | Err(Errno::INPROGRESS))));
        let port = listener.accept().unwrap().1.port();
        assert_eq!(sockets.maker(port), Some(me));
        let again = sockets.connect(me, fd, to, true, |_| unreachable!());
        assert!(matches!(again, Connected::Now(Err(Errno::ISCONN))));
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
            let _ = address(&bytes);
        }
    }
}
