//! Names of things: the scan id and the owner of a scan.
//!
//! Ids sort by time of creation, so the store can page through scans by key alone. They are made from a clock value
//! and random bytes that the caller brings; this module has neither.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A scan's id: 32 lower-case hex digits, the first 12 the creation time in milliseconds, then 80 random bits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScanId(String);

/// Who submitted a scan: the name of the credential. Set by the host, never taken from a guest or a request body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scan id is 32 lower-case hex digits")]
pub struct BadScanId;

impl ScanId {
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut text = format!("{:012x}", unix_ms & 0xffff_ffff_ffff);
        for byte in random {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScanId {
    type Err = BadScanId;

    fn from_str(text: &str) -> Result<Self, BadScanId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) { Ok(Self(text.to_owned())) } else { Err(BadScanId) }
    }
}

impl TryFrom<String> for ScanId {
    type Error = BadScanId;

    fn try_from(text: String) -> Result<Self, BadScanId> {
        text.parse()
    }
}

impl From<ScanId> for String {
    fn from(id: ScanId) -> Self {
        id.0
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Owner {
    /// The owner of scans made at the desk, where there are no credentials.
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_a_round_trip() {
        let early = ScanId::new(1_000, [0xff; 10]);
        let late = ScanId::new(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.as_str().parse::<ScanId>(), Ok(early));
    }

    #[test]
    fn anything_else_is_no_id() {
        for text in [
            "",
            "abc",
            &"g".repeat(32),
            &"A".repeat(32),
            &"0".repeat(33),
            "../../../../../../etc/passwd/////",
        ] {
            assert_eq!(text.parse::<ScanId>(), Err(BadScanId), "{text}");
        }
    }
}
