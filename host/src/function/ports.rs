//! Where components come from: this program, a file, the web, a registry. What is said to be had is one thing, what comes
//! another: whoever asks checks the digest.

use std::fmt;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use crate::engine::Wasm;
use crate::manifest::{self, RegistrySource, UrlSource};

/// Where one component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    BuiltIn(Wasm),
    Path(PathBuf),
    Url(UrlSource),
    Registry(RegistrySource),
}

/// Brings components from one kind of place.
pub trait Origin: Send + Sync + 'static {
    /// What the source names now: the digest by which it can be pulled.
    fn resolve(&self, source: Source) -> BoxFuture<'_, Result<String, OriginError>>;
    /// The component behind a digest of [`resolve`](Self::resolve), all of it and as its digest says.
    fn pull(&self, source: Source, resolved: String) -> BoxFuture<'_, Result<Wasm, OriginError>>;
    /// Whose signatures were found; nothing if the operator asks for none. Fails if one is asked for and missing.
    fn verify(&self, source: Source, resolved: String) -> BoxFuture<'_, Result<Option<String>, OriginError>>;
    /// Whether a revision that was taken in before may serve still, by what the check of its signature found then.
    fn trusts(&self, source: &Source, found: Option<&str>) -> bool;
}

#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// It may be there later.
    #[error("{what}")]
    Away {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It is not what was asked for, and trying again does not help.
    #[error("{what}")]
    Bad {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl OriginError {
    pub fn bad(what: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), source: None }
    }

    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// The whole chain as one line that is fit to be shown.
    pub(super) fn text(&self) -> String {
        super::told(self)
    }
}

impl Source {
    /// As the manifest says it; paths are relative to its folder.
    pub(super) fn new(source: &manifest::Source, folder: &Path) -> Self {
        match source {
            manifest::Source::Path(path) => Self::Path(folder.join(path)),
            manifest::Source::Url(url) => Self::Url(url.clone()),
            manifest::Source::Registry(registry) => Self::Registry(registry.clone()),
        }
    }

    /// On this machine: looked at each time the host starts.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::BuiltIn(_) | Self::Path(_))
    }

    /// What it names may become something else while the host runs.
    pub(super) fn may_change(&self) -> bool {
        matches!(self, Self::Path(_) | Self::Registry(_))
    }
}

/// `namespace:name` is `namespace/name` in a registry.
pub fn repository(source: &RegistrySource) -> String {
    source.package.replace(':', "/")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("built in"),
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&url.url),
            Self::Registry(source) => {
                write!(f, "{}/{}:{}", source.registry, repository(source), source.version)
            }
        }
    }
}
