//! Where a component lies: a reference to an OCI artifact that names its content. What is not pinned by a digest would be
//! another component tomorrow.

use std::fmt;
use std::str::FromStr;

use lanner_core::text::{bounded, escaped};

/// `oci://REGISTRY/REPOSITORY[:TAG]@sha256:DIGEST`, checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleRef(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadModule {
    #[error("spec.module begins with oci://: {0} does not")]
    Scheme(String),
    #[error("spec.module has more than {MAX} bytes")]
    Long,
    #[error("spec.module names no digest: write oci://REGISTRY/REPOSITORY@sha256:DIGEST")]
    NoDigest,
    #[error("the digest in spec.module is sha256: and 64 hex digits in lower case")]
    Digest,
    #[error("spec.module names no registry and repository as OCI spells them: {0}")]
    Name(String),
}

const SCHEME: &str = "oci://";
const MAX: usize = 400;
const MAX_SHOWN: usize = 120;

impl ModuleRef {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the scheme, as clients of registries take it.
    pub fn reference(&self) -> &str {
        self.0.strip_prefix(SCHEME).unwrap_or(&self.0)
    }

    /// Registry, repository and `sha256:DIGEST`; a tag beside it counts for nothing.
    pub fn parts(&self) -> (&str, &str, &str) {
        let (name, digest) = self.reference().split_once('@').unwrap_or_default();
        let (registry, repository) = name.split_once('/').unwrap_or_default();
        (registry, repository.split_once(':').map_or(repository, |(path, _)| path), digest)
    }
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModuleRef {
    type Err = BadModule;

    fn from_str(text: &str) -> Result<Self, BadModule> {
        let shown = || escaped(&bounded(text, MAX_SHOWN));
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| BadModule::Scheme(shown()))?;
        if text.len() > MAX {
            return Err(BadModule::Long);
        }
        let (name, digest) = rest.split_once('@').ok_or(BadModule::NoDigest)?;
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(BadModule::Digest);
        }
        let (registry, repository) = name.split_once('/').ok_or_else(|| BadModule::Name(shown()))?;
        // The last colon behind the last slash begins a tag.
        let (path, tag) = repository.split_once(':').map_or((repository, None), |(p, t)| (p, Some(t)));
        let good = is_registry(registry) && path.split('/').all(is_component) && tag.is_none_or(is_tag);
        if good { Ok(Self(text.to_owned())) } else { Err(BadModule::Name(shown())) }
    }
}

/// A host's name or address, and maybe a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
    let label = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
}

/// Small letters and digits, with single separators between them.
fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    let words = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separators = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    ends && words.into_iter().all(separators)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_names_its_content_is_taken() {
        for name in [
            "registry.example/filters/quiet",
            "localhost:5000/a",
            "10.0.0.1:80/a.b/c__d/e---f:v1.2-x",
            "registry/a",
        ] {
            let text = format!("oci://{name}@sha256:{HEX}");
            let module: ModuleRef = text.parse().unwrap();
            assert_eq!((module.as_str(), module.reference()), (text.as_str(), &text["oci://".len()..]));
        }
        let tagged: ModuleRef = format!("oci://10.0.0.1:80/a.b/c:v1.2@sha256:{HEX}").parse().unwrap();
        assert_eq!(tagged.parts(), ("10.0.0.1:80", "a.b/c", format!("sha256:{HEX}").as_str()));
        let bare: ModuleRef = format!("oci://registry/a@sha256:{HEX}").parse().unwrap();
        assert_eq!(bare.parts(), ("registry", "a", format!("sha256:{HEX}").as_str()));
    }

    #[test]
    fn everything_else_is_refused_with_its_sentence() {
        let refused = |text: &str| text.parse::<ModuleRef>().unwrap_err().to_string();
        let scheme = "spec.module begins with oci://: https://a/b does not";
        assert_eq!(refused("https://a/b"), scheme);
        assert_eq!(refused("a\u{1b}[31m"), r"spec.module begins with oci://: a\u{1b}[31m does not");
        let digest = "spec.module names no digest: write oci://REGISTRY/REPOSITORY@sha256:DIGEST";
        assert_eq!(refused("oci://a/b:latest"), digest);
        assert_eq!(refused(&format!("oci://{}", "a".repeat(400))), "spec.module has more than 400 bytes");
        for bad in
            ["sha256:", "sha512:0", &format!("sha256:{}", HEX.to_uppercase()), &format!("sha256:{HEX}0"), HEX]
        {
            let said = "the digest in spec.module is sha256: and 64 hex digits in lower case";
            assert_eq!(refused(&format!("oci://a/b@{bad}")), said);
        }
        for bad in [
            "a", "/b", "a/", "a//b", "a/B", "a/-b", "a/b-", "a/b..c", "a/b___c", "a:0/b", "a:x/b", "a-/b",
            "a/b:", "a/b:-",
        ] {
            let said = refused(&format!("oci://{bad}@sha256:{HEX}"));
            assert!(
                said.starts_with("spec.module names no registry and repository as OCI spells"),
                "{bad}: {said}"
            );
        }
    }
}
