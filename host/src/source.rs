//! Where components come from: this program, a file, the web, a registry. What is said to be had is one thing, what comes
//! another: whoever asks checks the digest.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use lanner_core::{Named, text};

use crate::engine::Wasm;
use crate::manifest::{self, RegistrySource, UrlSource};

pub mod local;

pub use local::Local;

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
    pub fn text(&self) -> String {
        told(self)
    }
}

impl Source {
    /// As the manifest says it; paths are relative to its folder.
    pub fn new(source: &manifest::Source, folder: &Path) -> Self {
        match source {
            manifest::Source::Path(path) => Self::Path(folder.join(path)),
            manifest::Source::Url(url) => Self::Url(url.clone()),
            manifest::Source::Registry(registry) => Self::Registry(registry.clone()),
        }
    }

    /// On this machine: looked at each time the host starts.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::BuiltIn(_) | Self::Path(_))
    }

    /// What it names may become something else while the host runs.
    pub fn may_change(&self) -> bool {
        matches!(self, Self::Path(_) | Self::Registry(_))
    }

    /// As a revision that was taken from it says.
    pub fn named(&self, resolved: String) -> Named {
        Named { source: self.to_string(), resolved }
    }

    /// Repository and tag, where it is a registry's.
    pub fn package(&self) -> Option<(String, String)> {
        match self {
            Self::Registry(source) => Some((repository(source), source.version.clone())),
            _ => None,
        }
    }
}

/// `namespace:name` is `namespace/name` in a registry.
fn repository(source: &RegistrySource) -> String {
    source.package.replace(':', "/")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("built in"),
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&url.url),
            Self::Registry(source) => {
                let mark = if source.version.starts_with("sha256:") { '@' } else { ':' };
                write!(f, "{}/{}{mark}{}", source.registry, repository(source), source.version)
            }
        }
    }
}

/// Who brings components.
#[derive(Clone)]
pub struct Origins {
    /// Of this machine and the web.
    pub local: Arc<dyn Origin>,
    pub registry: Arc<dyn Origin>,
}

impl Origins {
    /// No registry: one that is named is refused.
    pub fn local(local: Local) -> Self {
        let local = Arc::new(local);
        Self { local: local.clone(), registry: local }
    }

    pub fn of(&self, source: &Source) -> &dyn Origin {
        match source {
            Source::Registry(_) => &*self.registry,
            Source::BuiltIn(_) | Source::Path(_) | Source::Url(_) => &*self.local,
        }
    }
}

/// What a package, a registry or a guest said, fit for a log line and for a terminal.
pub fn shown(said: &str) -> String {
    text::escaped(&text::bounded(said, 500))
}

/// An error with all that is below it, the same way.
pub fn told(error: &dyn std::error::Error) -> String {
    shown(&text::chain(error))
}
