//! Going to a kept revision by hand: at once, for it lies on disk and was compiled before. One that failed has to show
//! first that it is well now.

use lanner_core::{ChangeKind, Check, FunctionSpec, Name, Revision, RevisionState};

use super::Functions;
use super::instance::Handler;
use super::slot::Slot;
use super::update::Failure;
use crate::lifecycle::{Asked, change, retired};
use crate::scan::now;
use crate::scan::ports::StoreError;
use crate::source::told;

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no function of this name")]
    UnknownFunction,
    #[error("the function has no revision {0}; its kept ones are {1}")]
    UnknownRevision(u64, String),
    #[error("no revision waits: name one")]
    NothingWaits,
    #[error("no revision was active before this one")]
    NothingBefore,
    #[error("revision {0} is active already")]
    Already(u64),
    #[error("revision {0} is on its way in: wait for it")]
    HalfWay(u64),
    #[error("revision {0} cannot answer: {1}")]
    Broken(u64, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Functions {
    /// Back to a kept revision: the one named, else the one that was active before. What is tried meanwhile is dropped.
    pub async fn rollback(
        &self,
        name: &Name,
        number: Option<u64>,
        by: &str,
    ) -> Result<Revision<FunctionSpec>, ChangeError> {
        let before = || self.inner.book.before(name).ok_or(ChangeError::NothingBefore);
        let slot = self.slot(name)?;
        let number = number.map_or_else(before, Ok)?;
        self.make_active(slot, number, by, ChangeKind::Rollback).await
    }

    /// Makes a kept revision active: the one named, else the newest that is not.
    pub async fn activate(
        &self,
        name: &Name,
        number: Option<u64>,
        by: &str,
    ) -> Result<Revision<FunctionSpec>, ChangeError> {
        let slot = self.slot(name)?;
        let waits = || {
            let newest = self.inner.book.revisions_of(name).into_iter().next_back();
            newest.filter(|r| r.state != RevisionState::Active).map(|r| r.number)
        };
        let number = number.or_else(waits).ok_or(ChangeError::NothingWaits)?;
        self.make_active(slot, number, by, ChangeKind::Activate).await
    }

    /// The sources are looked at soon: of the functions named by `wanted`; which these are.
    pub fn ask(&self, wanted: impl Fn(&super::View) -> bool, again: bool, by: &str) -> Vec<Name> {
        let named = self.all().into_iter().filter(wanted).map(|view| view.name).collect::<Vec<_>>();
        for slot in named.iter().filter_map(|name| self.inner.slots.get(name)) {
            slot.lookout.ask(Asked { by: by.to_owned(), again });
        }
        named
    }

    fn slot(&self, name: &Name) -> Result<&Slot, ChangeError> {
        self.inner.slots.get(name).ok_or(ChangeError::UnknownFunction)
    }

    async fn make_active(
        &self,
        slot: &Slot,
        number: u64,
        by: &str,
        action: ChangeKind,
    ) -> Result<Revision<FunctionSpec>, ChangeError> {
        let inner = &self.inner;
        let name = &slot.function.name;
        let kept = inner.book.revisions_of(name);
        let unknown = || {
            let numbers: Vec<String> = kept.iter().map(|r| r.number.to_string()).collect();
            ChangeError::UnknownRevision(number, numbers.join(", "))
        };
        let mut revision = kept.iter().find(|r| r.number == number).cloned().ok_or_else(unknown)?;
        let broken = |why: String| ChangeError::Broken(number, why);
        match revision.state {
            RevisionState::Active => return Err(ChangeError::Already(number)),
            state if state.is_half_way() => return Err(ChangeError::HalfWay(number)),
            _ => {}
        }
        let component = inner.loaded_of(&revision, &slot.source).await.map_err(|e| broken(told(&e)))?;
        let of = (number, revision.digest.clone());
        let handler = Handler::new(&inner.engine, &inner.scans, &slot.function, &component, of);
        let handler = std::sync::Arc::new(handler.map_err(|e| broken(told(&e)))?);
        let well = match revision.state {
            RevisionState::Failed => inner.well(slot, &mut revision, &handler).await,
            _ => inner.trusted(&slot.source, &mut revision).await,
        };
        well.map_err(|f| broken(format!("{}: {}", f.check.as_str(), f.reason)))?;
        let _turn = inner.turn.lock().await;
        let active = inner.book.active(name);
        let before = active.as_ref().map(Revision::reference);
        (revision.state, revision.activated) = (RevisionState::Active, Some(now()));
        (revision.spec.failed, revision.reason) = (None, String::new());
        let after = Some(revision.reference());
        let line = change::<FunctionSpec>(by, action, name.as_str(), before, after, "");
        let replaced = active.filter(|r| r.number != number).map(retired);
        let put = replaced.into_iter().chain([revision.clone()]).collect();
        inner.book.apply(name, put, Some(line)).await?;
        slot.replace(handler);
        tracing::info!(function = %name, revision = number, digest = revision.digest, by, "a function was changed");
        Ok(revision)
    }
}

impl super::Inner {
    /// What failed before passes all that can be asked at once: a signature, if one is needed, and a trial.
    async fn well(
        &self,
        slot: &Slot,
        revision: &mut Revision<FunctionSpec>,
        handler: &std::sync::Arc<Handler>,
    ) -> Result<(), Failure> {
        revision.spec.passed.retain(|p| p.check < Check::Signature);
        self.signed(&slot.source, revision).await?;
        let found = self.trial(slot, handler).await.map_err(|why| Failure::of(Check::Trial, why))?;
        revision.spec.passed.push(lanner_core::Passed { check: Check::Trial, found });
        Ok(())
    }
}
