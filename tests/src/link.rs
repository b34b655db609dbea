//! A TCP connection's way between two programs, that a test can cut: whatever is open breaks, and nothing new comes through
//! until it is mended.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

pub struct Link {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    is_cut: AtomicBool,
    is_over: AtomicBool,
    connections: AtomicUsize,
}

const LOOK: Duration = Duration::from_millis(20);

impl Link {
    /// From a port of this address to wherever `to` is at that moment.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(from)?;
        listener.set_nonblocking(true)?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let theirs = shared.clone();
        thread::spawn(move || {
            while !theirs.is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => theirs.join(client, to),
                    Err(_) => thread::sleep(LOOK),
                }
            }
        });
        Ok(Self { address, shared })
    }

    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::Relaxed);
        for stream in self.shared.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::Relaxed);
    }

    /// So many have come through.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that cannot come through finds its connection closed.
    fn join(&self, client: TcpStream, to: SocketAddr) {
        if self.is_cut.load(Ordering::Relaxed) {
            return;
        }
        let Ok(server) = TcpStream::connect(to) else { return };
        if self.carry(&client, &server).is_ok() {
            self.connections.fetch_add(1, Ordering::Relaxed);
            self.open().extend([client, server]);
        }
    }

    fn carry(&self, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
        for stream in [client, server] {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
        }
        for (from, to) in [(client, server), (server, client)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }
}
