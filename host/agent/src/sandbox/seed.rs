//! Random-looking values that a scan's seed decides: the same seed gives the same decoys.
//!
//! A hash in counter mode, separated by label. Not a source of secrets: the values have to differ from scan to scan
//! and look right, no more.

use sha2::{Digest, Sha256};

/// A stream of bytes for one label.
#[derive(Debug)]
pub(crate) struct Stream {
    prefix: Sha256,
    block: [u8; 32],
    next: usize,
    counter: u64,
}

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Stream {
    pub(crate) fn new(seed: &[u8], label: &str) -> Self {
        let mut prefix = Sha256::new();
        // The length keeps one seed and label from running into another's.
        prefix.update(u64::try_from(seed.len()).unwrap_or(u64::MAX).to_be_bytes());
        prefix.update(seed);
        prefix.update(label.as_bytes());
        Self { prefix, block: [0; 32], next: 32, counter: 0 }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        if let Some(&byte) = self.block.get(self.next) {
            self.next += 1;
            return byte;
        }
        let mut hash = self.prefix.clone();
        hash.update(self.counter.to_be_bytes());
        self.counter += 1;
        self.block = hash.finalize().into();
        self.next = 1;
        self.block.first().copied().unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// Characters of an alphabet, each equally likely.
    pub(crate) fn text(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(*self.pick(alphabet).unwrap_or(&b'0'))).collect()
    }

    pub(crate) fn base62(&mut self, count: usize) -> String {
        self.text(BASE62, count)
    }

    pub(crate) fn hex(&mut self, count: usize) -> String {
        self.text(b"0123456789abcdef", count)
    }

    /// One of a few; `None` only of none.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = u8::try_from(from.len()).unwrap_or(u8::MAX);
        if count == 0 {
            return None;
        }
        // Bytes beyond the last whole round would make the first items likelier.
        let whole = u8::MAX - (u8::MAX % count);
        loop {
            let byte = self.byte();
            if byte < whole {
                return from.get(usize::from(byte % count));
            }
        }
    }
}

/// The last six characters of the tokens of npm and GitHub: a checksum that scanners for leaked tokens verify.
pub(crate) fn with_checksum(prefix: &str, random: &str) -> String {
    let mut sum = crc32(random.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(sum % 62).ok().and_then(|i| BASE62.get(i)).copied().unwrap_or(b'0');
        sum /= 62;
    }
    format!("{prefix}{random}{}", String::from_utf8_lossy(&digits))
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_label_decide_the_bytes() {
        let bytes = |seed: &[u8], label: &str| Stream::new(seed, label).bytes(100);
        assert_eq!(bytes(b"a", "x"), bytes(b"a", "x"));
        assert_ne!(bytes(b"a", "x"), bytes(b"b", "x"));
        assert_ne!(bytes(b"a", "x"), bytes(b"a", "y"));
        assert_ne!(bytes(b"ab", "c"), bytes(b"a", "bc"));
    }

    #[test]
    fn crc32_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_token_ends_in_its_checksum() {
        let token = with_checksum("npm_", &"a".repeat(30));
        assert_eq!(token.len(), 40);
        assert!(token.starts_with("npm_aaa"));
    }
}
