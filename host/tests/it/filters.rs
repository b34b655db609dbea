//! The life cycle of filters on a real engine, a real store and a real compiling child.

use std::time::{Duration, Instant};

use lanner::policy::{ChangeError, Refusal, Spec, Start};
use lanner_core::revision::ChangeKind;
use lanner_core::{Action, Grant, Priority, RevisionState};
use serde_json::json;

use crate::puppet::{Bench, alerts, component, name, settings, spec, variant};

fn states(bench: &Bench, filter: &str) -> Vec<(u64, RevisionState)> {
    bench.policy.revisions_of(&name(filter)).into_iter().map(|r| (r.number, r.state)).collect()
}

#[tokio::test]
async fn an_upload_judges_and_a_rollback_brings_the_one_before_back() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let first = bench.upload("p", component(), spec(json!({ "do": "suppress", "on": "r" }))).await.unwrap();
    assert_eq!((first.revision.number, first.revision.state), (1, RevisionState::Active));
    assert_eq!(first.revision.spec.description.version, "1.2.3");
    assert!(first.trial.alerts > 10 && first.trial.changed == 0, "{:?}", first.trial);

    let judged = bench.judge(&["r", "s"]).await;
    assert_eq!(judged.failures, []);
    let decision = &judged.alerts[0].decisions[0];
    assert_eq!((decision.filter.as_str(), decision.revision), ("p", 1));
    assert_eq!(decision.reason, "seen before 4 times, by 2");
    assert!(judged.alerts[0].suppressed() && !judged.alerts[1].suppressed());

    // What is left out of a second upload stays as it was.
    let raise = Spec { settings: Some(json!({ "do": "raise" })), ..Spec::default() };
    let old_session = bench.session();
    let second = bench.upload("p", &variant("two"), raise).await.unwrap();
    assert!(second.trial.changed > 0 && !second.trial.changes.is_empty());
    assert_eq!(bench.judge(&["r"]).await.alerts[0].priority(), Priority::Critical);
    let mut old_session = old_session;
    let judged = old_session.judge(alerts(&["r"])).await;
    assert_eq!(judged.alerts[0].decisions[0].revision, 1, "a scan is judged by one set to its end");

    let back = bench.policy.rollback(&name("p"), None, "me").await.unwrap();
    assert_eq!((back.number, states(&bench, "p")[1].1), (1, RevisionState::Retired));
    assert!(bench.judge(&["r"]).await.alerts[0].suppressed());
    let nothing = bench.policy.rollback(&name("p"), Some(9), "me").await.unwrap_err();
    assert_eq!(nothing.to_string(), "the filter has no revision 9; its kept ones are 1, 2");
    let already = bench.policy.activate(&name("p"), Some(1), "me").await.unwrap_err();
    assert!(matches!(already, ChangeError::Already(1)));

    bench.policy.retire(&name("p"), "me").await.unwrap();
    assert!(bench.judge(&["r"]).await.alerts[0].decisions.is_empty());
    let log = bench.policy.audit(None, 10).await.unwrap();
    let actions: Vec<_> = log.iter().map(|(_, c)| (c.action, c.by.as_str())).collect();
    use ChangeKind::*;
    assert_eq!(actions, [(Retire, "me"), (Rollback, "me"), (Upload, "me"), (Upload, "me")]);
    assert_eq!(log[1].1.before.as_ref().unwrap().digest, second.revision.digest);
    assert_eq!(log[1].1.after.as_ref().unwrap().digest, first.revision.digest);
}

#[tokio::test]
async fn each_refusal_says_which_step_and_leaves_what_judges_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.upload("p", component(), spec(json!({}))).await.unwrap();
    let refused = async |wasm: &[u8], spec: Spec| bench.upload("p", wasm, spec).await.unwrap_err();

    let large = refused(&vec![0; (1 << 20) + 1], Spec::default()).await;
    assert_eq!(large.to_string(), "the component has 1048577 bytes, more than 1048576");
    assert!(matches!(refused(b"nonsense", Spec::default()).await, Refusal::Format(_)));
    assert!(matches!(refused(b"\0asm\x0d\0\x01\0", Spec::default()).await, Refusal::Contract(_)));
    let broken = [&component()[..component().len() / 2], &[0xff; 40]].concat();
    let error = refused(&broken, Spec::default()).await;
    assert!(matches!(error, Refusal::Format(_) | Refusal::Compile(_) | Refusal::Contract(_)), "{error}");
    let error = refused(component(), spec(json!({ "do": "refuse" }))).await;
    assert_eq!(error.to_string(), "the filter refuses its settings: do: \"refuse\" is refused");
    let error = refused(component(), spec(json!([]))).await;
    assert_eq!(error.to_string(), "settings are a JSON object");
    for (what, why) in [
        ("trap", "the filter trapped: wasm `unreachable` instruction executed"),
        ("loop", "the filter took more than 2000 ms of CPU time"),
        ("none", "the filter answered 0 decisions for 26 alerts"),
        ("twice", "the filter decided twice on alert 1, or was not asked about it"),
        ("unknown", "the filter decided twice on alert 1001, or was not asked about it"),
        ("reason", "the filter gave a reason of 2000 bytes, more than 1024"),
    ] {
        let error = refused(component(), spec(json!({ "do": what }))).await;
        assert_eq!(error.to_string(), format!("the trial failed: {why}"));
    }
    for what in ["memory", "copies"] {
        let error = refused(component(), spec(json!({ "do": what }))).await.to_string();
        assert!(error.starts_with("the trial failed: the filter "), "{error}");
    }
    let active: Vec<_> = bench.policy.active().into_iter().map(|f| f.revision).collect();
    assert_eq!(active, [1]);
    assert!(bench.judge(&["r"]).await.failures.is_empty());
    let log = bench.policy.audit(None, 100).await.unwrap();
    assert_eq!(log.iter().filter(|(_, c)| c.action == ChangeKind::Refuse).count(), 14);
    // Of the failed ones the newest are kept, to be looked at.
    let kept = states(&bench, "p");
    assert!(kept.len() <= 1 + 3 + 14 && kept[0] == (1, RevisionState::Active), "{kept:?}");
}

#[tokio::test]
async fn a_shadow_changes_nothing_and_its_differences_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.upload("p", component(), spec(json!({}))).await.unwrap();
    let shadow = Spec { start: Start::Shadow, ..spec(json!({ "do": "suppress", "on": "s" })) };
    bench.upload("p", component(), shadow).await.unwrap();
    // Differences belong to scans that are known.
    let scan = stored_scan(&bench).await;
    let judged = bench.session().judge(alerts(&["r", "s"])).await;
    assert!(judged.alerts.iter().all(|a| !a.suppressed() && a.decisions[0].revision == 1));
    let found = bench.policy.differences(&name("p"), 2).await.unwrap();
    assert_eq!((found.total, found.latest[0].scan.as_str()), (1, scan.as_str()));
    assert_eq!((found.latest[0].rule.as_str(), found.latest[0].action), ("s", Some(Action::Suppress)));
    bench.policy.activate(&name("p"), None, "me").await.unwrap();
    assert!(bench.judge(&["s"]).await.alerts[0].suppressed());
    assert_eq!(states(&bench, "p"), [(1, RevisionState::Retired), (2, RevisionState::Active)]);
}

#[tokio::test]
async fn grants_and_pins_hold_between_filters_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let at = |order, what: serde_json::Value| Spec { order: Some(order), ..spec(what) };
    bench.upload("b-suppress", component(), at(2, json!({ "do": "suppress" }))).await.unwrap();
    bench.upload("z-pin", component(), at(1, json!({ "do": "pin", "on": "pinned" }))).await.unwrap();
    bench.upload("a-raise", component(), at(3, json!({ "do": "raise", "on": "urgent" }))).await.unwrap();
    let judged = bench.judge(&["plain", "pinned", "urgent"]).await;
    assert_eq!(judged.alerts.iter().map(|a| a.suppressed()).collect::<Vec<_>>(), [true, false, false]);
    let order: Vec<_> = judged.alerts[0].decisions.iter().map(|d| d.filter.as_str()).collect();
    assert_eq!(order, ["z-pin", "b-suppress", "a-raise"]);
    assert_eq!(judged.alerts[1].decisions[1].overruled, "the filter z-pin pinned the alert");
    let granted = Grant { percent: 100, priority: Priority::Critical };
    let spec = Spec { may_suppress_up_to: Some(granted), ..Spec::default() };
    bench.upload("b-suppress", component(), spec).await.unwrap();
    assert!(bench.judge(&["urgent"]).await.alerts[0].suppressed());
    assert_eq!(bench.session().grants()["b-suppress"], granted);
}

#[tokio::test]
async fn a_filter_that_fails_again_and_again_is_taken_out_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    // It passes its trial, and traps on what the trial does not know.
    bench.upload("p", component(), spec(json!({ "do": "trap", "on": "bad" }))).await.unwrap();
    for _ in 0..5 {
        let judged = bench.judge(&["bad", "r"]).await;
        assert_eq!(judged.failures[0].reason, "the filter trapped: wasm `unreachable` instruction executed");
        assert!(judged.alerts.len() == 2 && judged.alerts.iter().all(|a| !a.suppressed()));
    }
    let judged = bench.judge(&["r"]).await;
    assert!(judged.failures[0].reason.starts_with("the filter is out of service after 5 failures in a row"));
    let revision = &bench.policy.revisions_of(&name("p"))[0];
    assert!(revision.state == RevisionState::Failed && revision.taken_out, "{revision:?}");
    bench.policy.retry_due(Instant::now() + Duration::from_secs(5)).await;
    assert!(!bench.judge(&["r"]).await.failures.is_empty(), "its pause is not over");

    // A restart does not make it well, but does not forget it either.
    let folder = bench.folder.clone();
    drop(bench);
    let bench = Bench::new(&folder).await;
    assert!(!bench.judge(&["r"]).await.failures.is_empty(), "no scan is clean without it");
    bench.policy.retry_due(Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(bench.judge(&["r"]).await.failures, []);
    assert_eq!(states(&bench, "p"), [(1, RevisionState::Active)]);
    let log = bench.policy.audit(None, 10).await.unwrap();
    assert_eq!(log[0].1.action, ChangeKind::Recover);
    assert_eq!(log[1].1.action, ChangeKind::TakeOut);
}

#[tokio::test]
async fn all_of_it_survives_a_restart_and_old_revisions_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    for n in 0..6 {
        let what = spec(json!({ "do": "suppress", "on": format!("r{n}") }));
        bench.upload("p", &variant(&format!("v{n}")), what).await.unwrap();
    }
    let shadow = Spec { start: Start::Shadow, ..Spec::default() };
    bench.upload("p", &variant("shadow"), shadow).await.unwrap();
    let before = bench.policy.revisions();
    let numbers: Vec<_> = before.iter().map(|r| r.number).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7], "three retired ones are kept beside the active and the shadow one");
    let files = std::fs::read_dir(folder.path().join("components")).unwrap().count();
    assert_eq!(files, 5);
    drop(bench);

    let bench = Bench::new(folder.path()).await;
    assert_eq!(bench.policy.revisions(), before);
    assert!(bench.judge(&["r5"]).await.alerts[0].suppressed());
    drop(bench);

    // A component that was changed on disk is not run: the host serves, and no scan is clean.
    let active = &before[3];
    let path = folder.path().join("components").join(format!("{}.wasm", &active.digest[7..]));
    std::fs::write(&path, b"changed").unwrap();
    let bench = Bench::new(folder.path()).await;
    let judged = bench.judge(&["r5"]).await;
    assert!(judged.failures[0].reason.contains("was changed"), "{:?}", judged.failures);
    assert!(!judged.alerts[0].suppressed());
}

#[tokio::test]
async fn the_built_in_filter_is_there_unless_it_was_retired() {
    let folder = tempfile::tempdir().unwrap();
    let with = || lanner::policy::Settings { baseline: true, ..settings(folder.path()) };
    let bench = Bench::with(folder.path(), with()).await;
    assert_eq!(bench.policy.active()[0].filter, "baseline");
    drop(bench);
    let bench = Bench::with(folder.path(), with()).await;
    assert_eq!(states(&bench, "baseline"), [(1, RevisionState::Active)], "a restart uploads nothing");
    bench.policy.retire(&name("baseline"), "me").await.unwrap();
    drop(bench);
    let bench = Bench::with(folder.path(), with()).await;
    assert_eq!(bench.policy.active(), []);
}

/// A scan in the store with the id that sessions of these tests have.
async fn stored_scan(bench: &Bench) -> String {
    use lanner::scan::ports::Store;
    use lanner_core::{JobSpec, Owner, Scan, ScanState, Subject};
    let spec = JobSpec::new("npm", Subject::Project { name: None });
    let queued = Scan::queued(crate::puppet::about().scan, Owner("me".into()), 1, spec);
    let scan = Scan { state: ScanState::Finished, ended: Some(2), ..queued };
    let id = scan.id.to_string();
    bench.store.create(scan, None).await.unwrap();
    id
}
