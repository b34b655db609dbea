//! The spool: numbered lines on disk, in segments. What a call has put in is there after a power cut.
//!
//! A record is `INODE OFFSET LINE`: where in the source the line ended, so that a tail that is started again goes on right
//! behind it, no line lost and none twice. A record that was cut by a crash is taken off at the next start: its source
//! still has it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

const SEGMENT_BYTES: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("{0}")]
    Io(String, #[source] std::io::Error),
    #[error("{0} belongs to another relay that runs: give each its own --spool")]
    InUse(String),
    #[error("{0} is no segment of a spool: the folder is for the relay alone")]
    Strange(String),
}

/// Where in the source a line ended; zeros where a source has no places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) inode: u64,
    pub(super) offset: u64,
}

pub(super) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    /// Held for as long as this spool is in use.
    _lock: File,
    pub(super) id: String,
    state: Mutex<State>,
    pub(super) grown: Notify,
}

struct State {
    segments: VecDeque<Segment>,
    writer: Option<File>,
    /// The number of the next line.
    next: u64,
    acknowledged: u64,
    position: Option<Position>,
    cursor: Option<Cursor>,
    ended: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

/// Where the next read most likely begins.
#[derive(Clone, Copy)]
struct Cursor {
    number: u64,
    segment: u64,
    offset: u64,
}

impl Spool {
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let io = |what: &str| {
            let what = format!("{what} in {}", folder.display());
            move |error| SpoolError::Io(what, error)
        };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(io("no folder can be made"))?;
        let lock = File::create(folder.join("lock")).map_err(io("no lock can be made"))?;
        if lock.try_lock().is_err() {
            return Err(SpoolError::InUse(folder.display().to_string()));
        }
        let id = identity(folder).map_err(io("the id cannot be kept"))?;
        let acknowledged = std::fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
        let acknowledged: u64 = acknowledged.trim().parse().unwrap_or(0);
        let mut state = State {
            segments: VecDeque::new(),
            writer: None,
            next: acknowledged + 1,
            acknowledged,
            position: None,
            cursor: None,
            ended: false,
            closed: false,
        };
        for first in segments(folder)? {
            let path = segment(folder, first);
            let (lines, bytes, position) = recover(&path).map_err(io("a segment cannot be read"))?;
            state.segments.push_back(Segment { first, bytes });
            state.next = first + lines;
            state.position = position.or(state.position);
        }
        // A lost note of what was acknowledged only means that it is sent again.
        let oldest = state.segments.front().map_or(state.next, |s| s.first);
        state.acknowledged = acknowledged.clamp(oldest.saturating_sub(1), state.next - 1);
        let state = Mutex::new(state);
        Ok(Self { folder: folder.to_owned(), max_bytes, _lock: lock, id, state, grown: Notify::new() })
    }

    /// Where to go on reading; `None` in a new spool.
    pub(super) fn position(&self) -> Option<Position> {
        self.state().position
    }

    pub(super) fn is_new(&self) -> bool {
        self.state().next == 1
    }

    pub(super) fn is_full(&self) -> bool {
        self.state().segments.iter().map(|s| s.bytes).sum::<u64>() >= self.max_bytes
    }

    /// Puts lines in; they are on disk when this returns.
    pub(super) fn append(&self, lines: &[(Position, Vec<u8>)]) -> std::io::Result<()> {
        let mut state = self.state();
        let full = state.segments.back().is_none_or(|s| s.bytes >= SEGMENT_BYTES);
        if full || state.writer.is_none() {
            let first = if full { state.next } else { state.segments.back().map_or(state.next, |s| s.first) };
            let path = segment(&self.folder, first);
            state.writer = Some(OpenOptions::new().create(true).append(true).open(path)?);
            if full {
                File::open(&self.folder)?.sync_all()?;
                state.segments.push_back(Segment { first, bytes: 0 });
            }
        }
        let mut text = Vec::new();
        for (position, line) in lines {
            text.extend(format!("{} {} ", position.inode, position.offset).into_bytes());
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        if let Some(writer) = &mut state.writer {
            writer.write_all(&text)?;
            writer.sync_data()?;
        }
        if let Some(last) = state.segments.back_mut() {
            last.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        }
        state.next += u64::try_from(lines.len()).unwrap_or_default();
        state.position = lines.last().map(|(p, _)| *p).or(state.position);
        drop(state);
        self.grown.notify_one();
        Ok(())
    }

    /// The last line that was acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.state().acknowledged
    }

    /// The last line that was put in.
    pub(super) fn last(&self) -> u64 {
        self.state().next - 1
    }

    /// Lines from number `from` on, joined by line ends, and how many there are.
    pub(super) fn read(
        &self,
        from: u64,
        max_lines: usize,
        max_bytes: usize,
    ) -> std::io::Result<(Vec<u8>, u64)> {
        let mut state = self.state();
        let (mut body, mut lines) = (Vec::new(), 0);
        if from >= state.next {
            return Ok((body, lines));
        }
        let Some(found) = state.segments.iter().rev().find(|s| s.first <= from).copied() else {
            return Ok((body, lines));
        };
        let start = state.cursor.filter(|c| c.number == from && c.segment == found.first);
        let start = start.unwrap_or(Cursor { number: found.first, segment: found.first, offset: 0 });
        let mut file = File::open(segment(&self.folder, found.first))?;
        file.seek(SeekFrom::Start(start.offset))?;
        let mut reader = BufReader::new(file.take(found.bytes.saturating_sub(start.offset)));
        let (mut number, mut offset) = (start.number, start.offset);
        let mut record = Vec::new();
        while lines < u64::try_from(max_lines).unwrap_or(u64::MAX) && body.len() < max_bytes {
            record.clear();
            let read = reader.read_until(b'\n', &mut record)?;
            if read == 0 {
                break;
            }
            offset += u64::try_from(read).unwrap_or_default();
            if number >= from {
                body.extend_from_slice(line_of(&record));
                lines += 1;
            }
            number += 1;
        }
        state.cursor = Some(Cursor { number, segment: found.first, offset });
        Ok((body, lines))
    }

    /// Everything up to this number has arrived for good.
    pub(super) fn acknowledge(&self, number: u64) -> std::io::Result<()> {
        let mut state = self.state();
        if number <= state.acknowledged || number >= state.next {
            return Ok(());
        }
        state.acknowledged = number;
        std::fs::write(self.folder.join("acknowledged.new"), number.to_string())?;
        std::fs::rename(self.folder.join("acknowledged.new"), self.folder.join("acknowledged"))?;
        // The last segment stays: it says where to go on reading.
        while state.segments.get(1).is_some_and(|second| second.first <= number + 1) {
            if let Some(old) = state.segments.pop_front() {
                std::fs::remove_file(segment(&self.folder, old.first))?;
            }
        }
        Ok(())
    }

    /// Nothing more will be put in.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.grown.notify_one();
    }

    /// Nobody sends any more: the reader stops, and the next relay goes on where it stood.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Nothing more will be put in, and all that was is acknowledged.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.ended && state.acknowledged + 1 == state.next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random name, so that a host tells a new spool from one that was emptied.
fn identity(folder: &Path) -> std::io::Result<String> {
    let path = folder.join("id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let id = format!("{:032x}", u128::from_be_bytes(random));
    std::fs::write(folder.join("id.new"), &id)?;
    std::fs::rename(folder.join("id.new"), path)?;
    Ok(id)
}

fn segment(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

fn segments(folder: &Path) -> Result<Vec<u64>, SpoolError> {
    let read = std::fs::read_dir(folder);
    let entries = read.map_err(|e| SpoolError::Io(format!("{} cannot be read", folder.display()), e))?;
    let mut firsts = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_suffix(".seg") {
            firsts.push(number.parse().map_err(|_| SpoolError::Strange(name.clone()))?);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Lines, bytes and the last position of a segment; what a crash has cut off is removed.
fn recover(path: &Path) -> std::io::Result<(u64, u64, Option<Position>)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut lines, mut bytes, mut position) = (0, 0, None);
    let mut record = Vec::new();
    loop {
        record.clear();
        let read = reader.read_until(b'\n', &mut record)?;
        if read == 0 || record.last() != Some(&b'\n') {
            break;
        }
        lines += 1;
        bytes += u64::try_from(read).unwrap_or_default();
        position = position_of(&record).or(position);
    }
    file.set_len(bytes)?;
    Ok((lines, bytes, position))
}

fn position_of(record: &[u8]) -> Option<Position> {
    let mut parts = record.splitn(3, |b| *b == b' ');
    let mut number = || str::from_utf8(parts.next()?).ok()?.parse().ok();
    Some(Position { inode: number()?, offset: number()? })
}

/// The line of a record, with its line end.
fn line_of(record: &[u8]) -> &[u8] {
    record.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(spool: &Spool, lines: &[&str]) {
        let at = |n: usize| Position { inode: 7, offset: n as u64 };
        let lines: Vec<_> = lines.iter().enumerate().map(|(n, l)| (at(n), l.as_bytes().to_vec())).collect();
        spool.append(&lines).unwrap();
    }

    fn text(spool: &Spool, from: u64, max: usize) -> String {
        String::from_utf8(spool.read(from, max, 1 << 20).unwrap().0).unwrap()
    }

    #[test]
    fn lines_are_numbered_read_again_and_forgotten_when_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 1 << 30).unwrap();
        assert!(spool.is_new() && spool.position().is_none());
        put(&spool, &["a b", "{\"c\": 1}", "d"]);
        assert_eq!(text(&spool, 1, 2), "a b\n{\"c\": 1}\n");
        assert_eq!(text(&spool, 3, 2), "d\n");
        assert_eq!(text(&spool, 2, 1), "{\"c\": 1}\n");
        assert_eq!(text(&spool, 4, 9), "");
        spool.acknowledge(2).unwrap();
        spool.acknowledge(99).unwrap();
        assert_eq!(spool.acknowledged(), 2);
        let second = Spool::open(folder.path(), 1).err().unwrap().to_string();
        assert!(second.contains("belongs to another relay"), "{second}");
    }

    #[test]
    fn a_cut_record_is_taken_off_and_everything_else_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 1 << 30).unwrap();
        put(&spool, &["a", "b"]);
        spool.acknowledge(1).unwrap();
        let id = spool.id.clone();
        drop(spool);
        let mut file = OpenOptions::new().append(true).open(segment(folder.path(), 1)).unwrap();
        file.write_all(b"7 9 cu").unwrap();
        let spool = Spool::open(folder.path(), 1 << 30).unwrap();
        assert_eq!((spool.acknowledged(), spool.id.clone()), (1, id));
        assert_eq!(spool.position(), Some(Position { inode: 7, offset: 1 }));
        put(&spool, &["c"]);
        assert_eq!(text(&spool, 2, 9), "b\nc\n");
    }

    #[test]
    fn full_segments_go_when_all_of_them_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 3 * SEGMENT_BYTES).unwrap();
        let long = "x".repeat(1 << 20);
        for _ in 0..30 {
            put(&spool, &[&long]);
        }
        assert!(spool.is_full());
        assert_eq!(segments(folder.path()).unwrap(), [1, 9, 17, 25]);
        assert_eq!(spool.read(8, 99, 99 << 20).unwrap().1, 1, "a read ends with its segment");
        spool.acknowledge(16).unwrap();
        assert_eq!(segments(folder.path()).unwrap(), [17, 25]);
        assert!(!spool.is_full());
        spool.end();
        assert!(!spool.is_over());
        spool.acknowledge(30).unwrap();
        assert!(spool.is_over());
        std::fs::write(folder.path().join("x.seg"), "").unwrap();
        drop(spool);
        let strange = Spool::open(folder.path(), 1).err().unwrap().to_string();
        assert_eq!(strange, "x.seg is no segment of a spool: the folder is for the relay alone");
    }
}
