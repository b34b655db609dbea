//! A new revision of a function, from its source to service.
//!
//! In this order: pull, signature, imports, compiling (in a child), a trial without side effects, a canary. Whatever fails,
//! the revision that serves goes on, the status says which check it was and why, and what was refused is not tried again
//! until somebody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lanner_core::canary::{Verdict, judge};
use lanner_core::{ChangeKind, Check, FunctionSpec, Name, Named, Passed, Revision, RevisionState};
use serde::Serialize;

use super::instance::{Handler, LinkError};
use super::slot::Slot;
use super::{ChangeError, Functions, Inner};
use crate::capability;
use crate::engine::inspect::inspect;
use crate::engine::{EngineError, Wasm};
use crate::lifecycle::{change, retired};
use crate::manifest::Function;
use crate::scan::now;
use crate::scan::ports::StoreError;
use crate::source::{Source, shown};

/// What a look at a source came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    UpToDate,
    /// What the source names was refused before, or rolled back from.
    RefusedBefore,
    Active(Box<Revision<FunctionSpec>>),
    Failed(Box<Revision<FunctionSpec>>),
    /// The source cannot be asked at the moment.
    Unreachable {
        why: String,
    },
}

/// A check that a revision did not pass.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) check: Check,
    pub(super) reason: String,
    /// It says nothing about the revision: the source was away, the disk was full.
    pub(super) passing: bool,
}

/// How often a canary is looked at.
const TICK: Duration = Duration::from_millis(50);
/// A canary with few requests takes up to so many times its time.
const PATIENCE: u32 = 3;

impl Functions {
    /// Looks at a function's source, and takes in what is new there; `again`: also what was refused before.
    pub async fn check(&self, name: &Name, again: bool, by: &str) -> Result<Outcome, ChangeError> {
        let slot = self.inner.slots.get(name).ok_or(ChangeError::UnknownFunction)?;
        let _trying = slot.lookout.looking.lock().await;
        let outcome = self.inner.look(slot, again, by).await?;
        let (word, detail) = match &outcome {
            Outcome::UpToDate => ("up-to-date", String::new()),
            Outcome::RefusedBefore => ("refused-before", "ask with again to try it once more".to_owned()),
            Outcome::Active(r) => ("active", format!("revision {}", r.number)),
            Outcome::Failed(r) => {
                let check = r.spec.failed.map_or("", Check::as_str);
                ("failed", format!("revision {}: {check}: {}", r.number, r.reason))
            }
            Outcome::Unreachable { why } => ("unreachable", why.clone()),
        };
        slot.lookout.note(word, detail);
        Ok(outcome)
    }
}

impl Inner {
    async fn look(&self, slot: &Slot, again: bool, by: &str) -> Result<Outcome, StoreError> {
        let (name, source) = (&slot.function.name, &slot.source);
        let named = match self.origins.of(source).resolve(source.clone()).await {
            Ok(resolved) => source.named(resolved),
            Err(error) => {
                let why = error.text();
                tracing::warn!(function = %name, why, "the source of a function cannot be asked");
                return Ok(Outcome::Unreachable { why });
            }
        };
        let active = self.book.active(name);
        if active.as_ref().is_some_and(|r| r.spec.named == named) {
            return Ok(Outcome::UpToDate);
        }
        if !again && self.book.is_known(name, &named, source.is_here()) {
            return Ok(Outcome::RefusedBefore);
        }
        let mut revision = self.begun(name, named, by).await?;
        tracing::info!(function = %name, revision = revision.number, revision.spec.named.resolved, "a new revision");
        let came = self.tried(slot, &mut revision).await;
        match came {
            Ok(handler) => self.put_in(slot, revision, handler, by, active.map(|r| r.number)).await,
            Err(failure) if failure.passing => {
                // Nothing was learned about it, so nothing of it is kept.
                let why = format!("{}: {}", failure.check.as_str(), failure.reason);
                self.forget(revision).await?;
                Ok(Outcome::Unreachable { why })
            }
            Err(failure) => self.refused(revision, failure, by).await,
        }
    }

    /// The number of a revision on its way in; its digest is not known before it is here.
    pub(super) async fn begun(
        &self,
        name: &Name,
        named: Named,
        by: &str,
    ) -> Result<Revision<FunctionSpec>, StoreError> {
        Ok(Revision {
            name: name.clone(),
            number: self.book.next(name).await?,
            digest: named.resolved.clone(),
            bytes: 0,
            state: RevisionState::Compiling,
            taken_out: false,
            reason: String::new(),
            by: by.to_owned(),
            at: now(),
            activated: None,
            note: String::new(),
            spec: FunctionSpec { named, passed: Vec::new(), failed: None },
        })
    }

    /// All checks; what passed them can be put in.
    async fn tried(
        &self,
        slot: &Slot,
        revision: &mut Revision<FunctionSpec>,
    ) -> Result<Arc<Handler>, Failure> {
        let handler = self.taken(&slot.function, &slot.source, revision).await?;
        self.stands(revision, RevisionState::Trial).await?;
        let found = self.trial(slot, &handler).await.map_err(|why| Failure::of(Check::Trial, why))?;
        passed(revision, Check::Trial, found);
        if self.settings.canary.percent > 0 {
            self.stands(revision, RevisionState::Canary).await?;
            slot.begin_canary(handler.clone(), self.settings.canary.percent);
            let found = self.compared(slot, revision.number).await;
            if found.is_err() {
                slot.end_canary(revision.number);
            }
            passed(revision, Check::Canary, found.map_err(|why| Failure::of(Check::Canary, why))?);
        }
        Ok(handler)
    }

    /// Everything up to a handler that could be asked.
    pub(super) async fn taken(
        &self,
        function: &Function,
        source: &Source,
        revision: &mut Revision<FunctionSpec>,
    ) -> Result<Arc<Handler>, Failure> {
        let wasm = self.pulled(source, revision).await?;
        self.signed(source, revision).await?;
        self.compiled(function, source, revision, wasm).await
    }

    /// Its bytes, in memory and on disk.
    async fn pulled(&self, source: &Source, revision: &mut Revision<FunctionSpec>) -> Result<Wasm, Failure> {
        let built_in = matches!(source, Source::BuiltIn(_));
        if !built_in {
            self.stands(revision, RevisionState::Compiling).await?;
        }
        let pulled = self.origins.of(source).pull(source.clone(), revision.spec.named.resolved.clone()).await;
        let wasm = pulled.map_err(|e| Failure {
            check: Check::Pull,
            reason: e.text(),
            passing: e.is_transient(),
        })?;
        let max = self.settings.max_bytes;
        if wasm.len() as u64 > max && !built_in {
            let why = format!("the component has {} bytes, more than {max} (functions.max_mib)", wasm.len());
            return Err(Failure::of(Check::Pull, why));
        }
        (revision.digest, revision.bytes) = (wasm.digest().to_owned(), wasm.len() as u64);
        passed(revision, Check::Pull, format!("{} bytes, {}", wasm.len(), revision.digest));
        if !built_in {
            // In the book before it is on disk: what nobody names there is collected.
            self.stands(revision, RevisionState::Compiling).await?;
            let (components, kept) = (self.book.components().clone(), wasm.clone());
            let kept = tokio::task::spawn_blocking(move || components.put(&kept)).await;
            let error = match kept {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = error {
                return Err(Failure::passing(Check::Pull, format!("it could not be stored: {error}")));
            }
        }
        Ok(wasm)
    }

    pub(super) async fn signed(
        &self,
        source: &Source,
        revision: &mut Revision<FunctionSpec>,
    ) -> Result<(), Failure> {
        let found =
            self.origins.of(source).verify(source.clone(), revision.spec.named.resolved.clone()).await;
        let found = found.map_err(|e| Failure {
            check: Check::Signature,
            reason: e.text(),
            passing: e.is_transient(),
        })?;
        passed(revision, Check::Signature, found.unwrap_or_else(|| "none is asked for".to_owned()));
        Ok(())
    }

    /// A kept revision whose signature was not asked for then, or is by a key that is not trusted now, needs one now.
    pub(super) async fn trusted(
        &self,
        source: &Source,
        revision: &mut Revision<FunctionSpec>,
    ) -> Result<(), Failure> {
        let found = revision.spec.passed.iter().rev().find(|p| p.check == Check::Signature);
        if self.origins.of(source).trusts(source, found.map(|p| p.found.as_str())) {
            return Ok(());
        }
        self.signed(source, revision).await
    }

    async fn compiled(
        &self,
        function: &Function,
        source: &Source,
        revision: &mut Revision<FunctionSpec>,
        wasm: Wasm,
    ) -> Result<Arc<Handler>, Failure> {
        let name = function.name.as_str();
        let imports = |why: String| Failure::of(Check::Imports, why);
        let looked_at = wasm.clone();
        let interface = tokio::task::spawn_blocking(move || inspect(&looked_at)).await;
        let interface = interface.map_err(|e| Failure::passing(Check::Imports, e.to_string()))?;
        let interface = interface.map_err(|e| imports(e.to_string()))?;
        let granted = &function.grants.capabilities;
        capability::check_names(name, &interface, granted).map_err(|e| imports(e.to_string()))?;
        let component = match source {
            Source::BuiltIn(_) => self.engine.load(name, &wasm),
            _ => self.engine.load_apart(name, &wasm, &self.settings.apart).await,
        };
        let component = component.map_err(|error| {
            let why = match &error {
                EngineError::Apart { source, .. } => source.to_string(),
                EngineError::Component { source, .. } => format!("this engine does not take it: {source:#}"),
                EngineError::Start(_) => error.to_string(),
            };
            Failure::of(Check::Compile, shown(&why))
        })?;
        let of = (revision.number, revision.digest.clone());
        let handler = Handler::new(&self.engine, &self.scans, function, &component, of);
        let handler = handler.map_err(|error| match &error {
            LinkError::Grant(_) => imports(error.to_string()),
            LinkError::Link { source, .. } => Failure::of(Check::Compile, shown(&format!("{source:#}"))),
        })?;
        passed(revision, Check::Imports, "nothing that is not granted".to_owned());
        let how = if matches!(source, Source::BuiltIn(_)) {
            "with this program"
        } else {
            "in a process of its own"
        };
        passed(revision, Check::Compile, how.to_owned());
        Ok(Arc::new(handler))
    }

    /// Waits for the canary's end: the time is over and enough was seen, or too much.
    async fn compared(&self, slot: &Slot, number: u64) -> Result<String, String> {
        let (begun, settings) = (Instant::now(), self.settings.canary);
        loop {
            tokio::time::sleep(TICK).await;
            let serving = slot.serving();
            let canary = serving.canary.as_ref().filter(|c| c.handler.number() == number);
            let canary = canary.ok_or("another revision was chosen meanwhile")?;
            let (old, new) = (canary.old.sample(), canary.new.sample());
            let elapsed = begun.elapsed();
            let over = elapsed >= settings.time
                && (new.requests >= settings.requests || elapsed >= settings.time * PATIENCE);
            match judge(old, new, over) {
                Verdict::Undecided => {}
                Verdict::Bad(why) => return Err(why),
                Verdict::Good => {
                    return Ok(format!("{} requests in {:.1} s", new.requests, elapsed.as_secs_f64()));
                }
            }
        }
    }

    /// In the place of the active one, if that is still the one that it was compared with.
    async fn put_in(
        &self,
        slot: &Slot,
        mut revision: Revision<FunctionSpec>,
        handler: Arc<Handler>,
        by: &str,
        compared_with: Option<u64>,
    ) -> Result<Outcome, StoreError> {
        let _turn = self.turn.lock().await;
        let name = &slot.function.name;
        let active = self.book.active(name);
        if active.as_ref().map(|r| r.number) != compared_with {
            slot.end_canary(revision.number);
            let why = "another revision was chosen meanwhile".to_owned();
            return self.refused(revision, Failure::of(Check::Canary, why), by).await;
        }
        let before = active.as_ref().map(Revision::reference);
        (revision.state, revision.activated) = (RevisionState::Active, Some(now()));
        let after = Some(revision.reference());
        let line = change::<FunctionSpec>(by, ChangeKind::Update, name.as_str(), before, after, "");
        let put = active.map(retired).into_iter().chain([revision.clone()]).collect();
        if let Err(error) = self.book.apply(name, put, Some(line)).await {
            slot.end_canary(revision.number);
            return Err(error);
        }
        slot.replace(handler);
        tracing::info!(
            function = %name, revision = revision.number, digest = revision.digest, by, "a function was updated"
        );
        Ok(Outcome::Active(Box::new(revision)))
    }

    async fn refused(
        &self,
        mut revision: Revision<FunctionSpec>,
        failure: Failure,
        by: &str,
    ) -> Result<Outcome, StoreError> {
        let name = revision.name.clone();
        revision.state = RevisionState::Failed;
        (revision.spec.failed, revision.reason) = (Some(failure.check), failure.reason);
        let (check, reason) = (failure.check.as_str(), &revision.reason);
        tracing::error!(function = %name, revision = revision.number, check, reason, "an update is refused");
        let active = self.book.active(&name).map(|r| r.reference());
        let detail = format!("revision {} ({}): {check}: {reason}", revision.number, revision.digest);
        let line =
            change::<FunctionSpec>(by, ChangeKind::Refuse, name.as_str(), active.clone(), active, &detail);
        self.book.apply(&name, vec![revision.clone()], Some(line)).await?;
        Ok(Outcome::Failed(Box::new(revision)))
    }

    async fn forget(&self, revision: Revision<FunctionSpec>) -> Result<(), StoreError> {
        self.book.drop_revision(&revision.name, revision.number).await
    }

    /// Where it stands now, on disk: a host that stops here finds it half way.
    async fn stands(
        &self,
        revision: &mut Revision<FunctionSpec>,
        state: RevisionState,
    ) -> Result<(), Failure> {
        revision.state = state;
        let kept = self.book.record(revision).await;
        kept.map_err(|e| Failure::passing(Check::Pull, format!("it could not be stored: {e}")))
    }
}

fn passed(revision: &mut Revision<FunctionSpec>, check: Check, found: String) {
    revision.spec.passed.push(Passed { check, found });
}

impl Failure {
    pub(super) fn of(check: Check, reason: impl Into<String>) -> Self {
        Self { check, reason: reason.into(), passing: false }
    }

    fn passing(check: Check, reason: impl Into<String>) -> Self {
        Self { check, reason: reason.into(), passing: true }
    }
}
