//! The host's policy as far as plans need it: it keeps revisions and does what an action says.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use lanner_core::{FilterSpec, Grant, Revision, RevisionState};
use lanner_kubernetes::{Action, AlertFilter, AlertFilterSpec, BY, Key, Mode, Plan, Refused, refused};
use serde_json::{Map, Value};

pub(crate) struct Desk {
    pub(crate) revisions: Vec<Revision>,
    /// Modules that it does not take.
    pub(crate) refuses: BTreeSet<String>,
}

pub(crate) fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

pub(crate) fn module(number: u8) -> String {
    format!("oci://registry.example/filters/{number}@sha256:{}", format!("{number:x}").repeat(64))
}

pub(crate) fn object(name: &str, number: u8, mode: Mode) -> AlertFilter {
    let module = module(number);
    let settings = Map::new();
    AlertFilter::new(name, AlertFilterSpec { module, settings, mode, order: 0, may_suppress_up_to: None })
}

/// As one that was uploaded for [`object`] number 1.
pub(crate) fn revision(name: &str, number: u64, state: RevisionState) -> Revision {
    Revision {
        name: name.parse().unwrap(),
        number,
        digest: format!("sha256:{number}"),
        bytes: 1,
        state,
        taken_out: false,
        reason: String::new(),
        by: BY.into(),
        at: 1,
        activated: None,
        note: module(1),
        spec: FilterSpec {
            settings: Value::Object(Map::new()),
            order: 0,
            may_suppress_up_to: Grant::default(),
            description: Default::default(),
            provenance: None,
        },
    }
}

pub(crate) fn condition<'a>(of: &'a AlertFilter, kind: &str) -> Option<&'a str> {
    let conditions = &of.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == kind).map(|c| c.status.as_str())
}

impl Desk {
    /// Does what a plan says, as the host will.
    pub(crate) fn follow(&mut self, objects: &mut [AlertFilter], plan: Plan, now: &Time) {
        for object in objects.iter_mut() {
            if let Some(status) = plan.statuses.get(&Key::of(object)) {
                object.status = Some(status.clone());
            }
        }
        for action in &plan.actions {
            if let Err(why) = self.apply(action) {
                let asks = |o: &&mut AlertFilter| {
                    o.metadata.name.as_deref() == Some(action.name().as_str())
                        && o.metadata.deletion_timestamp.is_none()
                        && condition(o, "Accepted") == Some("True")
                };
                let object = objects.iter_mut().find(asks).unwrap();
                object.status = Some(refused(object, &why, now));
            }
        }
    }

    fn apply(&mut self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::Retire { name } => {
                assert!(self.in_force(name.as_str()), "{name} is not in force");
                self.retire(name.as_str(), |_| true);
            }
            Action::Activate { name, revision } => {
                let is = |r: &&mut Revision| r.name == *name && r.number == *revision;
                let found = self.revisions.iter_mut().find(is).unwrap();
                assert_ne!(found.state, RevisionState::Active, "{name} is active already");
                found.state = RevisionState::Active;
                self.retire(name.as_str(), |r| r.number != *revision && r.state != RevisionState::Shadow);
            }
            Action::Upload { name, module, settings, order, may_suppress_up_to, start } => {
                if self.refuses.contains(module.as_str()) {
                    return Err(Refused("it traps".into()));
                }
                let state = match start {
                    Mode::Active => RevisionState::Active,
                    Mode::Shadow => RevisionState::Shadow,
                };
                self.retire(name.as_str(), |r| r.state == state || (r.taken_out && *start == Mode::Active));
                let number = self.revisions.iter().map(|r| r.number).max().unwrap_or(0) + 1;
                self.revisions.push(Revision {
                    note: module.to_string(),
                    spec: FilterSpec {
                        settings: Value::Object(settings.clone()),
                        order: *order,
                        may_suppress_up_to: *may_suppress_up_to,
                        description: Default::default(),
                        provenance: None,
                    },
                    ..revision(name.as_str(), number, state)
                });
            }
        }
        Ok(())
    }

    fn retire(&mut self, name: &str, which: impl Fn(&Revision) -> bool) {
        let in_force =
            |r: &Revision| matches!(r.state, RevisionState::Active | RevisionState::Shadow) || r.taken_out;
        for revision in
            self.revisions.iter_mut().filter(|r| r.name.as_str() == name && in_force(r) && which(r))
        {
            (revision.state, revision.taken_out) = (RevisionState::Retired, false);
        }
    }

    /// Filters that fail too often in a row.
    pub(crate) fn take_out(&mut self, places: &[usize]) {
        for place in places {
            if let Some(revision) = self.revisions.get_mut(*place)
                && revision.by == BY
                && revision.state == RevisionState::Active
            {
                (revision.state, revision.taken_out) = (RevisionState::Failed, true);
            }
        }
    }

    pub(crate) fn in_force(&self, name: &str) -> bool {
        let force =
            |r: &Revision| matches!(r.state, RevisionState::Active | RevisionState::Shadow) || r.taken_out;
        self.revisions.iter().any(|r| r.name.as_str() == name && force(r))
    }

    pub(crate) fn active(&self, name: &str) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.name.as_str() == name && r.state == RevisionState::Active)
    }
}
