//! Functions: which revision of each answers, how it got there, and how one is put in the place of another while requests
//! run.
//!
//! One owner: [`Functions`]. A request takes what serves once and ends on it; changes come one after another, are on disk
//! before they count, and stand in the audit log. One file a verb: `serve`, `update` (a new revision from its source),
//! `change` (activate, roll back), `watch` (looking at the sources). Where components come from is the business of `source`.
//!
//! It knows no socket and no route of its own; what functions may ask of the host is the business of `capability`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lanner_core::{FunctionSpec, Name, Revision};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::engine::{Apart, Engine, EngineError, Wasm};
use crate::lifecycle::{Book, Components, Looked, Revisions};
use crate::manifest::{self, Function, Manifest, ManifestError, Route};
use crate::scan::Scans;
use crate::scan::ports::StoreError;
use crate::source::{OriginError, Origins, Source};
use instance::LinkError;
use slot::Slot;

mod change;
mod instance;
mod recent;
mod serve;
mod slot;
mod start;
mod trial;
mod update;
mod watch;

pub use change::ChangeError;
pub use update::Outcome;

/// Requests in flight over all functions; each holds at most one instance.
const IN_FLIGHT: usize = 256;

/// The operator's words about functions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where components are kept.
    pub folder: PathBuf,
    pub apart: Apart,
    pub max_bytes: u64,
    /// Revisions of a function that are kept beside the active one.
    pub keep: usize,
    /// How often sources are looked at; never, if there is none.
    pub poll: Option<Duration>,
    pub canary: CanarySettings,
    /// Where components come from, in place of what the app says.
    pub sources: BTreeMap<Name, manifest::Source>,
}

/// How a new revision that passed its trial is compared with the active one. 0 percent: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanarySettings {
    pub percent: u8,
    pub time: Duration,
    /// With fewer requests the time is up to three times as long.
    pub requests: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the folder of functions {0} cannot be used")]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("{0} is part of no app of this program")]
    NotBuiltIn(Name),
    #[error("functions.source names {0}, which is no component of the app")]
    NoComponent(Name),
    #[error("the component {0} cannot be had from {1}")]
    Source(Name, String, #[source] OriginError),
    #[error("the component {0} from {1} is refused by its {check}: {why}", check = .2.as_str(), why = .3)]
    Refused(Name, String, lanner_core::Check, String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the kept component of {0} cannot be read")]
    Kept(Name, #[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle: cheap to clone, its methods are the verbs.
#[derive(Clone)]
pub struct Functions {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    scans: Scans,
    settings: Settings,
    origins: Origins,
    book: Book<FunctionSpec>,
    routes: Vec<Route>,
    slots: BTreeMap<Name, Slot>,
    in_flight: Arc<Semaphore>,
    /// Held by whoever changes what serves, from reading the book to swapping.
    turn: tokio::sync::Mutex<()>,
}

const MANIFEST: &str = include_str!("../../spin.toml");
const EMBEDDED: [(&str, &[u8]); 3] = [
    ("submit", include_bytes!(concat!(env!("OUT_DIR"), "/submit.wasm"))),
    ("status", include_bytes!(concat!(env!("OUT_DIR"), "/status.wasm"))),
    ("alerts", include_bytes!(concat!(env!("OUT_DIR"), "/alerts.wasm"))),
];

/// One function, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    pub name: Name,
    pub source: String,
    pub routes: Vec<String>,
    pub active: Option<Revision<FunctionSpec>>,
    /// On its way in, or answering a share of the requests.
    pub next: Option<Revision<FunctionSpec>>,
    /// Replaced revisions that still answer.
    pub ending: usize,
    pub looked: Option<Looked>,
    /// Repository and tag, where it comes from a registry.
    #[serde(skip)]
    pub package: Option<(String, String)>,
}

impl Functions {
    /// The built-in app, or the one at `DIR/spin.toml`, each function at the revision that it had.
    pub async fn open(
        engine: &Engine,
        scans: &Scans,
        app: Option<&Path>,
        settings: Settings,
        revisions: Arc<dyn Revisions<FunctionSpec>>,
        origins: Origins,
    ) -> Result<Self, FunctionError> {
        let (manifest, folder) = match app {
            Some(path) => (Manifest::read(path)?, path.parent()),
            None => (Manifest::parse("the built-in spin.toml", MANIFEST)?, None),
        };
        let functions: Vec<Function> = manifest.functions().collect();
        if let Some(name) = settings.sources.keys().find(|n| functions.iter().all(|f| f.name != **n)) {
            return Err(FunctionError::NoComponent(name.clone()));
        }
        let folder_error = |e| FunctionError::Folder(settings.folder.clone(), e);
        let components = Components::open(settings.folder.clone()).map_err(folder_error)?;
        let book = Book::open(revisions, components, settings.keep).await?;
        let mut inner = Inner {
            engine: engine.clone(),
            scans: scans.clone(),
            settings,
            origins,
            book,
            routes: manifest.routes().to_vec(),
            slots: BTreeMap::new(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            turn: tokio::sync::Mutex::default(),
        };
        let starting = functions.iter().map(|function| async {
            let source = inner.source(function, folder)?;
            let handler = inner.start(function, &source).await?;
            Ok::<_, FunctionError>(Slot::new(function.clone(), source, handler))
        });
        let started = futures::future::try_join_all(starting).await?;
        inner.slots = started.into_iter().map(|slot| (slot.function.name.clone(), slot)).collect();
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.inner.slots.keys()
    }

    pub fn all(&self) -> Vec<View> {
        self.inner.slots.values().map(|slot| self.view(slot)).collect()
    }

    /// One function and its kept revisions, oldest first.
    pub fn one(&self, name: &Name) -> Option<(View, Vec<Revision<FunctionSpec>>)> {
        let slot = self.inner.slots.get(name)?;
        Some((self.view(slot), self.inner.book.revisions_of(name)))
    }

    fn view(&self, slot: &Slot) -> View {
        let name = &slot.function.name;
        let kept = self.inner.book.revisions_of(name);
        let active = slot.serving().active.number();
        View {
            name: name.clone(),
            source: slot.source.to_string(),
            routes: self.routes_of(name),
            next: kept.iter().find(|r| r.state.is_half_way()).cloned(),
            active: kept.into_iter().find(|r| r.number == active),
            ending: slot.ending(),
            looked: slot.lookout.looked(),
            package: slot.source.package(),
        }
    }

    fn routes_of(&self, name: &Name) -> Vec<String> {
        let ours = self.inner.routes.iter().filter(|r| r.component == name.as_str());
        ours.map(|r| r.route.clone()).collect()
    }
}

impl Inner {
    fn source(&self, function: &Function, folder: Option<&Path>) -> Result<Source, FunctionError> {
        if let Some(own) = self.settings.sources.get(&function.name) {
            return Ok(Source::new(own, Path::new("")));
        }
        if let Some(folder) = folder {
            return Ok(Source::new(&function.source, folder));
        }
        let found = EMBEDDED.iter().find(|(name, _)| *name == function.name.as_str());
        let (_, wasm) = found.ok_or_else(|| FunctionError::NotBuiltIn(function.name.clone()))?;
        Ok(Source::BuiltIn(Wasm::new(*wasm)))
    }
}
