//! Where lines come from: standard input (Falco's `program_output`), or the file of Falco's `file_output`, followed through
//! rotation and truncation. Whatever may have been missed becomes a line that says so, in its place among the others.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spool::{Position, Spool};
use crate::intake::relay::BROKEN_LINE;

/// The longest line; a longer one is no alert of Falco's.
const MAX_LINE: usize = 1 << 20;
const BATCH: usize = 1000;
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// Reads into the spool until the source ends; a file does not end.
    pub(super) fn read(&self, spool: &Spool) -> Result<(), super::RelayError> {
        let read = match self {
            Self::Stdin => stdin(std::io::stdin().lock(), spool),
            Self::File(path) => tail(path, spool, &|| spool.is_closed()),
        };
        read.map_err(super::RelayError::Source)
    }
}

/// Lines on their way into the spool.
struct Lines<'s> {
    spool: &'s Spool,
    batch: Vec<(Position, Vec<u8>)>,
}

impl Lines<'_> {
    fn push(&mut self, position: Position, line: &[u8]) -> std::io::Result<()> {
        let line = line.trim_ascii();
        if line.len() > MAX_LINE || line.contains(&b'\n') {
            self.batch.push((position, BROKEN_LINE.into()));
        } else if !line.is_empty() {
            self.batch.push((position, line.to_vec()));
        }
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn broken(&mut self, position: Position) -> std::io::Result<()> {
        self.push(position, BROKEN_LINE.as_bytes())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.spool.is_full() {
            if self.spool.is_closed() {
                return Err(std::io::Error::other("the relay stopped while its spool was full"));
            }
            std::thread::sleep(PAUSE);
        }
        self.spool.append(&std::mem::take(&mut self.batch))
    }
}

fn stdin(input: impl Read, spool: &Spool) -> std::io::Result<()> {
    let mut lines = Lines { spool, batch: Vec::new() };
    // Between the relay before this one and now, Falco may have written to nobody.
    if !spool.is_new() {
        lines.broken(Position::default())?;
        lines.flush()?;
    }
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? > 0 {
        lines.push(Position::default(), &line)?;
        // Nothing waits behind it: do not let it wait either.
        if input.buffer().is_empty() {
            lines.flush()?;
        }
    }
    lines.flush()
}

/// One line, of which no more than a little above the bound is kept; how many bytes it had.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    let mut length = 0;
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Ok(length);
        }
        let end = memchr(available).map_or(available.len(), |at| at + 1);
        let (part, _) = available.split_at(end);
        if line.len() <= MAX_LINE {
            line.extend_from_slice(part);
        }
        let ended = part.last() == Some(&b'\n');
        input.consume(end);
        length += u64::try_from(end).unwrap_or_default();
        if ended {
            return Ok(length);
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

/// Follows a file by its path, until `stop`.
fn tail(path: &Path, spool: &Spool, stop: &dyn Fn() -> bool) -> std::io::Result<()> {
    let mut lines = Lines { spool, batch: Vec::new() };
    let mut open = match spool.position() {
        Some(position) => go_on(path, position, &mut lines)?,
        None => None,
    };
    while !stop() {
        let Some(current) = &mut open else {
            match File::open(path) {
                Ok(file) => open = Some(Followed::new(file, 0)?),
                Err(_) => std::thread::sleep(PAUSE),
            }
            continue;
        };
        // Asked before the read: what was written before the rotation is then read after the question.
        let replaced = std::fs::metadata(path).map_or(true, |m| m.ino() != current.inode);
        let read = current.read(&mut lines)?;
        lines.flush()?;
        if read == 0 && replaced {
            match std::fs::metadata(path) {
                Ok(_) => open = None,
                Err(_) => std::thread::sleep(PAUSE),
            }
        } else if read == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Where an earlier relay stopped: in the file, or in what the file was rotated to.
fn go_on(path: &Path, position: Position, lines: &mut Lines<'_>) -> std::io::Result<Option<Followed>> {
    let beside = std::fs::read_dir(path.parent().unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let candidates = std::iter::once(path.to_owned()).chain(beside.map(|entry| entry.path()));
    for candidate in candidates {
        let same = std::fs::metadata(&candidate).is_ok_and(|m| m.is_file() && m.ino() == position.inode);
        if same && let Ok(file) = File::open(&candidate) {
            return Ok(Some(Followed::new(file, position.offset)?));
        }
    }
    lines.broken(position)?;
    lines.flush()?;
    Ok(None)
}

struct Followed {
    file: BufReader<File>,
    inode: u64,
    offset: u64,
}

impl Followed {
    fn new(mut file: File, offset: u64) -> std::io::Result<Self> {
        let inode = file.metadata()?.ino();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), inode, offset })
    }

    /// Reads the whole lines that are there; how many.
    fn read(&mut self, lines: &mut Lines<'_>) -> std::io::Result<usize> {
        // Truncated in place: what stood between our place and the cut is gone unread, if anything did.
        if self.file.get_ref().metadata()?.len() < self.offset {
            self.offset = 0;
            self.file.seek(SeekFrom::Start(0))?;
            lines.broken(Position { inode: self.inode, offset: 0 })?;
        }
        let (mut count, mut line) = (0, Vec::new());
        while count < BATCH {
            let length = read_line(&mut self.file, &mut line)?;
            if length == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && line.len() <= MAX_LINE {
                // Half a line: it is read again when the rest is there.
                self.file.seek(SeekFrom::Start(self.offset))?;
                break;
            }
            self.offset += length;
            lines.push(Position { inode: self.inode, offset: self.offset }, &line)?;
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn all(spool: &Spool) -> Vec<String> {
        let (body, _) = spool.read(1, 10_000, 64 << 20).unwrap();
        String::from_utf8(body).unwrap().lines().map(str::to_owned).collect()
    }

    /// Tails while `act` writes, until the spool holds `count` lines.
    fn tailed(path: &Path, spool: &Spool, count: usize, act: impl FnOnce() + Send) -> Vec<String> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| tail(path, spool, &|| stop.load(Ordering::Relaxed)));
            act();
            for _ in 0..400 {
                if all(spool).len() >= count {
                    break;
                }
                std::thread::sleep(Duration::from_millis(25));
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().unwrap().unwrap();
        });
        all(spool)
    }

    fn write(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_is_followed_through_rotation_and_restarts_without_loss_or_doubles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let open = || Spool::open(&folder.path().join("spool"), 1 << 30).unwrap();
        write(&path, "1\n2\n3");
        assert_eq!(tailed(&path, &open(), 2, || {}), ["1", "2"], "half a line is no line");
        // Rotated while nobody looked.
        write(&path, "\n4\n");
        std::fs::rename(&path, folder.path().join("events.jsonl.1")).unwrap();
        write(&path, "5\n");
        assert_eq!(tailed(&path, &open(), 5, || {}), ["1", "2", "3", "4", "5"]);
        // Rotated while it is followed.
        let lines = tailed(&path, &open(), 7, || {
            write(&path, "6\n");
            std::fs::rename(&path, folder.path().join("events.jsonl.2")).unwrap();
            write(&path, "7\n");
        });
        assert_eq!(lines, ["1", "2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn truncation_and_a_vanished_file_are_told_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let open = || Spool::open(&folder.path().join("spool"), 1 << 30).unwrap();
        write(&path, "1\n2\n");
        assert_eq!(tailed(&path, &open(), 2, || {}).len(), 2);
        std::fs::write(&path, "3\n").unwrap();
        assert_eq!(tailed(&path, &open(), 4, || {}), ["1", "2", BROKEN_LINE, "3"]);
        std::fs::remove_file(&path).unwrap();
        // Another file takes the inode, so that the new one cannot be taken for the old one.
        write(&folder.path().join("spool/other"), "");
        write(&path, "4\n");
        let lines = tailed(&path, &open(), 6, || {});
        assert_eq!(lines.last().unwrap(), "4");
        assert!(lines.len() >= 5, "{lines:?}");
    }

    #[test]
    fn standard_input_is_read_to_its_end_and_a_second_start_is_a_break() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(MAX_LINE + 10);
        let spool = Spool::open(folder.path(), 1 << 30).unwrap();
        stdin(format!("a\n\n  b \n{long}\nc").as_bytes(), &spool).unwrap();
        assert_eq!(all(&spool), ["a", "b", BROKEN_LINE, "c"]);
        stdin(b"d\n".as_slice(), &spool).unwrap();
        assert_eq!(all(&spool), ["a", "b", BROKEN_LINE, "c", BROKEN_LINE, "d"]);
    }
}
