//! Putting one revision in another's place. The new set counts when it is on disk, and then at once: sessions that began
//! before keep theirs, those that begin after have it whole.

use std::sync::Arc;

use lanner_core::{Change, ChangeKind, FilterSpec, Name, Revision, RevisionRef, RevisionState};

use super::member::Member;
use super::upload::Start;
use super::{HOST, Policy};
use crate::lifecycle::{change, retired};
use crate::scan::now;
use crate::scan::ports::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no filter of this name")]
    UnknownFilter,
    #[error("the filter has no revision {0}; its kept ones are {1}")]
    UnknownRevision(u64, String),
    #[error("no revision waits: name one, or upload one with start shadow")]
    NothingWaits,
    #[error("no revision was active before this one")]
    NothingBefore,
    #[error("revision {0} is active already")]
    Already(u64),
    #[error("revision {0} cannot judge: {1}")]
    Broken(u64, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Policy {
    /// Makes a revision active: the one named, else the shadow.
    pub async fn activate(
        &self,
        name: &Name,
        number: Option<u64>,
        by: &str,
    ) -> Result<Revision, ChangeError> {
        let kept = self.known(name)?;
        let number = match number {
            Some(number) => number,
            None => kept
                .iter()
                .find(|r| r.state == RevisionState::Shadow)
                .map(|r| r.number)
                .ok_or(ChangeError::NothingWaits)?,
        };
        self.make_active(&kept, number, by, ChangeKind::Activate).await
    }

    /// Back to a kept revision: the one named, else the one that was active before.
    pub async fn rollback(
        &self,
        name: &Name,
        number: Option<u64>,
        by: &str,
    ) -> Result<Revision, ChangeError> {
        let kept = self.known(name)?;
        let before = || self.inner.book.before(name).ok_or(ChangeError::NothingBefore);
        let number = number.map_or_else(before, Ok)?;
        self.make_active(&kept, number, by, ChangeKind::Rollback).await
    }

    /// The filter judges no more; its revisions are kept.
    pub async fn retire(&self, name: &Name, by: &str) -> Result<(), ChangeError> {
        self.known(name)?;
        let _turn = self.inner.turn.lock().await;
        let put = self
            .revisions_of(name)
            .into_iter()
            .filter(|r| matches!(r.state, RevisionState::Active | RevisionState::Shadow) || r.taken_out)
            .map(retired)
            .collect();
        let before = self.judging(name);
        self.apply(name, put, Some(log(by, ChangeKind::Retire, name, before, None, ""))).await?;
        self.swap(self.set().with(name.as_str(), None, None));
        Ok(())
    }

    async fn make_active(
        &self,
        kept: &[Revision],
        number: u64,
        by: &str,
        action: ChangeKind,
    ) -> Result<Revision, ChangeError> {
        let unknown = || {
            let numbers: Vec<String> = kept.iter().map(|r| r.number.to_string()).collect();
            ChangeError::UnknownRevision(number, numbers.join(", "))
        };
        let revision = kept.iter().find(|r| r.number == number).cloned().ok_or_else(unknown)?;
        if revision.state == RevisionState::Active {
            return Err(ChangeError::Already(number));
        }
        let failed =
            !revision.state.may_become(RevisionState::Active) || revision.state == RevisionState::Failed;
        let broken = |why| ChangeError::Broken(number, why);
        let member = self.member(revision).await.map_err(broken)?;
        if failed {
            // It did not pass before, or failed since: it has to show that it is well.
            let valid = member.validate().await.map_err(broken)?;
            valid.map_err(|why| broken(format!("it refuses its settings: {why}")))?;
            self.trial(&member).await.map_err(|e| broken(e.to_string()))?;
        }
        Ok(self.put_in(member, Start::Active, by, action).await?)
    }

    /// Puts a member that passed everything into the set, in the place of what its filter had there.
    pub(super) async fn put_in(
        &self,
        mut member: Member,
        start: Start,
        by: &str,
        action: ChangeKind,
    ) -> Result<Revision, StoreError> {
        let _turn = self.inner.turn.lock().await;
        let name = member.revision.name.clone();
        let (state, activated) = match start {
            Start::Active => (RevisionState::Active, Some(now())),
            Start::Shadow => (RevisionState::Shadow, member.revision.activated),
        };
        let replaced = |r: &Revision| {
            r.number != member.revision.number
                && (r.state == state || (r.taken_out && state == RevisionState::Active))
        };
        let mut put: Vec<Revision> =
            self.revisions_of(&name).into_iter().filter(replaced).map(retired).collect();
        let revision = &mut member.revision;
        (revision.state, revision.activated) = (state, activated);
        (revision.taken_out, revision.reason) = (false, String::new());
        let revision = revision.clone();
        put.push(revision.clone());
        let before = self.judging(&name);
        let (after, detail) = match start {
            Start::Active => (Some(revision.reference()), String::new()),
            Start::Shadow => {
                (before.clone(), format!("revision {} ({}) as shadow", revision.number, revision.digest))
            }
        };
        self.apply(&name, put, Some(log(by, action, &name, before, after, &detail))).await?;
        let (set, member) = (self.set(), Arc::new(member));
        let shadow = set.shadow_of(name.as_str()).filter(|s| s.revision.number != revision.number).cloned();
        self.swap(match start {
            Start::Active => set.with(name.as_str(), Some(member), shadow),
            Start::Shadow => set.with(name.as_str(), set.active_of(name.as_str()).cloned(), Some(member)),
        });
        tracing::info!(filter = %name, revision = revision.number, state = state.as_str(), by, "filter changed");
        Ok(revision)
    }

    /// A filter failed too often in a row. An active one keeps its place: its alerts are kept, and no scan is clean
    /// without it; a shadow one leaves.
    pub(super) async fn taken_out(&self, member: &Arc<Member>, reason: String) {
        let _turn = self.inner.turn.lock().await;
        let set = self.set();
        let name = &member.revision.name;
        let is_active = set.active_of(name.as_str()).is_some_and(|m| Arc::ptr_eq(m, member));
        let is_shadow = set.shadow_of(name.as_str()).is_some_and(|m| Arc::ptr_eq(m, member));
        if !is_active && !is_shadow {
            return;
        }
        let mut revision = member.revision.clone();
        (revision.state, revision.taken_out, revision.reason) =
            (RevisionState::Failed, is_active, reason.clone());
        tracing::error!(filter = %name, revision = revision.number, reason, "a filter is taken out");
        let before = self.judging(name);
        let change = log(HOST, ChangeKind::TakeOut, name, before, None, &reason);
        if let Err(error) = self.apply(name, vec![revision], Some(change)).await {
            tracing::error!(error = &error as &dyn std::error::Error, "that it is out could not be stored");
        }
        if is_shadow {
            self.swap(set.with(name.as_str(), set.active_of(name.as_str()).cloned(), None));
        }
    }

    /// What was taken out is well again.
    pub(super) async fn taken_back(&self, member: &Arc<Member>) -> Result<(), StoreError> {
        let _turn = self.inner.turn.lock().await;
        let name = &member.revision.name;
        if !self.set().active_of(name.as_str()).is_some_and(|m| Arc::ptr_eq(m, member)) {
            return Ok(());
        }
        let mut revision = member.revision.clone();
        (revision.state, revision.taken_out, revision.reason) = (RevisionState::Active, false, String::new());
        let after = Some(revision.reference());
        let change = log(HOST, ChangeKind::Recover, name, None, after, "");
        self.apply(name, vec![revision], Some(change)).await?;
        member.health().back();
        Ok(())
    }

    fn known(&self, name: &Name) -> Result<Vec<Revision>, ChangeError> {
        Some(self.revisions_of(name)).filter(|r| !r.is_empty()).ok_or(ChangeError::UnknownFilter)
    }

    fn judging(&self, name: &Name) -> Option<RevisionRef> {
        self.inner.book.active(name).map(|r| r.reference())
    }

    async fn apply(&self, name: &Name, put: Vec<Revision>, audit: Option<Change>) -> Result<(), StoreError> {
        self.inner.book.apply(name, put, audit).await
    }
}

fn log(
    by: &str,
    action: ChangeKind,
    name: &Name,
    before: Option<RevisionRef>,
    after: Option<RevisionRef>,
    detail: &str,
) -> Change {
    change::<FilterSpec>(by, action, name.as_str(), before, after, detail)
}
