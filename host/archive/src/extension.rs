//! Headers that speak of the entry after them: GNU long names and PAX records, of bounded length.

use std::io::Read;

use tar::{EntryType, Header};

use crate::ArchiveError;
use crate::error::shown;

/// Attributes of macOS and SELinux fit many times.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// What the headers before an entry said about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) sparse: bool,
    gnu_path: bool,
    gnu_link: bool,
    pax: bool,
}

impl Extension {
    /// Whether a header is of this kind, and not an entry.
    pub(crate) fn is_one(header: &Header) -> bool {
        use EntryType::{GNULongLink, GNULongName, XGlobalHeader, XHeader};
        matches!(header.entry_type(), GNULongName | GNULongLink | XHeader | XGlobalHeader)
    }

    /// Takes in a header and its bytes.
    pub(crate) fn read(
        &mut self,
        header: &Header,
        size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        if size > MAX_BYTES {
            return Err(ArchiveError::LongHeader(MAX_BYTES));
        }
        let mut content = Vec::new();
        bytes.read_to_end(&mut content).map_err(ArchiveError::of_read)?;
        match header.entry_type() {
            EntryType::GNULongName => {
                once(&mut self.gnu_path)?;
                // What a PAX record says goes before it, whichever comes first.
                self.path.get_or_insert_with(|| without_nul(content));
            }
            EntryType::GNULongLink => {
                once(&mut self.gnu_link)?;
                self.link.get_or_insert_with(|| without_nul(content));
            }
            EntryType::XHeader => {
                once(&mut self.pax)?;
                self.pax_records(&content)?;
            }
            _ => {
                // A global header speaks of every entry; `git archive` leaves the commit there and nothing else.
                let mut global = Self::default();
                global.pax_records(&content)?;
                if global != Self::default() {
                    return Err(ArchiveError::Contradiction(shown(&header.path_bytes())));
                }
            }
        }
        Ok(())
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts itself; the last of a key wins.
    fn pax_records(&mut self, mut rest: &[u8]) -> Result<(), ArchiveError> {
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or(ArchiveError::Damaged("a PAX record is malformed"))?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    self.size = Some(size.ok_or(ArchiveError::Damaged("a size is not a number"))?);
                }
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            rest = after;
        }
        Ok(())
    }
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let digits = bytes.get(..space).filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, after))
}

fn once(seen: &mut bool) -> Result<(), ArchiveError> {
    if std::mem::replace(seen, true) {
        return Err(ArchiveError::Damaged("two headers of a kind speak of one entry"));
    }
    Ok(())
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(bytes: &[u8]) -> Result<Extension, ArchiveError> {
        let mut extension = Extension::default();
        extension.pax_records(bytes).map(|()| extension)
    }

    #[test]
    fn records_are_read_and_bad_ones_are_refused() {
        let good = parsed(b"12 path=abc\n30 mtime=1712345678.123456789\n9 size=7\n").unwrap();
        assert_eq!((good.path, good.size), (Some(b"abc".to_vec()), Some(7)));
        assert!(parsed(b"22 GNU.sparse.major=1\n").unwrap().sparse);
        for bad in [&b"x"[..], b"12 path=abc", b"99 path=abc\n", b"0 path=abc\n", b"3 a\n", b"+12 path=abc\n"]
        {
            assert!(matches!(parsed(bad), Err(ArchiveError::Damaged(_))), "{bad:?}");
        }
        assert!(matches!(parsed(b"10 size=-7\n"), Err(ArchiveError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parsed(&bytes);
        }

        #[test]
        fn any_path_comes_out_as_it_went_in(path in prop::collection::vec(any::<u8>(), 0..300)) {
            let body = [b" path=", path.as_slice(), b"\n"].concat();
            let length = (1..5).map(|d| body.len() + d).find(|n| n.to_string().len() + body.len() == *n).unwrap();
            let record = [length.to_string().as_bytes(), &body].concat();
            prop_assert_eq!(parsed(&record).unwrap().path, Some(path));
        }
    }
}
