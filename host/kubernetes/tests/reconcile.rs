//! What follows from objects and revisions: case by case, and that it comes to rest whatever the objects do.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

mod desk;

use std::collections::{BTreeMap, BTreeSet};

use desk::{Desk, at, module, object, revision};
use lanner_core::{Grant, Priority, Revision, RevisionState};
use lanner_kubernetes::{Action, AlertFilter, Host, Key, Mode, Plan, Refused, reconcile, refused, waiting};
use proptest::prelude::*;
use serde_json::json;

fn planned(objects: &[AlertFilter], revisions: &[Revision]) -> Plan {
    planned_at(objects, revisions, 1)
}

fn planned_at(objects: &[AlertFilter], revisions: &[Revision], second: i64) -> Plan {
    let host = Host { revisions, reserved: &BTreeSet::new(), default: Grant::default() };
    reconcile(objects, host, &at(second))
}

/// Verbs and names.
fn steps(plan: &Plan) -> Vec<String> {
    let verb = |action: &Action| match action {
        Action::Retire { name } => format!("retire {name}"),
        Action::Activate { name, revision } => format!("activate {name} {revision}"),
        Action::Upload { name, start, .. } => format!("upload {name} {start:?}"),
    };
    plan.actions.iter().map(verb).collect()
}

/// A condition's status and reason in what is to be said of an object.
fn said(plan: &Plan, name: &str, condition: &str) -> (String, String) {
    let of = plan.statuses.iter().find(|(key, _)| key.name == name).unwrap().1;
    let found = of.conditions.iter().find(|c| c.type_ == condition).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn each_case_has_its_steps_and_its_word() {
    use RevisionState::{Active, Retired, Shadow};
    let wants = |mode| object("f", 1, mode);
    let other = Revision { note: module(2), ..revision("f", 1, Active) };
    let out = Revision { taken_out: true, reason: "trap".into(), ..revision("f", 1, RevisionState::Failed) };
    let kept = |number, state| revision("f", number, state);
    for (what, mode, revisions, expected, word) in [
        ("new", Mode::Active, vec![], vec!["upload f Active"], is("False", "Pending")),
        ("there", Mode::Active, vec![kept(1, Active)], vec![], is("True", "Judges")),
        (
            "another module",
            Mode::Active,
            vec![other.clone()],
            vec!["upload f Active"],
            is("False", "Pending"),
        ),
        ("its shadow", Mode::Active, vec![kept(1, Shadow)], vec!["activate f 1"], is("False", "Pending")),
        (
            "its shadow, another judges",
            Mode::Active,
            vec![other.clone(), kept(2, Shadow)],
            vec!["activate f 2"],
            is("False", "Pending"),
        ),
        ("kept", Mode::Active, vec![kept(1, Retired)], vec!["activate f 1"], is("False", "Pending")),
        (
            "another shadow",
            Mode::Active,
            vec![Revision { state: Shadow, ..other.clone() }],
            vec!["retire f", "upload f Active"],
            is("False", "Pending"),
        ),
        ("out of service", Mode::Active, vec![out.clone()], vec![], is("False", "TakenOut")),
        ("new shadow", Mode::Shadow, vec![], vec!["upload f Shadow"], is("False", "Pending")),
        ("shadow", Mode::Shadow, vec![kept(1, Shadow)], vec![], is("False", "Shadow")),
        (
            "from active to shadow",
            Mode::Shadow,
            vec![kept(1, Active)],
            vec!["retire f", "upload f Shadow"],
            is("False", "Pending"),
        ),
        (
            "from out to shadow",
            Mode::Shadow,
            vec![out],
            vec!["retire f", "upload f Shadow"],
            is("False", "Pending"),
        ),
    ] {
        let plan = planned(&[wants(mode)], &revisions);
        assert_eq!(
            (steps(&plan), said(&plan, "f", "Active")),
            (expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), word),
            "{what}"
        );
        assert_eq!(said(&plan, "f", "Accepted"), is("True", "Valid"), "{what}");
    }
}

#[test]
fn an_upload_has_all_that_the_object_says() {
    let mut wants = object("f", 1, Mode::Shadow);
    wants.spec.settings = json!({ "a": 1 }).as_object().unwrap().clone();
    wants.spec.order = -7;
    let granted = Grant { percent: 5, priority: Priority::Notice };
    for grant in [None, Some(granted)] {
        wants.spec.may_suppress_up_to = grant;
        let plan = planned(std::slice::from_ref(&wants), &[]);
        let expected = Action::Upload {
            name: "f".parse().unwrap(),
            module: module(1).parse().unwrap(),
            settings: wants.spec.settings.clone(),
            order: -7,
            may_suppress_up_to: grant.unwrap_or_default(),
            start: Mode::Shadow,
        };
        assert_eq!(plan.actions, [expected]);
    }
}

#[test]
fn what_no_object_names_is_retired_and_what_others_put_in_is_left_alone() {
    let mut deleted = object("gone", 1, Mode::Active);
    deleted.metadata.deletion_timestamp = Some(at(0));
    let others = |name: &str| Revision { by: "lena".into(), ..revision(name, 1, RevisionState::Active) };
    let revisions = [
        revision("gone", 1, RevisionState::Active),
        revision("unnamed", 1, RevisionState::Shadow),
        revision("retired", 1, RevisionState::Retired),
        others("theirs"),
        others("wanted"),
    ];
    let plan = planned(&[deleted, object("wanted", 1, Mode::Active)], &revisions);
    assert_eq!(steps(&plan), ["retire gone", "retire unnamed"]);
    assert_eq!(said(&plan, "wanted", "Accepted"), is("False", "NameTaken"));
    assert!(!plan.statuses.keys().any(|key| key.name == "gone"));
}

#[test]
fn what_cannot_be_acted_on_is_said_and_what_judged_before_goes_on() {
    let mut bad = object("f", 1, Mode::Active);
    bad.spec.module = "oci://registry.example/f:latest".into();
    let plan = planned(&[bad.clone()], &[revision("f", 1, RevisionState::Active)]);
    assert_eq!((steps(&plan), said(&plan, "f", "Accepted")), (vec![], is("False", "InvalidModule")));
    let message = &plan.statuses.values().next().unwrap().conditions[0].message;
    assert_eq!(message, "spec.module names no digest: write oci://REGISTRY/REPOSITORY@sha256:DIGEST");
    bad = object("f", 1, Mode::Active);
    bad.spec.may_suppress_up_to = Some(Grant { percent: 101, priority: Priority::Notice });
    assert_eq!(said(&planned(&[bad], &[]), "f", "Accepted"), is("False", "InvalidGrant"));
    for name in ["rejudge", "a.b"] {
        let plan = planned(&[object(name, 1, Mode::Active)], &[]);
        assert_eq!((steps(&plan), said(&plan, name, "Accepted")), (vec![], is("False", "InvalidName")));
    }
}

#[test]
fn of_two_objects_of_one_name_the_older_has_it_and_of_one_order_the_names_decide() {
    let in_namespace = |namespace: &str, created| {
        let mut made = object("f", 1, Mode::Active);
        made.metadata.namespace = Some(namespace.into());
        made.metadata.creation_timestamp = created;
        made
    };
    for (older, younger) in [(Some(at(1)), Some(at(2))), (Some(at(2)), None), (Some(at(1)), Some(at(1)))] {
        // As a last resort the namespaces decide: it is the same at every look.
        let plan = planned(&[in_namespace("b", younger), in_namespace("a", older)], &[]);
        assert_eq!(steps(&plan), ["upload f Active"]);
        let accepted = |namespace: &str| {
            let key = Key { namespace: namespace.into(), name: "f".into() };
            plan.statuses[&key].conditions[0].status.clone()
        };
        assert_eq!((accepted("a").as_str(), accepted("b").as_str()), ("True", "False"));
    }
    let ordered = |name: &str, order| {
        let mut made = object(name, 1, Mode::Active);
        made.spec.order = order;
        made
    };
    let plan = planned(&[ordered("c", 0), ordered("b", 0), ordered("a", 5), ordered("d", -1)], &[]);
    assert_eq!(steps(&plan), ["upload d Active", "upload b Active", "upload c Active", "upload a Active"]);
}

#[test]
fn what_was_refused_is_not_sent_again_before_the_object_changes() {
    let mut object = object("f", 1, Mode::Active);
    object.metadata.generation = Some(1);
    object.status = Some(refused(&object, &Refused("it imports wasi:cli\u{1b}".into()), &at(1)));
    let plan = planned(std::slice::from_ref(&object), &[]);
    assert_eq!((plan.actions.len(), plan.statuses.len()), (0, 0), "{plan:?}");
    let tried = &object.status.as_ref().unwrap().conditions[1];
    assert_eq!((tried.status.as_str(), tried.message.as_str()), ("False", r"it imports wasi:cli\u{1b}"));
    object.metadata.generation = Some(2);
    assert_eq!(steps(&planned(&[object], &[])), ["upload f Active"]);
}

#[test]
fn what_waits_says_for_what_and_is_done_again() {
    let mut object = object("f", 1, Mode::Active);
    object.metadata.generation = Some(1);
    object.status = Some(waiting(&object, "the registry is away", &at(1)));
    let plan = planned(std::slice::from_ref(&object), &[]);
    assert_eq!((steps(&plan), plan.statuses.len()), (vec!["upload f Active".to_owned()], 0), "{plan:?}");
    let tried = &object.status.as_ref().unwrap().conditions[1];
    assert_eq!((tried.status.as_str(), tried.message.as_str()), ("Unknown", "the registry is away"));
    object.metadata.generation = Some(2);
    let plan = planned(&[object], &[]);
    assert_eq!(plan.statuses.values().next().unwrap().conditions[1].message, "it is fetched and tried");
}

#[test]
fn a_name_of_the_operators_file_is_no_objects() {
    let reserved = BTreeSet::from(["f".parse().unwrap()]);
    let host = Host { revisions: &[], reserved: &reserved, default: Grant::default() };
    let plan = reconcile(&[object("f", 1, Mode::Active), object("g", 1, Mode::Active)], host, &at(1));
    assert_eq!(
        (steps(&plan), said(&plan, "f", "Accepted")),
        (vec!["upload g Active".to_owned()], is("False", "NameTaken"))
    );
    let message = &plan.statuses.values().next().unwrap().conditions[0].message;
    assert_eq!(message, "the host's own configuration has a filter of this name: rename the object");
}

#[test]
fn a_conditions_time_is_that_of_its_last_change() {
    let mut object = object("f", 1, Mode::Active);
    object.status = planned(std::slice::from_ref(&object), &[]).statuses.into_values().next();
    let active = [revision("f", 1, RevisionState::Active)];
    let plan = planned_at(std::slice::from_ref(&object), &active, 9);
    let times: Vec<_> =
        plan.statuses[&Key::of(&object)].conditions.iter().map(|c| c.last_transition_time.clone()).collect();
    assert_eq!(times, [at(1), at(9), at(9)]);
}

type Written = (u8, bool, i32, u8, bool, bool);

/// Few names, modules and orders, so that they meet each other.
fn objects() -> impl Strategy<Value = BTreeMap<(u8, u8), Written>> {
    let object = (0..6u8, any::<bool>(), -1..2i32, 0..4u8, prop::bool::weighted(0.1), any::<bool>());
    prop::collection::btree_map((0..2u8, 0..4u8), object, 0..6)
}

fn written(place: (u8, u8), what: Written, generation: i64) -> AlertFilter {
    let (which, shadow, order, grant, deleted, aged) = what;
    let name = ["a", "b", "c", "theirs"][usize::from(place.1)];
    let mut object = object(name, which, if shadow { Mode::Shadow } else { Mode::Active });
    object.metadata.namespace = Some(["x", "y"][usize::from(place.0)].into());
    object.metadata.generation = Some(generation);
    object.metadata.creation_timestamp = aged.then(|| at(3));
    object.metadata.deletion_timestamp = deleted.then(|| at(4));
    object.spec.order = order;
    object.spec.settings = json!({ "n": order }).as_object().unwrap().clone();
    object.spec.may_suppress_up_to =
        (grant > 0).then(|| Grant { percent: grant * 40, priority: Priority::Notice });
    if which == 5 {
        object.spec.module = "oci://registry.example/x:latest".into();
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the objects become, and whatever the host refuses or takes out: after the actions there is nothing left to do.
    #[test]
    fn it_comes_to_rest(
        history in prop::collection::vec((objects(), prop::collection::vec(0..8usize, 0..3)), 1..6)
    ) {
        let theirs = Revision { by: "lena".into(), ..revision("theirs", 1, RevisionState::Active) };
        // Module 4 is one that the host refuses.
        let mut desk = Desk { revisions: vec![theirs.clone()], refuses: BTreeSet::from([module(4)]) };
        let mut statuses = BTreeMap::new();
        for (generation, (asked, failing)) in (1..).zip(history) {
            desk.take_out(&failing);
            let mut objects: Vec<_> =
                asked.into_iter().map(|(place, what)| written(place, what, generation)).collect();
            for object in &mut objects {
                object.status = statuses.get(&Key::of(object)).cloned();
            }
            let mut rounds = 0;
            loop {
                let plan = planned_at(&objects, &desk.revisions, generation);
                if plan.actions.is_empty() && plan.statuses.is_empty() {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds <= 3, "{plan:?}");
                desk.follow(&mut objects, plan, &at(generation));
            }
            statuses = objects.iter().filter_map(|o| Some((Key::of(o), o.status.clone()?))).collect();
            prop_assert_eq!(&desk.revisions[0], &theirs, "what others put in is theirs");
            let present = |name: &str| {
                let is = |o: &AlertFilter| o.metadata.name.as_deref() == Some(name);
                objects.iter().any(|o| is(o) && o.metadata.deletion_timestamp.is_none())
            };
            for name in ["a", "b", "c"] {
                prop_assert!(present(name) || !desk.in_force(name), "{name} is left behind");
            }
            let judges = |o: &AlertFilter| {
                o.metadata.deletion_timestamp.is_none() && desk::condition(o, "Active") == Some("True")
            };
            for object in objects.iter().filter(|o| judges(o)) {
                let of = desk.active(object.metadata.name.as_deref().unwrap()).unwrap();
                prop_assert_eq!((&of.note, of.spec.order), (&object.spec.module, object.spec.order));
            }
        }
    }
}
