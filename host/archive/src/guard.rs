//! The bytes out of the gzip file, counted as they come, so that no lie in a header matters.
//!
//! The way out is `Read`: a limit that is hit, or a gzip file that is none, is an `io::Error` that carries our own.

use std::cell::Cell;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use crate::{ArchiveError, Limits};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The magic bytes, which were looked at already, and the rest.
type Compressed<R> = Chain<Cursor<[u8; 2]>, BufReader<Counted<R>>>;

pub(crate) struct Guard<R: Read> {
    inner: GzDecoder<Compressed<R>>,
    compressed: Rc<Cell<u64>>,
    unpacked: u64,
    limits: Limits,
}

impl<R: Read> Guard<R> {
    pub(crate) fn new(reader: R, limits: &Limits) -> Result<Self, ArchiveError> {
        let compressed = Rc::new(Cell::new(0));
        let counted = Counted { inner: reader, count: compressed.clone() };
        let mut buffered = BufReader::with_capacity(32 * 1024, counted);
        let mut magic = [0; 2];
        buffered.read_exact(&mut magic).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::NotGzip,
            _ => ArchiveError::Read(e),
        })?;
        if magic != MAGIC {
            return Err(ArchiveError::NotGzip);
        }
        let inner = GzDecoder::new(Cursor::new(magic).chain(buffered));
        Ok(Self { inner, compressed, unpacked: 0, limits: *limits })
    }

    /// Reads on to the end of the gzip file, where its checksum is, and makes sure that nothing follows.
    pub(crate) fn finish(mut self) -> Result<(), ArchiveError> {
        io::copy(&mut self, &mut io::sink()).map_err(ArchiveError::of_read)?;
        let mut rest = self.inner.into_inner();
        let mut after = [0; 2];
        let mut n = 0;
        while let Some(room) = after.get_mut(n..).filter(|r| !r.is_empty()) {
            match rest.read(room).map_err(ArchiveError::Read)? {
                0 => break,
                read => n += read,
            }
        }
        match after.get(..n) {
            Some([]) => Ok(()),
            Some(bytes) if bytes == MAGIC => Err(ArchiveError::SecondMember),
            _ => Err(ArchiveError::TrailingBytes),
        }
    }

    fn reason(&self) -> Option<ArchiveError> {
        // Headers are 512 bytes each, names and attributes may fill more: the bound on bytes allows for them.
        let room = self.limits.unpacked_bytes.saturating_add(self.limits.entries.saturating_mul(4096));
        let most = self.compressed.get().saturating_mul(self.limits.ratio);
        if self.unpacked > room {
            Some(ArchiveError::TooLarge(self.limits.unpacked_bytes))
        } else if self.unpacked > self.limits.ratio_from && self.unpacked > most {
            Some(ArchiveError::Bomb(self.limits.ratio))
        } else {
            None
        }
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).map_err(of_decoding)?;
        self.unpacked = self.unpacked.saturating_add(n as u64);
        self.reason().map_or(Ok(n), |reason| Err(io::Error::other(reason)))
    }
}

fn of_decoding(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(ArchiveError::Truncated),
        // The decoder's two words for bytes that it did not expect.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            io::Error::other(ArchiveError::Damaged("its compression or its checksum is wrong"))
        }
        _ => error,
    }
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                // A signal is no reason to refuse an archive.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let n = result?;
                    self.count.set(self.count.get().saturating_add(n as u64));
                    return Ok(n);
                }
            }
        }
    }
}
