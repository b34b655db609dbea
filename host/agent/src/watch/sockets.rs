//! The network calls: what is made, connected, bound, sent to; and the names that are asked for.
//!
//! In isolation `namespaces` the network is empty and loopback is the package's own. In isolation `container` it is the
//! container's: there only the port of the way out is connected, and datagrams are refused.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use lanner_core::Isolation;
use rustix::fs::{Mode, OFlags};

use super::event::Subject;
use super::memory;
use super::net::{self, Address, Connected, Wanted};
use super::resolve::{self, is_below};
use super::sys::{self, Notification};
use super::{Watcher, calls, dns, low, refuse};

const MAX_ADDRESS: u64 = 128;
const DNS_PORT: u16 = 53;
/// Messages of one `sendmmsg`: the kernel takes no more (UIO_MAXIOV).
const MAX_MESSAGES: u64 = 1024;
const MMSGHDR: u64 = 64;

impl Watcher<'_> {
    pub(super) fn socket(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let wanted = Wanted::new(&call.args);
        let (kind, protocol) = wanted.describe();
        let shared = self.isolation == Isolation::Container;
        let local = wanted.family == libc::AF_NETLINK || (wanted.is_unix() && !shared);
        // In a container others listen on unix sockets too: there those are ours as well, and none sends to an address.
        let connects = !matches!(wanted.socket_type(), libc::SOCK_DGRAM | libc::SOCK_RAW);
        let errno = if local {
            sys::go_on(listener, call.id);
            return Ok(());
        } else if !(wanted.is_inet() || wanted.is_unix()) || (shared && !connects) {
            libc::EPERM
        } else {
            match self.sockets.make(wanted, call.tid, shared) {
                Ok(fd) => match sys::answer_with_fd(listener, call.id, fd.as_fd(), wanted.close_on_exec()) {
                    Ok(()) => 0,
                    Err(errno) => errno,
                },
                Err(error) => error.raw_os_error(),
            }
        };
        if errno != 0 {
            refuse(listener, call, errno);
        }
        if wanted.is_unix() && errno == 0 {
            return Ok(());
        }
        let subject = Subject { kind: Some(kind), protocol: Some(protocol), errno, ..Subject::default() };
        self.see("socket", call.tid, &subject)
    }

    pub(super) fn connect(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let address = match self.address(call.tid, call.args[1], call.args[2]) {
            Ok(address) => address,
            Err(why) => return self.unread(listener, call, why),
        };
        let unix_of_ours =
            self.isolation == Isolation::Container && matches!(address, Some(Address::Unix(_)));
        if !matches!(address, Some(Address::Inet(_)))
            && !unix_of_ours
            && let Some(answer) =
                self.sockets.connect_elsewhere(call.tid, low(call.args[0]), address.as_ref())
        {
            // The address could become another one after we have read it, so the kernel must not read it again.
            sys::answer(listener, call.id, answer.map(|()| 0).map_err(rustix::io::Errno::raw_os_error));
            return Ok(());
        }
        match address {
            Some(Address::Inet(to)) => self.connect_inet(listener, call, to),
            Some(Address::Unix(path)) => self.connect_unix(listener, call, &path),
            _ => {
                sys::go_on(listener, call.id);
                Ok(())
            }
        }
    }

    fn connect_inet(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        to: SocketAddr,
    ) -> io::Result<()> {
        let loopback = to.ip().to_canonical().is_loopback();
        let to_proxy = loopback && self.proxy_port == Some(to.port());
        let to_names = loopback && to.port() == DNS_PORT && self.dns.is_some();
        self.sockets.used(call.tid, low(call.args[0]));
        let errno = if self.isolation == Isolation::Container && !to_proxy {
            refuse(listener, call, libc::ECONNREFUSED);
            libc::ECONNREFUSED
        } else {
            self.connect_ours(listener, call, to, to_proxy)?
        };
        if to_proxy || to_names {
            // Told by what is asked for there, and not by the connection.
            return Ok(());
        }
        let subject = Subject {
            address: Some(to),
            kind: Some(if to.is_ipv4() { "ipv4" } else { "ipv6" }),
            errno,
            ..Subject::default()
        };
        self.see("connect", call.tid, &subject)
    }

    /// Connects through our duplicate; the errno that the caller was given, 0 if a thread will answer.
    fn connect_ours(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        to: SocketAddr,
        to_proxy: bool,
    ) -> io::Result<i32> {
        let (for_thread, held) = (listener.try_clone_to_owned()?, *call);
        let later = move |result: Result<(), rustix::io::Errno>| {
            let result = result.map(|()| 0).map_err(rustix::io::Errno::raw_os_error);
            sys::answer(for_thread.as_fd(), held.id, result);
        };
        Ok(match self.sockets.connect(call.tid, low(call.args[0]), to, to_proxy, later) {
            Connected::Later => 0,
            Connected::Now(result) => {
                let errno = result.err().map_or(0, rustix::io::Errno::raw_os_error);
                sys::answer(listener, call.id, if errno == 0 { Ok(0) } else { Err(errno) });
                errno
            }
            // Not a socket that we made: the kernel will say what is wrong with it, for nothing else is connectable.
            Connected::Unknown => {
                refuse(listener, call, libc::ENOTSOCK);
                libc::ENOTSOCK
            }
        })
    }

    fn connect_unix(&mut self, listener: BorrowedFd<'_>, call: &Notification, path: &[u8]) -> io::Result<()> {
        if self.isolation == Isolation::Container {
            return self.connect_unix_ours(listener, call, path);
        }
        let abstract_name = path.first().is_none_or(|b| *b == 0);
        let path = if abstract_name {
            path.to_vec()
        } else {
            let caller = self.caller(call.tid, libc::AT_FDCWD);
            resolve::locate(caller, path, true)
        };
        sys::go_on(listener, call.id);
        let subject = Subject { path: Some(path), kind: Some("unix"), ..Subject::default() };
        self.see("connect", call.tid, &subject)
    }

    /// In a container: only to a socket in the package's own folders, through our duplicate and the very file that was
    /// looked at, so that nobody can put another path in its place.
    fn connect_unix_ours(
        &mut self,
        listener: BorrowedFd<'_>,
        call: &Notification,
        path: &[u8],
    ) -> io::Result<()> {
        let caller = self.caller(call.tid, libc::AT_FDCWD);
        let found = match path.first() {
            None | Some(0) => Err((libc::ECONNREFUSED, path.to_vec())),
            Some(_) => {
                resolve::open(caller, path, OFlags::PATH, Mode::empty(), &self.guarded).map_err(|e| match e {
                    resolve::OpenError::Errno(errno, path) => (errno, path),
                    resolve::OpenError::Attack(path) => (libc::EACCES, path),
                })
            }
        };
        let own = |path: &[u8]| {
            [&self.known.home, &self.known.project, &self.known.tmp].into_iter().any(|p| is_below(path, p))
        };
        let (path, result) = match found {
            Err((errno, path)) => (path, Err(errno)),
            Ok(found) if !own(&found.path) => (found.path, Err(libc::ECONNREFUSED)),
            Ok(found) => {
                let connected = self.sockets.connect_file(call.tid, low(call.args[0]), &found.fd);
                (found.path, connected.map_err(rustix::io::Errno::raw_os_error))
            }
        };
        sys::answer(listener, call.id, result.map(|()| 0));
        let errno = result.err().unwrap_or(0);
        let subject = Subject { path: Some(path), kind: Some("unix"), errno, ..Subject::default() };
        self.see("connect", call.tid, &subject)
    }

    pub(super) fn bind_or_listen(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let mut subject = Subject::default();
        if call.number == libc::SYS_bind {
            match self.address(call.tid, call.args[1], call.args[2]) {
                Ok(Some(Address::Inet(address))) => {
                    subject.kind = Some(if address.is_ipv4() { "ipv4" } else { "ipv6" });
                    subject.address = Some(address);
                }
                Ok(_) => {}
                Err(why) => return self.unread(listener, call, why),
            }
        } else {
            self.sockets.listens(call.tid, low(call.args[0]));
            let inet = resolve::descriptor(call.tid, low(call.args[0])).is_some();
            subject.kind = inet.then_some("socket");
        }
        sys::go_on(listener, call.id);
        if call.number == libc::SYS_bind && subject.address.is_none() {
            return Ok(());
        }
        self.see(calls::name(call.number), call.tid, &subject)
    }

    /// Datagrams to an address: in an empty network they reach nobody but our name server.
    pub(super) fn send_to(&mut self, listener: BorrowedFd<'_>, call: &Notification) -> io::Result<()> {
        let addresses = match self.addresses(call) {
            Ok(addresses) => addresses,
            Err(why) => return self.unread(listener, call, why),
        };
        let to_names = |a: &SocketAddr| {
            a.port() == DNS_PORT && a.ip().to_canonical().is_loopback() && self.dns.is_some()
        };
        let others: Vec<_> = addresses.into_iter().filter(|a| !to_names(a)).collect();
        // Before it goes on: a query may be answered at once.
        self.sockets.used(call.tid, low(call.args[0]));
        sys::go_on(listener, call.id);
        for address in others {
            let subject = Subject {
                address: Some(address),
                kind: Some(if address.is_ipv4() { "ipv4" } else { "ipv6" }),
                protocol: Some("udp"),
                ..Subject::default()
            };
            self.see(calls::name(call.number), call.tid, &subject)?;
        }
        Ok(())
    }

    fn addresses(&self, call: &Notification) -> Result<Vec<SocketAddr>, memory::Unread> {
        let mut pairs = Vec::new();
        let header = |at: u64| -> Result<(u64, u64), memory::Unread> {
            Ok((memory::word(call.tid, at)?, memory::word(call.tid, at.saturating_add(8))? & 0xffff_ffff))
        };
        match call.number {
            libc::SYS_sendto => pairs.push((call.args[4], call.args[5])),
            libc::SYS_sendmsg => pairs.push(header(call.args[1])?),
            _ => {
                for index in 0..call.args[2].min(MAX_MESSAGES) {
                    pairs.push(header(call.args[1].saturating_add(index * MMSGHDR))?);
                }
            }
        }
        let mut addresses = Vec::new();
        for (at, length) in pairs.into_iter().filter(|(at, _)| *at != 0) {
            if let Some(Address::Inet(address)) = self.address(call.tid, at, length)? {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    fn address(&self, tid: i32, at: u64, length: u64) -> Result<Option<Address>, memory::Unread> {
        let length = usize::try_from(length.min(MAX_ADDRESS)).unwrap_or(0);
        Ok(net::address(&memory::bytes(tid, at, length)?))
    }

    /// A query on the name server's socket: denied, and told with the name.
    pub(super) fn name_query(&mut self) -> io::Result<()> {
        let Some(dns) = &self.dns else { return Ok(()) };
        let mut query = [0; 1500];
        let Ok((_, n, from)) =
            rustix::net::recvfrom(dns, query.as_mut_slice(), rustix::net::RecvFlags::DONTWAIT)
        else {
            return Ok(());
        };
        let Some((name, kind, response)) = query.get(..n).and_then(dns::answer) else { return Ok(()) };
        let from = from.and_then(|a| SocketAddr::try_from(a).ok());
        let asker = from.and_then(|a| self.sockets.user(a.port()));
        if let Some(from) = from {
            // Nobody waits for an answer that cannot be sent.
            let _ = rustix::net::sendto(dns, &response, rustix::net::SendFlags::DONTWAIT, &from);
        }
        let subject = Subject { host: Some(name), number: Some(kind.into()), ..Subject::default() };
        self.events += 1;
        // Without a known asker it is put down to nobody, and judged all the same.
        self.see("dns", asker.unwrap_or(0), &subject)
    }

    pub(super) fn proxy_request(
        &mut self,
        peer: u16,
        host: String,
        port: u16,
        allowed: bool,
    ) -> io::Result<()> {
        let subject = Subject {
            host: Some(host),
            number: Some(port.into()),
            allowed: Some(allowed),
            ..Subject::default()
        };
        self.events += 1;
        match self.sockets.maker(peer) {
            Some(tid) => self.see("proxy", tid, &subject),
            // A connection whose maker we do not know is put down to nobody, and judged all the same.
            None => self.see("proxy", 0, &subject),
        }
    }
}
