//! Answers every name with "there is no such name", and says which names were asked for.
//!
//! Inside the sandbox there is no way to a real server; what a lookup carries out (data hidden in labels) is in the
//! name itself. Queries come from the package: anything may stand in them.

const HEADER: usize = 12;
const MAX_NAME: usize = 253;

/// A query's name and type, and the answer to send back. `None` for what is no query.
pub(super) fn answer(query: &[u8]) -> Option<(String, u16, Vec<u8>)> {
    let header = query.get(..HEADER)?;
    let is_response = header.get(2)? & 0x80 != 0;
    let questions = u16::from_be_bytes([*header.get(4)?, *header.get(5)?]);
    if is_response || questions == 0 {
        return None;
    }
    let (name, end) = name(query, HEADER)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let question_end = end + 4;
    let mut response = query.get(..question_end)?.to_vec();
    let recursion = response.get(2).copied().unwrap_or(0) & 1;
    // QR, RD as asked; RA, NXDOMAIN. One question, no records.
    for (at, byte) in
        [(2, 0x80 | recursion), (3, 0x83), (4, 0), (5, 1), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0)]
    {
        if let Some(place) = response.get_mut(at) {
            *place = byte;
        }
    }
    Some((name, kind, response))
}

/// Labels up to the empty one; no compression, which a question never needs.
fn name(query: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((if name.is_empty() { ".".into() } else { name }, at));
        }
        if length > 63 {
            return None;
        }
        let label = query.get(at..at + length)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(*byte)),
                _ => name.push_str(&format!("\\{byte:03}")),
            }
        }
        if name.len() > MAX_NAME * 4 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(labels: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend_from_slice(label);
        }
        bytes.extend([0, 0, 1, 0, 1]);
        bytes
    }

    #[test]
    fn a_query_is_named_and_denied() {
        let (name, kind, response) = answer(&query(&[b"68656c6c6f", b"evil", b"invalid"])).unwrap();
        assert_eq!((name.as_str(), kind), ("68656c6c6f.evil.invalid", 1));
        assert_eq!(&response[..4], [0xab, 0xcd, 0x81, 0x83]);
        assert_eq!(answer(&query(&[b"a\x1b.b"])).unwrap().0, "a\\027\\046b");
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let mut response = query(&[b"a"]);
        response[2] |= 0x80;
        assert_eq!(answer(&response), None);
        assert_eq!(answer(&query(&[b"a"])[..14]), None);
        assert_eq!(answer(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes);
        }
    }
}
