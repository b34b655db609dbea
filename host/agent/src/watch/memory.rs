//! What a held call points at: strings and structures in the caller's memory.
//!
//! Unreadable is not the same as wrong: a pointer to nowhere is the program's own mistake and gets the kernel's EFAULT; a
//! process that cannot be read at all hides something, and its call is refused.

use super::resolve::PATH_MAX;
use super::sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The pointer leads nowhere.
    Fault,
    /// Longer than the kernel would take.
    TooLong,
    /// The process does not let itself be read.
    Denied,
}

impl Unread {
    pub(super) fn errno(self) -> i32 {
        match self {
            Self::Fault => libc::EFAULT,
            Self::TooLong => libc::ENAMETOOLONG,
            Self::Denied => libc::EPERM,
        }
    }
}

const PAGE: usize = 4096;

/// Exactly this many bytes.
pub(super) fn bytes(tid: i32, address: u64, length: usize) -> Result<Vec<u8>, Unread> {
    let mut buffer = vec![0; length];
    match sys::read_memory(tid, address, &mut buffer) {
        Ok(n) if n == length => Ok(buffer),
        Ok(_) => Err(Unread::Fault),
        Err(error) => Err(unread(&error)),
    }
}

/// A string up to its NUL byte, at most [`PATH_MAX`] bytes.
pub(super) fn string(tid: i32, address: u64) -> Result<Vec<u8>, Unread> {
    bounded_string(tid, address, PATH_MAX)
}

pub(super) fn bounded_string(tid: i32, address: u64, max: usize) -> Result<Vec<u8>, Unread> {
    let mut string = Vec::new();
    // The first read is short: most paths are. None crosses a page's end blindly: the next page may not be there.
    let mut want = 256;
    while string.len() < max {
        let at = address.checked_add(string.len() as u64).ok_or(Unread::Fault)?;
        let to_page_end = PAGE - usize::try_from(at % PAGE as u64).unwrap_or(0);
        let mut chunk = vec![0; want.min(to_page_end).min(max - string.len())];
        let n = match sys::read_memory(tid, at, &mut chunk) {
            Ok(0) => return Err(Unread::Fault),
            Ok(n) => n,
            Err(error) => return Err(unread(&error)),
        };
        chunk.truncate(n);
        if let Some(end) = chunk.iter().position(|b| *b == 0) {
            string.extend_from_slice(chunk.get(..end).unwrap_or_default());
            return Ok(string);
        }
        string.extend(chunk);
        want = PAGE;
    }
    Err(Unread::TooLong)
}

pub(super) fn word(tid: i32, address: u64) -> Result<u64, Unread> {
    let read = bytes(tid, address, 8)?;
    Ok(read.try_into().map(u64::from_ne_bytes).unwrap_or(0))
}

fn unread(error: &std::io::Error) -> Unread {
    match error.raw_os_error() {
        Some(libc::EFAULT) => Unread::Fault,
        // ESRCH too: a caller that died meanwhile is answered by the kernel; one that did not is hiding.
        _ => Unread::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_up_to_their_end_and_wrong_pointers_told_apart() {
        let me = i32::try_from(std::process::id()).unwrap();
        let text = [vec![b'x'; 1000], vec![0]].concat();
        assert_eq!(string(me, text.as_ptr() as u64).unwrap().len(), 1000);
        assert_eq!(bounded_string(me, text.as_ptr() as u64, 10), Err(Unread::TooLong));
        assert_eq!(string(me, 8), Err(Unread::Fault));
        assert_eq!(string(me, u64::MAX), Err(Unread::Fault));
    }
}
