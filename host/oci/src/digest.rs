//! The name of content: the SHA-256 of its bytes. Other algorithms are refused by name, so that no weaker one creeps in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::text::shown;

const PREFIX: &str = "sha256:";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("{} is no digest: sha256: and 64 hexadecimal digits in lower case are needed", shown(.0))]
    Form(String),
    #[error("digests by {} are not accepted, only by sha256", shown(.0))]
    Algorithm(String),
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Without the `sha256:`.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let bad = || DigestError::Form(text.to_owned());
        let (algorithm, hex) = text.split_once(':').ok_or_else(bad)?;
        let known = ["sha384", "sha512", "blake3"];
        if known.contains(&algorithm) {
            return Err(DigestError::Algorithm(algorithm.to_owned()));
        }
        if algorithm != "sha256" || hex.len() != 64 {
            return Err(bad());
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(bad()) };
            *byte = (digit(high).ok_or_else(bad)? << 4) | digit(low).ok_or_else(bad)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_it_was_read() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        let json = serde_json::to_string(&Digest::of(b"")).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::of(b""));
    }

    #[test]
    fn whatever_is_no_sha256_is_refused_with_its_reason() {
        let form = "sha256: and 64 hexadecimal digits in lower case are needed";
        let digits = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:00",
            &format!("sha256:{digits}"),
            &format!("sha256:{}é", "0".repeat(62)),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.ends_with(form), "{text}: {error}");
        }
        let error = "sha512:00".parse::<Digest>().unwrap_err();
        assert_eq!(error.to_string(), "digests by \"sha512\" are not accepted, only by sha256");
    }
}
