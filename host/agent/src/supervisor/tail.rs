//! The end of what the phases print: bounded, however much it is.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes kept of a phase's output.
const KEEP: usize = 16 * 1024;
/// How often, and how long, to look whether the last output has arrived.
const LOOKS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Tail {
    pipe: OwnedFd,
    kept: Mutex<VecDeque<u8>>,
}

impl Tail {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe, kept: Mutex::default() }
    }

    /// Reads to the end of the pipe, in a thread of its own.
    pub(super) fn fill(&self) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => return,
                Ok(count) => self.push(buffer.get(..count).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// What was kept since the last call. Waits a moment for what a process that has just ended left in the pipe.
    pub(super) fn take(&self) -> Vec<u8> {
        for _ in 0..LOOKS {
            std::thread::sleep(PAUSE);
            if rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|waiting| waiting == 0) {
                break;
            }
        }
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes.get(bytes.len().saturating_sub(KEEP)..).unwrap_or_default());
        let excess = kept.len().saturating_sub(KEEP);
        drop(kept.drain(..excess));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_the_end_is_kept_and_taking_it_begins_anew() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let tail = Arc::new(Tail::new(reader.into()));
        let filled = Arc::clone(&tail);
        let thread = std::thread::spawn(move || filled.fill());
        writer.write_all(&vec![b'a'; 200_000]).unwrap();
        writer.write_all(b"the end").unwrap();
        let kept = tail.take();
        assert_eq!(kept.len(), KEEP);
        assert!(kept.ends_with(b"athe end"));
        writer.write_all(b"second").unwrap();
        assert_eq!(tail.take(), b"second");
        drop(writer);
        thread.join().unwrap();
    }
}
