//! The first lines of a request to a proxy and of its answer: which host was asked for, and what became of it.
//!
//! Pure, and never in the way: what does not parse is forwarded all the same, and the proxy judges it.

/// The longest head of a request that is looked at.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The longest status line.
pub(crate) const MAX_STATUS: usize = 1024;
/// A host name has at most this many bytes (RFC 1035).
const MAX_HOST: usize = 253;

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// In the place of one that could not be read.
    pub(crate) fn unreadable() -> Self {
        Self { host: "(unreadable)".into(), port: 0 }
    }
}

/// The target of `CONNECT host:port HTTP/1.1` or `GET http://host[:port]/… HTTP/1.1`.
pub(crate) fn target(head: &[u8]) -> Option<Target> {
    let line = head.split(|&b| b == b'\n').next()?;
    let line = str::from_utf8(line).ok()?.trim_end_matches('\r');
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    if method == "CONNECT" {
        return authority(target, None);
    }
    let (scheme, rest) = target.split_once("://")?;
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority_text = rest.get(..end)?;
    // A user's name and password belong to nobody's report.
    authority(authority_text.rsplit_once('@').map_or(authority_text, |(_, host)| host), Some(port))
}

/// The status of `HTTP/1.1 403 Forbidden`.
pub(crate) fn status(line: &[u8]) -> Option<u16> {
    let line = str::from_utf8(line.split(|&b| b == b'\n').next()?).ok()?;
    let mut words = line.trim_end_matches('\r').split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|code| (100..600).contains(code))
}

fn authority(text: &str, default: Option<u16>) -> Option<Target> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (host, after.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default?,
    };
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b));
    if host.is_empty() || host.len() > MAX_HOST || !plain {
        return None;
    }
    Some(Target { host: host.to_ascii_lowercase(), port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(line: &str) -> Option<(String, u16)> {
        target(line.as_bytes()).map(|t| (t.host, t.port))
    }

    #[test]
    fn both_forms_of_a_request_are_read() {
        let expected = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(
            found("CONNECT Example.invalid:443 HTTP/1.1\r\nHost: x\r\n"),
            expected("example.invalid", 443)
        );
        assert_eq!(found("CONNECT [::1]:8443 HTTP/1.1\r\n"), expected("::1", 8443));
        assert_eq!(found("GET http://a.invalid/x?y HTTP/1.1\r\n"), expected("a.invalid", 80));
        assert_eq!(found("GET http://u:p@a.invalid:81/ HTTP/1.0\n"), expected("a.invalid", 81));
        assert_eq!(found("POST https://a.invalid HTTP/1.1"), expected("a.invalid", 443));
    }

    #[test]
    fn what_is_no_proxy_request_has_no_target() {
        for bad in [
            "",
            "GET / HTTP/1.1",
            "CONNECT a.invalid HTTP/1.1",
            "CONNECT a.invalid:99999 HTTP/1.1",
            "CONNECT a.invalid:443",
            "CONNECT a b:443 HTTP/1.1",
            "CONNECT \u{1b}[2J:443 HTTP/1.1",
            "GET ftp://a.invalid/ HTTP/1.1",
            "CONNECT :443 HTTP/1.1",
        ] {
            assert_eq!(found(bad), None, "{bad:?}");
        }
        assert_eq!(found(&format!("CONNECT {}:443 HTTP/1.1", "a".repeat(254))), None);
    }

    #[test]
    fn a_status_is_three_digits_of_http_1() {
        assert_eq!(status(b"HTTP/1.1 403 Forbidden\r\n"), Some(403));
        assert_eq!(status(b"HTTP/1.0 200\n"), Some(200));
        for bad in [&b"HTTP/2 200"[..], b"HTTP/1.1 99", b"HTTP/1.1 abc", b"", b"\xff"] {
            assert_eq!(status(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (_, _) = (target(&bytes), status(&bytes));
        }

        #[test]
        fn what_is_read_is_what_was_asked(host in "[a-z][a-z0-9.-]{0,40}", port in any::<u16>()) {
            prop_assert_eq!(found(&format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n")), Some((host, port)));
        }
    }
}
