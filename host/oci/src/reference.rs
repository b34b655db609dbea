//! Where an artifact lies: `registry/repository[:tag][@sha256:…]`.
//!
//! The grammar is that of the distribution specification, with two differences on the strict side: the registry must be
//! written out, so that no name means a registry that nobody named, and nothing is rewritten on the way in. What passes
//! here is safe to put into a URL as it is. It knows no network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::digest::Digest;
use crate::text::shown;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// One artifact and no other: what is pulled, run, signed and verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pinned {
    reference: Reference,
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is no reference: {why}", shown(text))]
pub struct ReferenceError {
    text: String,
    why: String,
}

/// Longer ones are refused before they are read.
const MAX_LENGTH: usize = 512;
/// The tag that is meant where none is written.
const LATEST: &str = "latest";

impl Reference {
    /// Host and port as written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// As written, or `latest` where there is neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(LATEST),
            (None, Some(_)) => None,
        }
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same place, at this digest. A digest that the reference has of its own gives way.
    pub fn at(&self, digest: Digest) -> Pinned {
        Pinned { reference: Self { digest: Some(digest), ..self.clone() }, digest }
    }

    /// If the reference has a digest.
    pub fn pinned(&self) -> Option<Pinned> {
        self.digest.map(|digest| self.at(digest))
    }

    /// The host without its port, and without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.registry)
    }

    /// The machine itself, by a name that no name server can answer for.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The tag under which others keep what belongs to a digest: `sha256-…` and a suffix.
    pub(crate) fn tag_of(&self, digest: &Digest, suffix: &str) -> Self {
        let tag = Some(format!("sha256-{}{suffix}", digest.hex()));
        Self { tag, digest: None, ..self.clone() }
    }
}

impl Pinned {
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl FromStr for Pinned {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        let why = "a digest (@sha256:…) is needed here".to_owned();
        reference.pinned().ok_or_else(|| ReferenceError { text: text.to_owned(), why })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| ReferenceError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let scheme = shown(&format!("{scheme}://"));
        return Err(format!("leave {scheme} out; a registry is a host and a port"));
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    let (registry, rest) =
        name.split_once('/').ok_or("the registry is missing: registry/repository:tag is needed")?;
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    check_registry(registry)?;
    check_repository(registry, repository)?;
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    Ok(Reference {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn host_of(registry: &str) -> &str {
    match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let host = host_of(registry);
    let is_v6 = registry.starts_with('[');
    let port = match is_v6 {
        true => registry
            .split_once(']')
            .map(|(_, port)| port)
            .ok_or("the bracket of the address is not closed")?,
        false => registry.strip_prefix(host).unwrap_or_default(),
    };
    if !port.is_empty() {
        let digits =
            port.strip_prefix(':').filter(|p| p.bytes().all(|b| b.is_ascii_digit()) && !p.starts_with('0'));
        let number = digits.and_then(|p| p.parse::<u16>().ok());
        number.ok_or_else(|| format!("the registry's port {} is no port", shown(port)))?;
    }
    if is_v6 {
        let address = host.parse::<Ipv6Addr>();
        return address.map(drop).map_err(|_| format!("{} is no IPv6 address", shown(host)));
    }
    if !host.contains('.') && port.is_empty() && host != "localhost" {
        return Err(format!("the registry is missing: {} is no host with a dot or a port", shown(host)));
    }
    // What ends in digits is an address to those who connect, so it must be one in its plain form.
    let numeric =
        host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()) || l.starts_with("0x"));
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("the registry {} is neither a name nor an address", shown(host)));
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match host.len() <= 253 && host.split('.').all(label) {
        true => Ok(()),
        false => Err(format!("the registry {} is no host name in lower case", shown(host))),
    }
}

fn check_repository(registry: &str, repository: &str) -> Result<(), String> {
    // Registries bound the name with the host in it; a longer one could not be pulled by other tools.
    if registry.len() + 1 + repository.len() > 255 {
        return Err("registry and repository are longer than 255 bytes".to_owned());
    }
    for part in repository.split('/') {
        match part {
            "" => return Err("the repository has an empty part".to_owned()),
            "." | ".." => {
                return Err(format!("the repository has the part {part}, which is a path and no name"));
            }
            _ if is_path_component(part) => {}
            _ => {
                return Err(format!(
                    "the repository's part {} is no name: lower-case letters and digits are needed, with single \
                     `.`, one or two `_`, or `-` between them",
                    shown(part)
                ));
            }
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut run = None;
    let mut length = 0;
    for byte in part.bytes() {
        match (byte, run) {
            (b, None) if word(b) => (),
            (b, Some(_)) if word(b) => run = None,
            (b'.' | b'_' | b'-', None) => (run, length) = (Some(byte), 1),
            (b'_', Some(b'_')) if length == 1 => length = 2,
            (b'-', Some(b'-')) => {}
            _ => return false,
        }
    }
    run.is_none() && part.bytes().next().is_some_and(word)
}

fn check_tag(tag: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = (1..=128).contains(&tag.len()) && tag.bytes().all(inner) && !tag.starts_with(['.', '-']);
    match good {
        true => Ok(()),
        false => Err(format!(
            "the tag {} is none: 1 to 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`",
            shown(tag)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_parts_are_found_and_written_back() {
        let cases = [
            ("ghcr.io/team/submit:1.2", "ghcr.io", "team/submit", Some("1.2")),
            ("localhost/submit", "localhost", "submit", Some("latest")),
            ("127.0.0.1:5000/a/b__c.d--e:_x", "127.0.0.1:5000", "a/b__c.d--e", Some("_x")),
            ("[::1]:5000/a:1", "[::1]:5000", "a", Some("1")),
            ("registry:5000/a", "registry:5000", "a", Some("latest")),
        ];
        for (text, registry, repository, tag) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.registry(), registry);
            assert_eq!(reference.repository(), repository);
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.to_string(), text);
        }
        let pinned: Pinned = format!("ghcr.io/a:1@{DIGEST}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("ghcr.io/a:1@{DIGEST}"));
        let untagged: Reference = format!("ghcr.io/a@{DIGEST}").parse().unwrap();
        assert_eq!(untagged.tag(), None);
    }

    #[test]
    fn a_bad_reference_is_refused_with_a_sentence() {
        let long = format!("ghcr.io/{}", "a".repeat(600));
        let cases = [
            ("submit", "the registry is missing: registry/repository:tag is needed"),
            ("team/submit", "the registry is missing: \"team\" is no host with a dot or a port"),
            ("https://ghcr.io/a", "leave \"https://\" out; a registry is a host and a port"),
            ("\u{1b}[0m://a", "leave \"\\u{1b}[0m://\" out"),
            ("ghcr.io/a/../b", "the repository has the part .., which is a path and no name"),
            ("ghcr.io//b", "the repository has an empty part"),
            ("ghcr.io/a/", "the repository has an empty part"),
            ("ghcr.io/A", "the repository's part \"A\" is no name"),
            ("ghcr.io/a%2f..", "the repository's part \"a%2f..\" is no name"),
            ("ghcr.io/a?x", "the repository's part \"a?x\" is no name"),
            ("ghcr.io/a..b", "the repository's part \"a..b\" is no name"),
            ("ghcr.io/a___b", "the repository's part \"a___b\" is no name"),
            ("ghcr.io/a-", "the repository's part \"a-\" is no name"),
            ("ghcr.io/a:", "the tag \"\" is none"),
            ("ghcr.io/a:../../b", "the tag \"../../b\" is none"),
            ("ghcr.io/a:b c", "the tag \"b c\" is none"),
            ("GHCR.io/a", "the registry \"GHCR.io\" is no host name in lower case"),
            ("user@ghcr.io/a", "\"ghcr.io/a\" is no digest"),
            ("ghcr.io:0/a", "the registry's port \":0\" is no port"),
            ("ghcr.io:70000/a", "the registry's port \":70000\" is no port"),
            ("0x7f.1:80/a", "the registry \"0x7f.1\" is neither a name nor an address"),
            ("127.1:80/a", "the registry \"127.1\" is neither a name nor an address"),
            ("[::1/a", "the bracket of the address is not closed"),
            ("[::g]/a", "\"::g\" is no IPv6 address"),
            ("ghcr.io/a@sha512:00", "digests by \"sha512\" are not accepted, only by sha256"),
            (&long, "it is longer than 512 bytes"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let error = "ghcr.io/a:1".parse::<Pinned>().unwrap_err().to_string();
        assert!(error.ends_with("a digest (@sha256:…) is needed here"), "{error}");
    }
}
