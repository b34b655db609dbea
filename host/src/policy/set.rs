//! The filters in force, and a scan's session with them.
//!
//! A set is never changed, only replaced: a session holds the one that it began with, so a batch is judged by exactly one
//! set and a scan too, and an old revision lives as long as the last scan that it judges.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::{Alert, Decision, FilterFailure, FilterRef, Grant, JudgedAlert};

use super::member::Member;
use super::ports::{Difference, Outcome};
use super::{Policy, convert};
use crate::scan::ports::{About, Judge, Judged};

/// Alerts in one call.
pub(super) const BATCH: usize = 256;

#[derive(Default)]
pub(super) struct Set {
    /// In the order in which they are asked.
    pub(super) active: Vec<Arc<Member>>,
    pub(super) shadows: Vec<Arc<Member>>,
}

impl Set {
    /// The same, but with these in place of whatever the filter had.
    pub(super) fn with(&self, name: &str, active: Option<Arc<Member>>, shadow: Option<Arc<Member>>) -> Self {
        let replaced = |members: &[Arc<Member>], new: Option<Arc<Member>>| {
            let mut all: Vec<_> =
                members.iter().filter(|m| m.revision.name.as_str() != name).cloned().chain(new).collect();
            all.sort_by(|a, b| place(a).cmp(&place(b)));
            all
        };
        Self { active: replaced(&self.active, active), shadows: replaced(&self.shadows, shadow) }
    }

    pub(super) fn active_of(&self, name: &str) -> Option<&Arc<Member>> {
        self.active.iter().find(|m| m.revision.name.as_str() == name)
    }

    pub(super) fn shadow_of(&self, name: &str) -> Option<&Arc<Member>> {
        self.shadows.iter().find(|m| m.revision.name.as_str() == name)
    }
}

fn place(member: &Member) -> (i32, &str) {
    (member.revision.spec.order, member.revision.name.as_str())
}

pub(super) struct Session {
    policy: Policy,
    set: Arc<Set>,
    about: About,
}

/// One member's decisions about a batch, in the batch's order.
#[derive(Clone)]
struct Column {
    member: Arc<Member>,
    decisions: Vec<Decision>,
}

impl Session {
    pub(super) fn new(policy: Policy, set: Arc<Set>, about: About) -> Self {
        Self { policy, set, about }
    }

    async fn judge_all(&self, alerts: Vec<Alert>) -> Judged {
        let (mut judged, mut batch) = (Judged::default(), alerts);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            self.judge_batch(batch, &mut judged).await;
            batch = rest;
        }
        judged
    }

    async fn judge_batch(&self, alerts: Vec<Alert>, judged: &mut Judged) {
        let batch = convert::batch(&self.about, &alerts);
        let mut columns = Vec::new();
        for member in &self.set.active {
            match self.ask(member, &batch).await {
                Ok(decisions) => columns.push(Column { member: member.clone(), decisions }),
                Err(reason) => judged.failures.push(FilterFailure {
                    filter: member.revision.name.to_string(),
                    digest: member.revision.digest.clone(),
                    reason,
                    alerts: alerts.len() as u64,
                }),
            }
        }
        let mut decided: Vec<JudgedAlert> = alerts.into_iter().map(JudgedAlert::unjudged).collect();
        if self.set.shadows.is_empty() {
            compose(&mut decided, columns);
            judged.alerts.extend(decided);
            return;
        }
        compose(&mut decided, columns.clone());
        for shadow in &self.set.shadows {
            // A shadow that fails is taken out as an active one would be; the scan hears nothing of it.
            if let Ok(decisions) = self.ask(shadow, &batch).await {
                let column = Column { member: shadow.clone(), decisions };
                let found = differences(&self.about.scan.to_string(), &decided, &columns, &column);
                self.policy.note_differences(shadow, &self.about.scan, found).await;
            }
        }
        judged.alerts.extend(decided);
    }

    async fn ask(
        &self,
        member: &Arc<Member>,
        batch: &super::generated::exports::lanner::platform::filter::Batch,
    ) -> Result<Vec<Decision>, String> {
        if let Some(out) = member.out() {
            return Err(out);
        }
        let answer = member.ask(batch).await;
        if member.note(answer.is_ok()) {
            let reason = answer.as_ref().err().cloned().unwrap_or_default();
            self.policy.taken_out(member, reason).await;
        }
        answer
    }
}

impl Judge for Session {
    fn judge(&mut self, alerts: Vec<Alert>) -> BoxFuture<'_, Judged> {
        self.judge_all(alerts).boxed()
    }

    fn filters(&self) -> Vec<FilterRef> {
        self.set.active.iter().map(|m| m.revision.as_filter()).collect()
    }

    fn grants(&self) -> BTreeMap<String, Grant> {
        let grant = |m: &Arc<Member>| (m.revision.name.to_string(), m.revision.spec.may_suppress_up_to);
        self.set.active.iter().map(grant).collect()
    }
}

/// Gives each alert the decisions of all columns, in their order.
fn compose(alerts: &mut [JudgedAlert], columns: Vec<Column>) {
    let mut columns: Vec<_> = columns
        .into_iter()
        .map(|c| (c.decisions.into_iter(), c.member.revision.spec.may_suppress_up_to))
        .collect();
    for alert in alerts {
        let decisions = columns.iter_mut().filter_map(|(decisions, grant)| Some((decisions.next()?, *grant)));
        alert.decide(decisions.collect());
    }
}

/// Which alerts would count otherwise if the shadow judged in the place of its filter's active revision.
fn differences(scan: &str, decided: &[JudgedAlert], columns: &[Column], shadow: &Column) -> Vec<Difference> {
    let name = &shadow.member.revision.name;
    let mut others: Vec<Column> =
        columns.iter().filter(|c| c.member.revision.name != *name).cloned().collect();
    others.push(shadow.clone());
    others.sort_by(|a, b| place(&a.member).cmp(&place(&b.member)));
    let mut then: Vec<JudgedAlert> = decided.iter().map(|d| JudgedAlert::unjudged(d.alert.clone())).collect();
    compose(&mut then, others);
    let pairs = decided.iter().zip(&then).zip(&shadow.decisions);
    pairs.filter_map(|((now, then), decision)| difference(scan, now, then, Some(decision))).collect()
}

/// The difference between two judgements of the same alert, if there is one.
pub(super) fn difference(
    scan: &str,
    now: &JudgedAlert,
    then: &JudgedAlert,
    decision: Option<&Decision>,
) -> Option<Difference> {
    let outcome = |a: &JudgedAlert| Outcome { suppressed: a.suppressed(), priority: a.priority() };
    let (before, after) = (outcome(now), outcome(then));
    (before != after).then(|| Difference {
        scan: scan.to_owned(),
        alert: now.alert.id,
        rule: now.alert.rule.clone(),
        now: before,
        then: after,
        action: decision.map(|d| d.action),
        reason: decision.map(|d| d.reason.clone()).unwrap_or_default(),
    })
}
