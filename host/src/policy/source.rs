//! Filters from where they lie: the operator's own, which are looked at again while the host runs, and those that an admin
//! names once. What a source names goes through everything that an upload goes through, and through its signature before.

use lanner_core::{Name, Named, Provenance, Revision, RevisionState, Spec as _};
use tokio_util::sync::CancellationToken;

use super::upload::Refusal;
use super::{Configured, Module, Policy, PolicyError, Sourced, Spec, Start, Upload, Uploaded, is_taken_out};
use crate::engine::Wasm;
use crate::lifecycle::{Asked, HOST, Looked, Rounds};
use crate::source::Source;

/// A filter of the operator's file, as it is shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceView {
    pub source: String,
    pub looked: Option<Looked>,
    /// Repository and tag, where it comes from a registry.
    #[serde(skip)]
    pub package: Option<(String, String)>,
}

impl Policy {
    /// The operator's own filters.
    pub fn sourced(&self) -> impl Iterator<Item = (&Name, SourceView)> {
        self.inner.sourced.iter().map(|(name, sourced)| (name, sourced.view()))
    }

    pub fn source_of(&self, name: &Name) -> Option<SourceView> {
        self.inner.sourced.get(name).map(Sourced::view)
    }

    /// Lets the wanted ones be looked at soon, and says which they are.
    pub fn ask(&self, wanted: impl Fn(&Name, &SourceView) -> bool, again: bool, by: &str) -> Vec<Name> {
        let named: Vec<Name> =
            self.sourced().filter(|(name, view)| wanted(name, view)).map(|(name, _)| name.clone()).collect();
        for sourced in named.iter().filter_map(|name| self.inner.sourced.get(name)) {
            sourced.lookout.ask(Asked { by: by.to_owned(), again });
        }
        named
    }

    /// Looks at one of the operator's filters, until `stop`.
    pub async fn watch(self, name: Name, stop: CancellationToken) {
        let Some(sourced) = self.inner.sourced.get(&name) else { return };
        let mut rounds = Rounds::new(self.inner.settings.poll.filter(|_| sourced.filter.source.may_change()));
        while let Some(asked) = stop.run_until_cancelled(rounds.next(&sourced.lookout, None)).await {
            let Some(asked) = asked else { continue };
            if stop.run_until_cancelled(self.check(&name, asked.again, &asked.by)).await.is_none() {
                return;
            }
        }
    }

    /// Looks at a filter's source, and takes in what is new there; `again`: also what was refused before.
    pub async fn check(&self, name: &Name, again: bool, by: &str) -> Option<Looked> {
        let sourced = self.inner.sourced.get(name)?;
        let _looking = sourced.lookout.looking.lock().await;
        let (outcome, detail) = self.look(&sourced.filter, again, by).await;
        if matches!(outcome, "failed" | "unreachable") {
            tracing::error!(filter = %name, outcome, detail, "a look at the source of a filter");
        }
        sourced.lookout.note(outcome, detail);
        sourced.lookout.looked()
    }

    async fn look(&self, filter: &Configured, again: bool, by: &str) -> (&'static str, String) {
        let (name, source) = (&filter.name, &filter.source);
        let resolved = match self.inner.origins.of(source).resolve(source.clone()).await {
            Ok(resolved) => resolved,
            Err(error) => return ("unreachable", error.text()),
        };
        let named = source.named(resolved);
        let is_it = |r: &Revision| r.spec.named() == Some(&named) && is_in_force(r, filter.spec.start);
        if self.revisions_of(name).iter().any(is_it) {
            return ("up-to-date", String::new());
        }
        if !again && self.inner.book.is_known(name, &named, source.is_here()) {
            return ("refused-before", "ask with again to try it once more".to_owned());
        }
        match self.take_from(filter, named.resolved, by).await {
            Ok(Uploaded { revision, .. }) => {
                (revision.state.as_str(), format!("revision {}", revision.number))
            }
            Err(refusal) if refusal.is_passing() => ("unreachable", refusal.to_string()),
            Err(refusal) => ("failed", refusal.to_string()),
        }
    }

    /// What a source names now, once: it is not looked at again.
    pub async fn upload_from(
        &self,
        name: Name,
        source: Source,
        spec: Spec,
        by: &str,
        dry_run: bool,
    ) -> Result<Uploaded, Refusal> {
        let resolved = self.inner.origins.of(&source).resolve(source.clone()).await.map_err(Refusal::Pull)?;
        let module = Module::From { source, resolved };
        self.upload(Upload { name, module, spec, by: by.to_owned(), dry_run }).await
    }

    /// At the start: from disk and with nobody asked, where it is here as the operator's file wants it.
    pub(super) async fn install_configured(&self, filter: &Configured) -> Result<(), PolicyError> {
        let source = &filter.source;
        let from = source.to_string();
        // Of this source; an operator may have named another one before.
        let mut kept = self.revisions_of(&filter.name);
        kept.retain(|r| r.spec.named().is_some_and(|named| named.source == from));
        let here = kept.iter().rfind(|r| is_in_force(r, filter.spec.start));
        // Where nothing of it is in force, what was there last says at least what need not be asked.
        let is_retired = |r: &Revision| r.state == RevisionState::Retired;
        let last = here.or_else(|| kept.iter().rfind(|r| is_retired(r)));
        let resolved = match last.and_then(|r| r.spec.named()) {
            Some(named) if !source.is_here() => named.resolved.clone(),
            _ => self
                .inner
                .origins
                .of(source)
                .resolve(source.clone())
                .await
                .map_err(|e| PolicyError::Source(filter.name.clone(), from.clone(), e))?,
        };
        let is_it = |r: &Revision| r.spec.named().is_some_and(|named| named.resolved == resolved);
        let fits = |r: &Revision| is_it(r) && filter.spec.fits(r, &self.inner.settings.may_suppress_up_to);
        if here.is_some_and(fits) {
            return Ok(());
        }
        // Whoever went back from it, or retired it, stays where they are: a restart is no reason to go forward again.
        if here.is_none() && kept.iter().any(|r| is_retired(r) && is_it(r)) {
            tracing::warn!(filter = %filter.name, source = from, "not taken again: somebody went back from it");
            return Ok(());
        }
        let taken = self.take_from(filter, resolved, HOST).await;
        taken.map(drop).map_err(|refusal| PolicyError::Refused(filter.name.clone(), refusal))
    }

    async fn take_from(&self, filter: &Configured, resolved: String, by: &str) -> Result<Uploaded, Refusal> {
        let module = Module::From { source: filter.source.clone(), resolved };
        let (name, spec) = (filter.name.clone(), filter.spec.clone());
        self.upload(Upload { name, module, spec, by: by.to_owned(), dry_run: false }).await
    }

    /// The bytes behind what a source named, and who signed them.
    pub(super) async fn brought(
        &self,
        name: &Name,
        source: &Source,
        provenance: &mut Provenance,
    ) -> Result<Wasm, Refusal> {
        let (origin, resolved) = (self.inner.origins.of(source), provenance.named.resolved.clone());
        let found = origin.verify(source.clone(), resolved.clone()).await.map_err(Refusal::Signature)?;
        provenance.signature = found.unwrap_or_default();
        // The same again, with other settings: it need not come twice.
        let is_it = |r: &&Revision| r.spec.named() == Some(&provenance.named);
        let components = self.inner.book.components();
        let kept = self.revisions_of(name).iter().filter(is_it).find_map(|r| components.get(&r.digest).ok());
        match kept {
            Some(wasm) => Ok(wasm),
            None => origin.pull(source.clone(), resolved).await.map_err(Refusal::Pull),
        }
    }

    /// A kept revision whose signature was not asked for then, or is by a key that is not trusted now, needs one now.
    pub(super) async fn trusted(&self, provenance: &Provenance) -> Result<(), String> {
        let Named { source, resolved } = &provenance.named;
        let source = self.named(source);
        let origin = self.inner.origins.of(&source);
        let found = Some(provenance.signature.as_str()).filter(|s| !s.is_empty());
        if origin.trusts(&source, found) {
            return Ok(());
        }
        origin.verify(source.clone(), resolved.clone()).await.map(drop).map_err(|e| e.text())
    }

    /// The source of a revision: one of the operator's, or a registry's that somebody named once.
    fn named(&self, source: &str) -> Source {
        let mut own = self.inner.sourced.values().map(|s| &s.filter.source);
        own.find(|own| own.to_string() == source)
            .cloned()
            .unwrap_or_else(|| source.parse().map_or_else(|_| Source::Path(source.into()), Source::Registry))
    }
}

impl Sourced {
    fn view(&self) -> SourceView {
        let source = &self.filter.source;
        SourceView { source: source.to_string(), looked: self.lookout.looked(), package: source.package() }
    }
}

/// Where the operator's file wants it, or taken out from there. A shadow that somebody activated has come further.
fn is_in_force(revision: &Revision, start: Start) -> bool {
    let judges = revision.state == RevisionState::Active || is_taken_out(revision);
    judges || (start == Start::Shadow && revision.state == RevisionState::Shadow)
}
