//! A function at the host's start: the revision that it had, from disk, with nobody asked; or, where there is none of this
//! source, the first one. What lies on this machine is looked at again, because it may be another by now.

use std::sync::Arc;

use lanner_core::{ChangeKind, FunctionSpec, Name, Revision, RevisionState};
use wasmtime::component::Component;

use super::instance::Handler;
use super::update::Failure;
use super::{FunctionError, Inner};
use crate::lifecycle::{HOST, change, retired};
use crate::manifest::Function;
use crate::scan::now;
use crate::source::Source;

impl Inner {
    pub(super) async fn start(
        &self,
        function: &Function,
        source: &Source,
    ) -> Result<Arc<Handler>, FunctionError> {
        let name = &function.name;
        let active = self.book.active(name).filter(|r| r.spec.named.source == source.to_string());
        let resolved = match (&active, source.is_here()) {
            (Some(active), false) => active.spec.named.resolved.clone(),
            (Some(active), true) => self.resolved(name, source).await.unwrap_or_else(|error| {
                tracing::warn!(function = %name, error = &error as &dyn std::error::Error, "kept as it was");
                active.spec.named.resolved.clone()
            }),
            (None, _) => self.resolved(name, source).await?,
        };
        let Some(active) = active else { return self.first(function, source, resolved).await };
        if resolved == active.spec.named.resolved
            || self.book.is_known(name, &source.named(resolved.clone()), source.is_here())
        {
            return match self.kept(function, source, &active).await {
                // What was lost on disk may still be had where it came from.
                Err(FunctionError::Kept(_, error)) => {
                    tracing::warn!(function = %name, %error, "the kept component is fetched anew");
                    self.first(function, source, active.spec.named.resolved).await
                }
                kept => kept,
            };
        }
        match self.first(function, source, resolved).await {
            Ok(handler) => Ok(handler),
            // What is there now does not do, but what was there before did.
            Err(error) => {
                tracing::error!(function = %name, error = &error as &dyn std::error::Error, "kept as it was");
                self.kept(function, source, &active).await
            }
        }
    }

    async fn resolved(&self, name: &Name, source: &Source) -> Result<String, FunctionError> {
        let resolved = self.origins.of(source).resolve(source.clone()).await;
        resolved.map_err(|e| FunctionError::Source(name.clone(), source.to_string(), e))
    }

    /// The revision that was active, as it lies on disk.
    async fn kept(
        &self,
        function: &Function,
        source: &Source,
        revision: &Revision<FunctionSpec>,
    ) -> Result<Arc<Handler>, FunctionError> {
        let trusted = self.trusted(source, &mut revision.clone()).await;
        trusted.map_err(|f| {
            FunctionError::Refused(function.name.clone(), source.to_string(), f.check, f.reason)
        })?;
        let component = self.loaded_of(revision, source).await?;
        let of = (revision.number, revision.digest.clone());
        let handler = Handler::new(&self.engine, &self.scans, function, &component, of)?;
        tracing::info!(
            function = %function.name, revision = revision.number, digest = revision.digest, "function"
        );
        Ok(Arc::new(handler))
    }

    /// A kept revision's code.
    pub(super) async fn loaded_of(
        &self,
        revision: &Revision<FunctionSpec>,
        source: &Source,
    ) -> Result<Component, FunctionError> {
        let name = revision.name.as_str();
        if let Source::BuiltIn(wasm) = source
            && wasm.digest() == revision.digest
        {
            return Ok(self.engine.load(name, wasm)?);
        }
        let kept = self.book.components().get(&revision.digest);
        let wasm = kept.map_err(|e| FunctionError::Kept(revision.name.clone(), e))?;
        Ok(self.engine.load_apart(name, &wasm, &self.settings.apart).await?)
    }

    /// A revision that serves without a trial, because nobody is served yet.
    async fn first(
        &self,
        function: &Function,
        source: &Source,
        resolved: String,
    ) -> Result<Arc<Handler>, FunctionError> {
        let name = &function.name;
        let mut revision = self.begun(name, source.named(resolved), HOST).await?;
        let taken = self.taken(function, source, &mut revision).await;
        let before = self.book.active(name);
        let (handler, state) = match taken {
            Ok(handler) => (Ok(handler), RevisionState::Active),
            Err(Failure { check, reason, passing }) => {
                // What passes by itself says nothing about the revision.
                (revision.spec.failed, revision.reason) = ((!passing).then_some(check), reason.clone());
                let refused = FunctionError::Refused(name.clone(), source.to_string(), check, reason);
                (Err(refused), RevisionState::Failed)
            }
        };
        revision.state = state;
        let mut put = Vec::new();
        let was = before.as_ref().map(Revision::reference);
        let line = if handler.is_ok() {
            revision.activated = Some(now());
            put.extend(before.map(retired));
            let is = Some(revision.reference());
            change::<FunctionSpec>(HOST, ChangeKind::Update, name.as_str(), was, is, "at the start")
        } else {
            let why = &revision.reason;
            change::<FunctionSpec>(HOST, ChangeKind::Refuse, name.as_str(), was.clone(), was, why)
        };
        put.push(revision.clone());
        self.book.apply(name, put, Some(line)).await?;
        if handler.is_ok() {
            tracing::info!(function = %name, revision = revision.number, digest = revision.digest, "function");
        }
        handler
    }
}
