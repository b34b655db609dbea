//! Alert filters: which judge, how they got there, and how one is put in the place of another while scans run.
//!
//! One owner: [`Policy`]. Readers take the current set, which is never changed, only replaced; changes come one after
//! another, are on disk before they count, and stand in the audit log. One file a verb: `upload`, `change` (activate, roll
//! back, retire, take out), `source` (filters from where they lie), `retry`, `trial`. It knows nothing of HTTP; what it keeps goes through `ports`.
//!
//! Filters import nothing but logging: data in, decisions out, so stored alerts can be judged again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lanner_core::revision::BadName;
use lanner_core::{Change, ChangeKind, FilterRef, FilterSpec, Grant, Name, Revision, RevisionState, ScanId};

use crate::engine::{Apart, Engine, Wasm};
use crate::lifecycle::{Book, Components, HOST, Lookout, change};
use crate::scan::ports::{About, Filter, Judge, Store, StoreError};
use crate::source::{OriginError, Origins, Source};
use member::Member;
use ports::{Difference, Differences, Revisions};
use set::{Session, Set};

mod change;
mod contract;
mod convert;
mod desk;
mod health;
mod member;
pub mod ports;
mod retry;
mod set;
mod source;
mod trial;
mod upload;

mod generated {
    wasmtime::component::bindgen!({
        world: "alert-filter",
        path: "../proto/wit",
        exports: { default: async },
        require_store_data_send: true,
        wasmtime_crate: wasmtime,
    });
}

pub use change::ChangeError;
pub use contract::ContractError;
pub use desk::Desk;
pub use source::SourceView;
pub use trial::Trial;
pub use upload::{Module, Refusal, Spec, Start, Upload, Uploaded};

const BASELINE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/filter-baseline.wasm"));

/// The operator's words about filters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where components are kept.
    pub folder: PathBuf,
    pub apart: Apart,
    pub max_bytes: u64,
    /// Revisions of a filter that are kept beside the active and the shadow one.
    pub keep: usize,
    /// How far a filter may suppress if nothing else is said.
    pub may_suppress_up_to: Grant,
    /// Stored scans that a trial looks at.
    pub trial_scans: usize,
    /// Judge with the built-in filter, unless it was retired.
    pub baseline: bool,
    /// How often the sources of the operator's filters are looked at; never, if there is none.
    pub poll: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the folder of filters {0} cannot be used")]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("the filter {0} cannot be had from {1}")]
    Source(Name, String, #[source] OriginError),
    #[error("the filter {0} stands twice among the filters")]
    Twice(Name),
    #[error("the filter {0} is refused: {1}")]
    Refused(Name, #[source] Refusal),
    #[error(transparent)]
    Name(#[from] BadName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A filter of the operator's file.
#[derive(Clone, Debug)]
pub struct Configured {
    pub name: Name,
    pub source: Source,
    pub spec: Spec,
}

/// A filter of the operator's file, while the host runs.
struct Sourced {
    filter: Configured,
    lookout: Lookout,
}

/// The handle: cheap to clone, its methods are the verbs.
#[derive(Clone)]
pub struct Policy {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    settings: Settings,
    book: Book<FilterSpec>,
    /// The built-in filter.
    baseline: Wasm,
    revisions: Arc<dyn Revisions>,
    /// Stored scans, for trials.
    history: Arc<dyn Store>,
    set: RwLock<Arc<Set>>,
    /// Held by whoever changes something, from reading the book to swapping the set: changes come one after another.
    turn: tokio::sync::Mutex<()>,
    /// Uploads that are compiled and tried at the same time.
    uploads: tokio::sync::Semaphore,
    origins: Origins,
    /// The operator's own, by name.
    sourced: BTreeMap<Name, Sourced>,
}

/// Uploads at once: each may compile in a child for as long as its limits let it.
const UPLOADS: usize = 2;
/// Differences of a shadow that are shown; all are counted.
const SHOWN: usize = 200;

impl Policy {
    /// Brings back what was in force; then the built-in filter and the operator's own, where they are new.
    pub async fn open(
        engine: &Engine,
        settings: Settings,
        revisions: Arc<dyn Revisions>,
        history: Arc<dyn Store>,
        origins: Origins,
        configured: &[Configured],
    ) -> Result<Self, PolicyError> {
        let components = Components::open(settings.folder.clone())
            .map_err(|e| PolicyError::Folder(settings.folder.clone(), e))?;
        let book = Book::open(revisions.clone(), components, settings.keep).await?;
        let mut sourced = BTreeMap::new();
        for filter in configured.iter().cloned() {
            let name = filter.name.clone();
            if sourced.insert(name.clone(), Sourced { filter, lookout: Lookout::default() }).is_some() {
                return Err(PolicyError::Twice(name));
            }
        }
        let inner = Inner {
            engine: engine.clone(),
            settings,
            book,
            baseline: Wasm::new(BASELINE),
            revisions,
            history,
            set: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            uploads: tokio::sync::Semaphore::new(UPLOADS),
            origins,
            sourced,
        };
        let policy = Self { inner: Arc::new(inner) };
        policy.bring_back().await;
        if policy.inner.settings.baseline {
            policy.install_baseline().await?;
        }
        for filter in configured {
            policy.install_configured(filter).await?;
        }
        Ok(policy)
    }

    /// The filters that judge now, in their order.
    pub fn active(&self) -> Vec<FilterRef> {
        self.set().active.iter().map(|m| m.revision.as_filter()).collect()
    }

    /// All kept revisions, by filter and number.
    pub fn revisions(&self) -> Vec<Revision> {
        self.inner.book.revisions()
    }

    /// The kept revisions of one filter, oldest first; empty if there is no such filter.
    pub fn revisions_of(&self, name: &Name) -> Vec<Revision> {
        self.inner.book.revisions_of(name)
    }

    /// What a shadow revision would have decided otherwise.
    pub async fn differences(&self, name: &Name, revision: u64) -> Result<Differences, StoreError> {
        self.inner.revisions.differences(name.clone(), revision, SHOWN).await
    }

    /// The audit log, newest first.
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Change)>, StoreError> {
        self.inner.book.audit(before, limit).await
    }

    /// Writes down that stored alerts are judged again; the flow of scans does it.
    pub async fn note_rejudge(&self, by: &str, detail: String) -> Result<(), StoreError> {
        let line = change::<FilterSpec>(by, ChangeKind::Rejudge, "", None, None, &detail);
        self.inner.book.note(line).await
    }

    async fn note_differences(&self, shadow: &Member, scan: &ScanId, found: Vec<Difference>) {
        if found.is_empty() {
            return;
        }
        let kept = self.inner.revisions.put_differences(shadow.revision.clone(), scan.clone(), found).await;
        if let Err(error) = kept {
            tracing::warn!(error = &error as &dyn std::error::Error, "a shadow's differences are not kept");
        }
    }

    fn set(&self) -> Arc<Set> {
        self.inner.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// At the start: what was active or shadow is so again.
    async fn bring_back(&self) {
        let mut set = Set::default();
        for revision in self.revisions() {
            let name = revision.name.to_string();
            match revision.state {
                RevisionState::Active => {
                    let member = Some(Arc::new(self.member_or_broken(revision).await));
                    set = set.with(&name, member, set.shadow_of(&name).cloned());
                }
                RevisionState::Shadow => {
                    let member = Some(Arc::new(self.member_or_broken(revision).await));
                    set = set.with(&name, set.active_of(&name).cloned(), member);
                }
                RevisionState::Failed if is_taken_out(&revision) => {
                    // It judged when it failed: no scan is clean without it, until it is well or replaced.
                    let member = self.member_or_broken(revision).await;
                    member.health().postpone(std::time::Instant::now());
                    set = set.with(&name, Some(Arc::new(member)), set.shadow_of(&name).cloned());
                }
                _ => {}
            }
        }
        self.swap(set);
    }

    async fn install_baseline(&self) -> Result<(), PolicyError> {
        let name: Name = "baseline".parse()?;
        let kept = self.revisions_of(&name);
        // A retired one stays retired; one that an operator uploaded in its place stays, too.
        let ours = |r: &Revision| r.by == HOST;
        let judging = kept.iter().find(|r| r.state == RevisionState::Active);
        let baseline = self.inner.baseline.clone();
        if !kept.is_empty() && judging.is_none_or(|r| !ours(r) || r.digest == baseline.digest()) {
            return Ok(());
        }
        let spec = Spec {
            may_suppress_up_to: Some(Grant { percent: 100, ..Grant::default() }),
            note: "built in".into(),
            ..Spec::default()
        };
        self.install(name, Module::Trusted(baseline), spec).await
    }

    async fn install(&self, name: Name, module: Module, spec: Spec) -> Result<(), PolicyError> {
        let upload = Upload { name: name.clone(), module, spec, by: HOST.to_owned(), dry_run: false };
        self.upload(upload).await.map(drop).map_err(|refusal| PolicyError::Refused(name, refusal))
    }

    /// A revision's code: from what is kept, or compiled anew.
    async fn member(&self, revision: Revision) -> Result<Member, String> {
        let name = revision.name.to_string();
        let engine = &self.inner.engine;
        let baseline = &self.inner.baseline;
        if let Some(provenance) = &revision.spec.provenance {
            self.trusted(provenance).await?;
        }
        let component = if revision.digest == baseline.digest() {
            engine.load(&name, baseline)
        } else {
            let kept = self.inner.book.components().get(&revision.digest);
            let wasm = kept.map_err(|e| format!("its component is gone: {e}"))?;
            engine.load_apart(&name, &wasm, &self.inner.settings.apart).await
        };
        let component = component.map_err(|e| convert::shown(&e.to_string()))?;
        Member::new(engine, &component, revision)
    }

    async fn member_or_broken(&self, revision: Revision) -> Member {
        match self.member(revision.clone()).await {
            Ok(member) => member,
            Err(why) => {
                tracing::error!(filter = %revision.name, revision = revision.number, why, "a filter is broken");
                Member::broken(&self.inner.engine, revision, why)
            }
        }
    }

    fn swap(&self, set: Set) {
        *self.inner.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }
}

/// Failed while it judged: its place is kept for it.
fn is_taken_out(revision: &Revision) -> bool {
    revision.state == RevisionState::Failed && revision.taken_out
}

impl Filter for Policy {
    fn session(&self, about: About) -> Box<dyn Judge> {
        Box::new(Session::new(self.clone(), self.set(), about))
    }
}
