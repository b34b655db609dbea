//! One life cycle for whatever is replaced while the host runs: filters and functions. Their revisions stand in a
//! [`Book`], each change of it is on disk before it counts and has its line in the audit log, and the components lie beside
//! it as files, named by digest.
//!
//! It knows neither what a filter nor what a function does: which revision serves, and who may say so, is the business of
//! `policy` and `function`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use lanner_core::{Change, ChangeKind, Name, Named, Revision, RevisionRef, RevisionState, Spec};

use crate::scan::now;
use crate::scan::ports::StoreError;

mod components;
mod lookout;

pub use components::Components;
pub use lookout::{Asked, Looked, Lookout, Rounds};

/// Who made a change that no caller made.
pub const HOST: &str = "host";

/// Keeps revisions. A call that returned `Ok` is on disk.
pub trait Revisions<S>: Send + Sync + 'static {
    /// All that are kept, by name and number.
    fn revisions(&self) -> BoxFuture<'static, Result<Vec<Revision<S>>, StoreError>>;
    /// A number that no revision of this name ever had.
    fn next(&self, name: Name) -> BoxFuture<'static, Result<u64, StoreError>>;
    /// All of a step, or nothing.
    fn apply(&self, step: Step<S>) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Of all kinds, newest first, those before `before`.
    fn audit(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(u64, Change)>, StoreError>>;
}

/// What changes together.
#[derive(Clone, Debug)]
pub struct Step<S> {
    /// Added or replaced.
    pub put: Vec<Revision<S>>,
    pub forget: Vec<(Name, u64)>,
    pub audit: Option<Change>,
}

impl<S> Default for Step<S> {
    fn default() -> Self {
        Self { put: Vec::new(), forget: Vec::new(), audit: None }
    }
}

/// The kept revisions of one kind, and their components.
pub struct Book<S> {
    store: Arc<dyn Revisions<S>>,
    components: Components,
    /// Revisions of a name that are kept beside those that serve.
    keep: usize,
    kept: Mutex<BTreeMap<Name, BTreeMap<u64, Revision<S>>>>,
}

impl<S: Spec> Book<S> {
    /// As it was left; what was half way in has failed.
    pub async fn open(
        store: Arc<dyn Revisions<S>>,
        components: Components,
        keep: usize,
    ) -> Result<Self, StoreError> {
        let (mut half, mut kept) = (Vec::new(), BTreeMap::<Name, BTreeMap<u64, Revision<S>>>::new());
        for mut revision in store.revisions().await? {
            if revision.state.is_half_way() {
                revision.state = RevisionState::Failed;
                revision.reason = "the host stopped while it was tried".into();
                half.push(revision.clone());
            }
            kept.entry(revision.name.clone()).or_default().insert(revision.number, revision);
        }
        if !half.is_empty() {
            store.apply(Step { put: half, ..Step::default() }).await?;
        }
        let book = Self { store, components, keep, kept: Mutex::new(kept) };
        book.collect();
        Ok(book)
    }

    /// By name and number.
    pub fn revisions(&self) -> Vec<Revision<S>> {
        self.kept().values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Oldest first; empty if there is nothing of this name.
    pub fn revisions_of(&self, name: &Name) -> Vec<Revision<S>> {
        self.kept().get(name).map(|r| r.values().cloned().collect()).unwrap_or_default()
    }

    pub fn active(&self, name: &Name) -> Option<Revision<S>> {
        self.revisions_of(name).into_iter().find(|r| r.state == RevisionState::Active)
    }

    /// What a rollback leads to: the revision that was active before this one.
    pub fn before(&self, name: &Name) -> Option<u64> {
        let earlier = |r: &Revision<S>| r.state == RevisionState::Retired && r.activated.is_some();
        let kept = self.revisions_of(name).into_iter();
        kept.filter(earlier).max_by_key(|r| r.activated).map(|r| r.number)
    }

    /// Whether what a source names was refused before, or was there last and is not active: so that it was rolled back from.
    /// `here`: the source is on this machine.
    pub fn is_known(&self, name: &Name, named: &Named, here: bool) -> bool {
        let kept: Vec<_> = self
            .revisions_of(name)
            .into_iter()
            .filter(|r| r.spec.named().is_some_and(|n| n.source == named.source))
            .collect();
        let refused = |r: &&Revision<S>| r.state == RevisionState::Failed && r.spec.is_refused();
        let left = |r: &&Revision<S>| r.state == RevisionState::Retired;
        let is_it = |r: &Revision<S>| r.spec.named() == Some(named);
        kept.iter().filter(refused).any(is_it)
            // In a registry nobody leads us back to an earlier one by moving a tag: that is a rollback, and for people.
            || (!here && kept.iter().filter(left).any(is_it))
            || kept.last().filter(left).is_some_and(is_it)
    }

    pub async fn next(&self, name: &Name) -> Result<u64, StoreError> {
        self.store.next(name.clone()).await
    }

    /// Where a revision on its way in stands.
    pub async fn record(&self, revision: &Revision<S>) -> Result<(), StoreError> {
        self.store.apply(Step { put: vec![revision.clone()], ..Step::default() }).await?;
        self.kept().entry(revision.name.clone()).or_default().insert(revision.number, revision.clone());
        Ok(())
    }

    /// On disk, then in the book; what is too old to be kept is forgotten in the same step.
    pub async fn apply(
        &self,
        name: &Name,
        put: Vec<Revision<S>>,
        audit: Option<Change>,
    ) -> Result<(), StoreError> {
        let mut all = self.kept().get(name).cloned().unwrap_or_default();
        all.extend(put.iter().map(|r| (r.number, r.clone())));
        let newest = all.keys().next_back().copied();
        // The newest says what was seen last, even if it was refused.
        let idle = |r: &&Revision<S>| {
            matches!(r.state, RevisionState::Retired | RevisionState::Failed)
                && !r.taken_out
                && Some(r.number) != newest
        };
        let mut old: Vec<&Revision<S>> = all.values().filter(idle).collect();
        old.sort_by_key(|r| std::cmp::Reverse((r.activated, r.number)));
        let forget: Vec<u64> = old.into_iter().skip(self.keep).map(|r| r.number).collect();
        forget.iter().for_each(|n| drop(all.remove(n)));
        let put = put.into_iter().filter(|r| !forget.contains(&r.number)).collect();
        let forgotten = forget.iter().map(|n| (name.clone(), *n)).collect();
        self.store.apply(Step { put, forget: forgotten, audit }).await?;
        self.kept().insert(name.clone(), all);
        if !forget.is_empty() {
            self.collect();
        }
        Ok(())
    }

    /// As if it had never been, but for its number.
    pub async fn drop_revision(&self, name: &Name, number: u64) -> Result<(), StoreError> {
        self.store.apply(Step { forget: vec![(name.clone(), number)], ..Step::default() }).await?;
        if let Some(kept) = self.kept().get_mut(name) {
            kept.remove(&number);
        }
        self.collect();
        Ok(())
    }

    /// A line in the audit log, and nothing else.
    pub async fn note(&self, change: Change) -> Result<(), StoreError> {
        self.store.apply(Step { audit: Some(change), ..Step::default() }).await
    }

    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Change)>, StoreError> {
        self.store.audit(before, limit).await
    }

    pub fn components(&self) -> &Components {
        &self.components
    }

    /// Forgets components that no kept revision names.
    fn collect(&self) {
        let used: BTreeSet<String> = self.revisions().into_iter().map(|r| r.digest).collect();
        if let Err(error) = self.components.collect(&used) {
            tracing::warn!(%error, "components could not be collected");
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Name, BTreeMap<u64, Revision<S>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the audit log.
pub fn change<S: Spec>(
    by: &str,
    action: ChangeKind,
    name: &str,
    before: Option<RevisionRef>,
    after: Option<RevisionRef>,
    detail: &str,
) -> Change {
    Change {
        at: now(),
        by: by.to_owned(),
        action,
        kind: S::KIND,
        name: name.to_owned(),
        before,
        after,
        detail: detail.to_owned(),
    }
}

/// No more in service, and kept to go back to.
pub fn retired<S>(mut revision: Revision<S>) -> Revision<S> {
    (revision.state, revision.taken_out) = (RevisionState::Retired, false);
    revision
}
