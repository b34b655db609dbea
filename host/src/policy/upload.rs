//! An upload: from bytes that nobody vouches for to a revision that judges.
//!
//! In this order, each refusal with its own code: signature (where a source is named), size, format, imports and exports, compiling (in a child), linking,
//! `describe`, `validate-settings`, a trial on known alerts. Only then is anything put in another's place.

use lanner_core::{ChangeKind, FilterSpec, Grant, Name, Provenance, Revision, RevisionState, text::bounded};
use serde::Deserialize;
use serde_json::Value;
use wasmtime::component::Component;

use super::contract::{self, ContractError};
use super::member::Member;
use super::{Policy, Trial, convert};
use crate::engine::inspect::{InspectError, inspect};
use crate::engine::{EngineError, Wasm};
use crate::lifecycle::change;
use crate::manifest::RegistrySource;
use crate::scan::now;
use crate::scan::ports::StoreError;
use crate::source::{OriginError, Source};

/// What is uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    pub name: Name,
    pub module: Module,
    pub spec: Spec,
    /// Who: a caller's owner name, or the host.
    pub by: String,
    /// Everything but putting it in.
    pub dry_run: bool,
}

#[derive(Clone, Debug)]
pub enum Module {
    Bytes(Wasm),
    /// The component of a kept revision of this filter, with another spec.
    Kept(String),
    /// Part of this program.
    Trusted(Wasm),
    /// What a source named: pulled by this, and no other.
    From {
        source: Source,
        resolved: String,
    },
}

/// How it is to judge. What is left out stays as it is in the revision that judges now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// A JSON object for the filter.
    pub settings: Option<Value>,
    pub order: Option<i32>,
    pub may_suppress_up_to: Option<Grant>,
    pub start: Start,
    pub note: String,
    /// `sha256:…` of a kept component, where none is sent.
    pub digest: Option<String>,
    /// An artifact in a registry, where none is sent.
    pub source: Option<RegistrySource>,
}

/// What it becomes when all went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Active,
    Shadow,
}

#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Number 0 for a dry run.
    pub revision: Revision,
    pub trial: Trial,
}

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("it cannot be had: {}", .0.text())]
    Pull(OriginError),
    #[error("its signature is not as it has to be: {}", .0.text())]
    Signature(OriginError),
    #[error("the component has {bytes} bytes, more than {max}")]
    Large { bytes: u64, max: u64 },
    #[error(transparent)]
    Format(InspectError),
    #[error(transparent)]
    Contract(ContractError),
    #[error("{0}")]
    Compile(String),
    #[error("it does not fit the world alert-filter: {0}")]
    World(String),
    #[error("it cannot describe itself: {0}")]
    Describe(String),
    #[error("the filter refuses its settings: {0}")]
    Settings(String),
    #[error("the trial failed: {0}")]
    Trial(String),
    /// The caller's words, not the filter.
    #[error("{0}")]
    Spec(String),
    #[error("no revision of this filter has the component {0}")]
    UnknownDigest(String),
    #[error("the component could not be stored")]
    Disk(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

const MAX_SETTINGS: usize = 64 * 1024;
const MAX_NOTE: usize = 500;

impl Policy {
    /// Takes an upload in, or says why not; either way it stands in the audit log.
    pub async fn upload(&self, upload: Upload) -> Result<Uploaded, Refusal> {
        let (name, by, dry) = (upload.name.clone(), upload.by.clone(), upload.dry_run);
        let taken = self.take(upload).await;
        if let (Err(refusal), false) = (&taken, dry) {
            self.note_refusal(name, by, refusal).await;
        }
        taken
    }

    async fn take(&self, upload: Upload) -> Result<Uploaded, Refusal> {
        let mut revision = self.revision(&upload)?;
        let checked = async {
            let wasm = self.brought_or_kept(&upload, &mut revision).await?;
            // Not before it is here: a slow registry is in nobody's way.
            let place = self.inner.uploads.acquire().await;
            let place = place.map_err(|_| Refusal::Compile("the host is stopping".into()))?;
            self.checked(&upload, &mut revision, &wasm).await?;
            Ok::<_, Refusal>((wasm, place))
        };
        let (wasm, _place) = match checked.await {
            Ok(checked) => checked,
            Err(refusal) => {
                // What a source names is remembered, so that it is not tried at each look.
                if let (Some(provenance), false) =
                    (&revision.spec.provenance, upload.dry_run || refusal.is_passing())
                {
                    revision.digest = provenance.named.resolved.clone();
                    revision.number = self.inner.book.next(&upload.name).await?;
                    self.refused(revision, &refusal).await?;
                }
                return Err(refusal);
            }
        };
        if !upload.dry_run {
            revision.number = self.inner.book.next(&upload.name).await?;
            // In the book before it is on disk: what nobody names there is collected.
            self.inner.book.record(&revision).await?;
        }
        match self.try_out(&mut revision, &upload, &wasm).await {
            Ok((member, trial)) if upload.dry_run => Ok(Uploaded { revision: member.revision, trial }),
            Ok((member, trial)) => {
                let put = self.put_in(member, upload.spec.start, &upload.by, ChangeKind::Upload).await;
                Ok(Uploaded { revision: put?, trial })
            }
            Err(refusal) => {
                if !upload.dry_run {
                    self.refused(revision, &refusal).await?;
                }
                Err(refusal)
            }
        }
    }

    async fn refused(&self, mut revision: Revision, refusal: &Refusal) -> Result<(), StoreError> {
        revision.state = RevisionState::Failed;
        revision.reason = convert::shown(&refusal.to_string());
        if let Some(provenance) = &mut revision.spec.provenance {
            provenance.refused = !refusal.is_passing();
        }
        self.inner.book.record(&revision).await
    }

    /// The bytes, if they come from whom they have to.
    async fn brought_or_kept(&self, upload: &Upload, revision: &mut Revision) -> Result<Wasm, Refusal> {
        Ok(match &upload.module {
            Module::From { source, resolved } => {
                let named = source.named(resolved.clone());
                let provenance = Provenance { named, signature: String::new(), refused: false };
                self.brought(&upload.name, source, revision.spec.provenance.insert(provenance)).await?
            }
            Module::Bytes(wasm) | Module::Trusted(wasm) => wasm.clone(),
            Module::Kept(digest) => {
                let known = self.revisions_of(&upload.name).into_iter().find(|r| r.digest == *digest);
                let unknown = || Refusal::UnknownDigest(convert::shown(digest));
                let known = known.ok_or_else(unknown)?;
                if let Some(provenance) = known.spec.provenance {
                    self.trusted(&provenance)
                        .await
                        .map_err(|why| Refusal::Signature(OriginError::bad(why)))?;
                    revision.spec.provenance = Some(Provenance { refused: false, ..provenance });
                }
                self.kept(digest).map_err(|_| unknown())?
            }
        })
    }

    /// Their size, and the names of their imports and exports.
    async fn checked(&self, upload: &Upload, revision: &mut Revision, wasm: &Wasm) -> Result<(), Refusal> {
        let max = self.inner.settings.max_bytes;
        let trusted = matches!(upload.module, Module::Trusted(_));
        if wasm.len() as u64 > max && !trusted {
            return Err(Refusal::Large { bytes: wasm.len() as u64, max });
        }
        let looked_at = wasm.clone();
        let interface = tokio::task::spawn_blocking(move || inspect(&looked_at)).await;
        let interface = interface.map_err(|e| Refusal::Compile(e.to_string()))?.map_err(Refusal::Format)?;
        contract::check(&interface).map_err(Refusal::Contract)?;
        (revision.digest, revision.bytes) = (wasm.digest().to_owned(), wasm.len() as u64);
        Ok(())
    }

    /// Its component is not known yet.
    fn revision(&self, upload: &Upload) -> Result<Revision, Refusal> {
        let spec = &upload.spec;
        let kept = self.revisions_of(&upload.name);
        let judging = |r: &&Revision| r.state == RevisionState::Active || r.taken_out;
        let before = kept.iter().find(judging).or(kept.last());
        let settings = spec.settings.clone().or_else(|| before.map(|b| b.spec.settings.clone()));
        let settings = settings.unwrap_or_else(|| Value::Object(Default::default()));
        if !settings.is_object() {
            return Err(Refusal::Spec("settings are a JSON object".into()));
        }
        if settings.to_string().len() > MAX_SETTINGS {
            return Err(Refusal::Spec(format!("the settings have more than {MAX_SETTINGS} bytes")));
        }
        let grant = spec.may_suppress_up_to.or_else(|| before.map(|b| b.spec.may_suppress_up_to));
        let grant = grant.unwrap_or(self.inner.settings.may_suppress_up_to);
        if grant.percent > 100 {
            return Err(Refusal::Spec("may_suppress_up_to.percent is a number from 0 to 100".into()));
        }
        Ok(Revision {
            name: upload.name.clone(),
            number: 0,
            digest: String::new(),
            bytes: 0,
            state: RevisionState::Compiling,
            taken_out: false,
            reason: String::new(),
            by: upload.by.clone(),
            at: now(),
            activated: None,
            note: lanner_core::text::escaped(&bounded(&spec.note, MAX_NOTE)),
            spec: FilterSpec {
                settings,
                order: spec.order.or_else(|| before.map(|b| b.spec.order)).unwrap_or(0),
                may_suppress_up_to: grant,
                description: Default::default(),
                provenance: None,
            },
        })
    }

    /// Compiles, links and asks it; on success it is ready to judge.
    async fn try_out(
        &self,
        revision: &mut Revision,
        upload: &Upload,
        wasm: &Wasm,
    ) -> Result<(Member, Trial), Refusal> {
        if !upload.dry_run && !matches!(upload.module, Module::Trusted(_)) {
            self.keep(wasm.clone()).await?;
        }
        let component = self.compiled(upload, wasm).await?;
        revision.state = RevisionState::Trial;
        let new = |revision: &Revision| Member::new(&self.inner.engine, &component, revision.clone());
        let member = new(revision).map_err(Refusal::World)?;
        revision.spec.description = member.describe().await.map_err(Refusal::Describe)?;
        let valid = member.validate().await;
        valid.map_err(|e| Refusal::Settings(format!("it broke on them: {e}")))?.map_err(Refusal::Settings)?;
        if !upload.dry_run {
            self.inner.book.record(revision).await?;
        }
        let trial = self.trial(&member).await?;
        Ok((new(revision).map_err(Refusal::World)?, trial))
    }

    async fn compiled(&self, upload: &Upload, wasm: &Wasm) -> Result<Component, Refusal> {
        let (engine, name) = (&self.inner.engine, upload.name.as_str());
        let component = match upload.module {
            Module::Trusted(_) => engine.load(name, wasm),
            Module::Bytes(_) | Module::Kept(_) | Module::From { .. } => {
                engine.load_apart(name, wasm, &self.inner.settings.apart).await
            }
        };
        component.map_err(|error| {
            Refusal::Compile(convert::shown(&match &error {
                EngineError::Apart { source, .. } => source.to_string(),
                EngineError::Component { source, .. } => format!("this engine does not take it: {source:#}"),
                EngineError::Start(_) => error.to_string(),
            }))
        })
    }

    async fn keep(&self, wasm: Wasm) -> Result<(), Refusal> {
        let components = self.inner.book.components().clone();
        let kept = tokio::task::spawn_blocking(move || components.put(&wasm)).await;
        kept.map_err(|e| Refusal::Compile(e.to_string()))?.map_err(Refusal::Disk)
    }

    fn kept(&self, digest: &str) -> std::io::Result<Wasm> {
        let baseline = &self.inner.baseline;
        if digest == baseline.digest() {
            Ok(baseline.clone())
        } else {
            self.inner.book.components().get(digest)
        }
    }

    async fn note_refusal(&self, name: Name, by: String, refusal: &Refusal) {
        let judging = self.set().active_of(name.as_str()).map(|m| m.revision.reference());
        let detail = convert::shown(&refusal.to_string());
        let line =
            change::<FilterSpec>(&by, ChangeKind::Refuse, name.as_str(), judging.clone(), judging, &detail);
        if let Err(error) = self.inner.book.note(line).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the audit log could not be written");
        }
    }
}

impl Refusal {
    /// It says nothing about the component: a registry was away, the disk was full.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Pull(error) | Self::Signature(error) => error.is_transient(),
            Self::Disk(_) | Self::Store(_) => true,
            _ => false,
        }
    }
}

impl Spec {
    /// Whether a revision is what this asks for; what is left out has its default.
    pub(super) fn fits(&self, revision: &Revision, default: &Grant) -> bool {
        let empty = Value::Object(Default::default());
        let has = &revision.spec;
        has.settings == *self.settings.as_ref().unwrap_or(&empty)
            && has.order == self.order.unwrap_or(0)
            && has.may_suppress_up_to == self.may_suppress_up_to.unwrap_or(*default)
    }

    /// Every choice made: what an operator's file leaves out is the default, not what was before.
    #[must_use]
    pub fn complete(mut self, default: Grant) -> Self {
        self.settings.get_or_insert_with(|| Value::Object(Default::default()));
        self.order.get_or_insert(0);
        self.may_suppress_up_to.get_or_insert(default);
        self
    }
}
