//! From what the objects ask for, and what the host has, to what is to be done and said.
//!
//! A filter belongs to an object if [`BY`] put it in; its revision's note is the object's module. Filters that others put in
//! are never touched: an object of such a name is told so, and one of a name that the operator's file has, too. Refusals are
//! remembered in the object's own status, so that what the host refused is not sent again before the object changes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use lanner_core::{Grant, Name, Revision, RevisionState};

use crate::filter::{AlertFilter, AlertFilterStatus, Mode};
use crate::module::ModuleRef;
use crate::plan::Action;
use crate::status::{Known, PENDING, REFUSED, Seen, TRIED};

/// Who puts in what objects ask for, as the audit log has it: no caller can be called so.
pub const BY: &str = "kubernetes:alertfilters";

/// Which object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Filters that go, by name; then what objects ask for, by their order and name.
    pub actions: Vec<Action>,
    /// Of the objects whose status is another than they have.
    pub statuses: BTreeMap<Key, AlertFilterStatus>,
}

/// Why the host did not do what an object asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What an object asks for, checked.
struct Wanted<'a> {
    name: Name,
    module: ModuleRef,
    grant: Grant,
    object: &'a AlertFilter,
}

impl Key {
    pub fn of(object: &AlertFilter) -> Self {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        Self { namespace: text(&object.metadata.namespace), name: text(&object.metadata.name) }
    }
}

/// What the host has.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// All that it keeps.
    pub revisions: &'a [Revision],
    /// Names of the operator's file.
    pub reserved: &'a BTreeSet<Name>,
    /// What it grants if an object says nothing.
    pub default: Grant,
}

pub fn reconcile(objects: &[AlertFilter], host: Host<'_>, now: &Time) -> Plan {
    let revisions = host.revisions;
    let mut present: Vec<&AlertFilter> =
        objects.iter().filter(|o| o.metadata.deletion_timestamp.is_none()).collect();
    // The oldest object of a name has it.
    present.sort_by_key(|o| (age(o), Key::of(o)));
    let mut plan = Plan { actions: orphans(&present, revisions), statuses: BTreeMap::new() };
    let mut asked = Vec::new();
    let mut taken = BTreeSet::new();
    for object in present {
        let first = taken.insert(object.metadata.name.clone());
        let known = match wanted(object, first, host) {
            Ok(wanted) => {
                let (actions, known) = decide(&wanted, revisions);
                asked.push(((object.spec.order, wanted.name), actions));
                known
            }
            Err(refused) => refused,
        };
        let status = known.status(object, now);
        if object.status.as_ref() != Some(&status) {
            plan.statuses.insert(Key::of(object), status);
        }
    }
    asked.sort_by(|(a, _), (b, _)| a.cmp(b));
    plan.actions.extend(asked.into_iter().flat_map(|(_, actions)| actions));
    plan
}

/// The status of an object for which an action failed for good: it is not tried again before the object changes. What may
/// go better next time, such as a registry that does not answer, is nothing to note here.
pub fn refused(object: &AlertFilter, why: &Refused, now: &Time) -> AlertFilterStatus {
    Known::Failed { why: why.to_string() }.status(object, now)
}

/// The status of an object for which an action cannot be done yet: it is tried again.
pub fn waiting(object: &AlertFilter, why: &str, now: &Time) -> AlertFilterStatus {
    Known::Pending { why: Some(why.to_owned()) }.status(object, now)
}

fn age(object: &AlertFilter) -> (bool, Option<Timestamp>) {
    let created = object.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (created.is_none(), created)
}

/// Filters of ours that no object names any more.
fn orphans(present: &[&AlertFilter], revisions: &[Revision]) -> Vec<Action> {
    let named = |r: &&Revision| present.iter().any(|o| o.metadata.name.as_deref() == Some(r.name.as_str()));
    let gone: BTreeSet<&Name> =
        revisions.iter().filter(|r| is_ours(r) && is_in_force(r) && !named(r)).map(|r| &r.name).collect();
    gone.into_iter().map(|name| Action::Retire { name: name.clone() }).collect()
}

fn wanted<'a>(object: &'a AlertFilter, first: bool, host: Host<'_>) -> Result<Wanted<'a>, Known> {
    let refused = |reason, why: String| Known::Refused { reason, why };
    let name = Key::of(object).name.parse::<Name>().map_err(|e| refused("InvalidName", e.to_string()))?;
    if !first {
        return Err(refused("NameTaken", "an older object in another namespace has this name".into()));
    }
    if host.reserved.contains(&name) {
        let why = "the host's own configuration has a filter of this name: rename the object";
        return Err(refused("NameTaken", why.into()));
    }
    let other = host.revisions.iter().find(|r| r.name == name && is_in_force(r) && !is_ours(r));
    if let Some(other) = other {
        let why =
            format!("a filter of this name was put in by {}: retire it, or rename the object", other.by);
        return Err(refused("NameTaken", why));
    }
    let module = object.spec.module.parse::<ModuleRef>();
    let module = module.map_err(|e| refused("InvalidModule", e.to_string()))?;
    let grant = object.spec.may_suppress_up_to.unwrap_or(host.default);
    if grant.percent > 100 {
        let why = "spec.maySuppressUpTo.percent is a number from 0 to 100";
        return Err(refused("InvalidGrant", why.into()));
    }
    Ok(Wanted { name, module, grant, object })
}

/// What to do for one object, and what is known of it before that.
fn decide(wanted: &Wanted<'_>, revisions: &[Revision]) -> (Vec<Action>, Known) {
    let ours: Vec<&Revision> = revisions.iter().filter(|r| r.name == wanted.name && is_ours(r)).collect();
    let fitting = |state: RevisionState| ours.iter().find(|r| r.state == state && wanted.fits(r)).copied();
    let (active, shadow) = (fitting(RevisionState::Active), fitting(RevisionState::Shadow));
    let judging = ours.iter().any(|r| r.state == RevisionState::Active || r.taken_out);
    let shadowing = ours.iter().any(|r| r.state == RevisionState::Shadow);
    let out = ours.iter().find(|r| r.taken_out && wanted.fits(r));
    let mode = wanted.object.spec.mode;
    match (mode, active, shadow) {
        (Mode::Active, Some(active), _) if !shadowing => return (vec![], Known::Judges(Seen::from(active))),
        (Mode::Shadow, _, Some(shadow)) if !judging => return (vec![], Known::Shadow(Seen::from(shadow))),
        _ => {}
    }
    if let (Mode::Active, Some(out)) = (mode, out) {
        return (vec![], Known::TakenOut(Seen::from(*out), out.reason.clone()));
    }
    if let Some(why) = wanted.refused_before() {
        return (vec![], Known::Failed { why });
    }
    // The host retires a filter whole, so what is of the other kind goes with it; a shadow that is wanted as active is
    // made so at once, and one active revision is put in another's place without a gap.
    let in_the_way = match mode {
        Mode::Active => shadowing && shadow.is_none(),
        Mode::Shadow => judging,
    };
    let retire = in_the_way || (shadowing && active.is_some());
    let first = retire.then(|| Action::Retire { name: wanted.name.clone() });
    let kept = active.or(shadow).or_else(|| fitting(RevisionState::Retired)).filter(|_| mode == Mode::Active);
    let then = match kept {
        Some(kept) => Action::Activate { name: wanted.name.clone(), revision: kept.number },
        None => wanted.upload(),
    };
    (first.into_iter().chain([then]).collect(), Known::Pending { why: wanted.waits() })
}

impl Wanted<'_> {
    fn fits(&self, revision: &Revision) -> bool {
        let spec = &self.object.spec;
        revision.note == self.module.as_str()
            && revision.spec.settings.as_object() == Some(&spec.settings)
            && revision.spec.order == spec.order
            && revision.spec.may_suppress_up_to == self.grant
    }

    fn upload(&self) -> Action {
        let spec = &self.object.spec;
        Action::Upload {
            name: self.name.clone(),
            module: self.module.clone(),
            settings: spec.settings.clone(),
            order: spec.order,
            may_suppress_up_to: self.grant,
            start: spec.mode,
        }
    }

    fn refused_before(&self) -> Option<String> {
        self.tried("False", REFUSED)
    }

    /// What it waits for, so that the same is not said in other words at each look.
    fn waits(&self) -> Option<String> {
        self.tried("Unknown", PENDING)
    }

    /// What the host said of this generation of the object, if it was that.
    fn tried(&self, status: &str, reason: &str) -> Option<String> {
        let before = self.object.status.as_ref()?;
        let same = before.observed_generation == self.object.metadata.generation;
        let tried = before.conditions.iter().find(|c| c.type_ == TRIED)?;
        (same && tried.status == status && tried.reason == reason).then(|| tried.message.clone())
    }
}

fn is_ours(revision: &Revision) -> bool {
    revision.by == BY
}

fn is_in_force(revision: &Revision) -> bool {
    matches!(revision.state, RevisionState::Active | RevisionState::Shadow) || revision.taken_out
}
