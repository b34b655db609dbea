//! The life cycle of functions on a real engine, a real store, a real compiling child and real guests: what is good is
//! swapped in under load, what is bad is refused by the check that found it, and the old one serves on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use lanner::function::{CanarySettings, ChangeError, Outcome};
use lanner_core::{Check, FunctionSpec, Revision};

use crate::shifty::{NO_CANARY, REGISTRY, Shelf, Stage, app, get, name, shaped};

/// Half of the requests, for a short time.
const CANARY: CanarySettings =
    CanarySettings { percent: 50, time: Duration::from_millis(400), requests: 200 };

fn good(text: &str) -> (StatusCode, String) {
    (StatusCode::OK, text.to_owned())
}

/// A stage on a registry that holds `good 1`.
async fn stage(folder: &std::path::Path, rest: &str, canary: CanarySettings) -> Stage {
    let shelf = Shelf::default();
    shelf.put(shaped("good 1"));
    app(folder, REGISTRY, rest);
    Stage::open(folder, &shelf, canary).await.unwrap()
}

async fn failed(stage: &Stage) -> Box<Revision<FunctionSpec>> {
    match stage.functions.check(&name(), false, "me").await.unwrap() {
        Outcome::Failed(revision) => revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_new_is_swapped_in_and_a_rollback_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let stage = stage(folder.path(), "health = { path = \"/health\" }", NO_CANARY).await;
    assert_eq!(stage.get("/").await, good("good 1"));
    assert_eq!(stage.functions.check(&name(), false, "me").await.unwrap(), Outcome::UpToDate);
    stage.shelf.put(shaped("good 2"));
    let Outcome::Active(second) = stage.functions.check(&name(), false, "me").await.unwrap() else {
        panic!()
    };
    let checks: Vec<_> = second.spec.passed.iter().map(|p| p.check).collect();
    use Check::*;
    assert_eq!(checks, [Pull, Signature, Imports, Compile, Trial]);
    assert_eq!(second.spec.passed[4].found, "120 requests, 2 different ones");
    assert_ne!(second.digest, second.spec.named.resolved);
    assert_eq!(stage.get("/").await, good("good 2"));
    assert_eq!(stage.states(), [(1, "retired"), (2, "active")]);

    let back = stage.functions.rollback(&name(), None, "me").await.unwrap();
    assert_eq!((back.number, stage.get("/").await), (1, good("good 1")));
    let nothing = stage.functions.rollback(&name(), Some(7), "me").await.unwrap_err();
    assert_eq!(nothing.to_string(), "the function has no revision 7; its kept ones are 1, 2");
    assert!(matches!(stage.functions.activate(&name(), Some(1), "me").await, Err(ChangeError::Already(1))));
    let outcome = stage.functions.check(&name(), false, "host").await.unwrap();
    assert_eq!(outcome, Outcome::RefusedBefore, "nobody takes a rollback back but people");
    stage.functions.activate(&name(), None, "me").await.unwrap();
    assert_eq!(stage.get("/").await, good("good 2"));

    // The same, at the next start and with the registry away.
    let Stage { folder: at, shelf, functions } = stage;
    functions.rollback(&name(), None, "me").await.unwrap();
    drop(functions);
    shelf.away(true);
    let asked = shelf.asked();
    let stage = Stage::open(&at, &shelf, NO_CANARY).await.unwrap();
    assert_eq!((stage.get("/").await, shelf.asked()), (good("good 1"), asked), "nobody was asked");
    assert_eq!(stage.states(), [(1, "active"), (2, "retired")]);
    // Signatures are asked for since: what has none is not gone back to, and not started with.
    shelf.away(false);
    shelf.refuse_signature("sha256:0 is not signed");
    let unsigned = stage.functions.rollback(&name(), Some(2), "me").await.unwrap_err().to_string();
    assert_eq!(unsigned, "revision 2 cannot answer: signature: sha256:0 is not signed");
    shelf.away(true);
    let Outcome::Unreachable { why } = stage.functions.check(&name(), false, "me").await.unwrap() else {
        panic!()
    };
    assert_eq!(why, "the registry is away");
    shelf.away(false);
    let at = stage.folder.clone();
    drop(stage);
    let refused = Stage::open(&at, &shelf, NO_CANARY).await.err().unwrap().to_string();
    assert!(refused.ends_with("is refused by its signature: sha256:0 is not signed"), "{refused}");
}

#[tokio::test]
async fn what_is_bad_is_refused_by_the_check_that_found_it_and_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let stage = stage(folder.path(), "health = { path = \"/health\" }", NO_CANARY).await;
    for _ in 0..3 {
        assert_eq!(stage.get("/work").await, good("good 1"));
    }
    let alerts =
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/alerts.wasm"))
            .unwrap();
    let whole = shaped("good 2");
    let rows: [(Vec<u8>, Check, &str); 5] = [
        (alerts, Check::Imports, "component c imports lanner:platform/"),
        (b"nonsense".to_vec(), Check::Imports, "this is no WebAssembly"),
        (whole[..whole.len() / 2].to_vec(), Check::Imports, "the component is broken at byte"),
        (shaped("sick"), Check::Trial, "the health request GET /health is answered with 503, not 200"),
        (shaped("slow"), Check::Trial, "answers took"),
    ];
    for (wasm, check, why) in rows {
        stage.shelf.put(wasm);
        let revision = failed(&stage).await;
        assert_eq!(revision.spec.failed, Some(check), "{}", revision.reason);
        assert!(revision.reason.contains(why), "{}", revision.reason);
        let looked = stage.functions.one(&name()).unwrap().0.looked.unwrap();
        assert!(looked.outcome == "failed" && looked.detail.contains(check.as_str()), "{looked:?}");
        assert_eq!(stage.get("/work").await, good("good 1"));
        assert_eq!(stage.functions.check(&name(), false, "me").await.unwrap(), Outcome::RefusedBefore);
    }
    stage.shelf.put(shaped("good 3"));
    stage.shelf.refuse_pull("the component is not what its digest says");
    assert_eq!(failed(&stage).await.spec.failed, Some(Check::Pull));
    stage.shelf.put(shaped("good 4"));
    stage.shelf.refuse_signature("sha256:0 has 1 signatures, none of them by 0123456789abcdef");
    let unsigned = failed(&stage).await;
    assert_eq!(unsigned.spec.failed, Some(Check::Signature));
    assert!(unsigned.reason.ends_with("0123456789abcdef"), "{}", unsigned.reason);
    // By hand neither, as long as the signature is wrong.
    let broken = stage.functions.activate(&name(), None, "me").await.unwrap_err();
    assert!(broken.to_string().contains("cannot answer: signature:"), "{broken}");
    assert_eq!(stage.get("/work").await, good("good 1"));
    stage.shelf.put(shaped("good 4"));
    assert_eq!(stage.functions.check(&name(), false, "me").await.unwrap(), Outcome::RefusedBefore);
    let asked = stage.functions.check(&name(), true, "me").await.unwrap();
    assert!(matches!(asked, Outcome::Active(_)), "asked for, it is tried again: {asked:?}");
    assert_eq!(stage.get("/work").await, good("good 4"));
}

/// Requests at the same time until `over`; all answers that were not 200, and all texts.
async fn load(stage: &Stage, over: Arc<AtomicBool>, path: &'static str) -> (Vec<StatusCode>, Vec<String>) {
    let client = |functions: lanner::function::Functions, over: Arc<AtomicBool>| async move {
        let (mut bad, mut texts) = (Vec::new(), Vec::new());
        while !over.load(Ordering::Relaxed) {
            let (status, text) = get(&functions, path).await;
            if status != StatusCode::OK {
                bad.push(status);
            }
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (bad, texts)
    };
    let clients = (0..6).map(|_| tokio::spawn(client(stage.functions.clone(), over.clone())));
    let (mut bad, mut texts) = (Vec::new(), Vec::new());
    for client in clients.collect::<Vec<_>>() {
        let (more_bad, more_texts) = client.await.unwrap();
        bad.extend(more_bad);
        texts.extend(more_texts);
    }
    texts.sort();
    texts.dedup();
    (bad, texts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_under_load_fail_no_request_and_a_long_one_ends_where_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Arc::new(stage(folder.path(), "", CANARY).await);
    let over = Arc::new(AtomicBool::new(false));
    let under = tokio::spawn({
        let (stage, over) = (stage.clone(), over.clone());
        async move { load(&stage, over, "/").await }
    });
    let long = tokio::spawn({
        let stage = stage.clone();
        async move { stage.get("/long").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for version in 2..6 {
        stage.shelf.put(shaped(&format!("good {version}")));
        let outcome = stage.functions.check(&name(), false, "me").await.unwrap();
        assert!(matches!(outcome, Outcome::Active(_)), "{outcome:?}");
    }
    over.store(true, Ordering::Relaxed);
    let (bad, texts) = under.await.unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(texts, ["good 1", "good 2", "good 3", "good 4", "good 5"]);
    assert_eq!(long.await.unwrap(), good("good 1"), "a request ends on the revision that it began with");
    let (view, _) = stage.functions.one(&name()).unwrap();
    assert_eq!(view.ending, 0, "replaced revisions are gone when their last request has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_traps_now_and_then_is_found_and_nobody_who_can_be_spared_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let canary = CanarySettings { percent: 50, time: Duration::from_secs(20), requests: 5000 };
    let stage = Arc::new(stage(folder.path(), "", canary).await);
    let over = Arc::new(AtomicBool::new(false));
    let under = tokio::spawn({
        let (stage, over) = (stage.clone(), over.clone());
        async move { load(&stage, over, "/").await }
    });
    stage.shelf.put(shaped("trap 1 in 100"));
    let revision = failed(&stage).await;
    over.store(true, Ordering::Relaxed);
    assert!(matches!(revision.spec.failed, Some(Check::Trial | Check::Canary)), "{revision:?}");
    assert!(
        revision.reason.contains("500") || revision.reason.contains("requests failed"),
        "{}",
        revision.reason
    );
    let (bad, _) = under.await.unwrap();
    assert!(bad.is_empty(), "what the new one failed at, the old one answers: {bad:?}");
    assert_eq!(stage.get("/").await, good("good 1"));
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_a_canary() {
    let folder = tempfile::tempdir().unwrap();
    let canary = CanarySettings { percent: 50, time: Duration::from_secs(60), requests: 0 };
    let stage = Arc::new(stage(folder.path(), "", CANARY).await);
    stage.shelf.put(shaped("good 2"));
    stage.functions.check(&name(), false, "me").await.unwrap();
    let Ok(Stage { functions, shelf, folder: at }) = Arc::try_unwrap(stage) else { panic!() };
    drop(functions);
    let stage = Arc::new(Stage::open(&at, &shelf, canary).await.unwrap());
    stage.shelf.put(shaped("good 3"));
    let trying = tokio::spawn({
        let stage = stage.clone();
        async move { failed(&stage).await }
    });
    while stage.functions.one(&name()).unwrap().0.next.is_none_or(|r| r.state.as_str() != "canary") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.functions.rollback(&name(), None, "me").await.unwrap().number, 1);
    for _ in 0..4 {
        assert_eq!(stage.get("/").await, good("good 1"));
    }
    assert_eq!(trying.await.unwrap().reason, "another revision was chosen meanwhile");
}

#[tokio::test]
async fn a_file_on_this_machine_is_looked_at_when_the_host_starts_and_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = folder.path().join("c.wasm");
    std::fs::write(&wasm, shaped("good 1")).unwrap();
    app(folder.path(), "\"c.wasm\"", "");
    let shelf = Shelf::default();
    let stage = Stage::open(folder.path(), &shelf, NO_CANARY).await.unwrap();
    std::fs::write(&wasm, shaped("good 2")).unwrap();
    assert_eq!(stage.get("/").await, good("good 1"));
    drop(stage);
    let stage = Stage::open(folder.path(), &shelf, NO_CANARY).await.unwrap();
    assert_eq!((stage.get("/").await, stage.states().len()), (good("good 2"), 2));
    drop(stage);

    // What is there now does not do: what was there before serves on.
    std::fs::write(&wasm, b"half a file").unwrap();
    let stage = Stage::open(folder.path(), &shelf, NO_CANARY).await.unwrap();
    assert_eq!(stage.get("/").await, good("good 2"));
    assert_eq!(stage.states(), [(1, "retired"), (2, "active"), (3, "failed")]);
    std::fs::write(&wasm, shaped("good 4")).unwrap();
    let outcome = stage.functions.check(&name(), false, "me").await.unwrap();
    assert!(matches!(outcome, Outcome::Active(_)), "{outcome:?}");
    drop(stage);

    // A component that was changed on disk is not run; it is had anew from where it came.
    let kept = folder.path().join("data/functions");
    for file in std::fs::read_dir(&kept).unwrap() {
        std::fs::write(file.unwrap().path(), b"changed").unwrap();
    }
    let stage = Stage::open(folder.path(), &shelf, NO_CANARY).await.unwrap();
    assert_eq!(stage.get("/").await, good("good 4"));
    drop(stage);

    // Where nothing ever did, the host does not start, and says why.
    let fresh = tempfile::tempdir().unwrap();
    std::fs::write(fresh.path().join("c.wasm"), b"half a file").unwrap();
    app(fresh.path(), "\"c.wasm\"", "");
    let refused = Stage::open(fresh.path(), &shelf, NO_CANARY).await.err().unwrap().to_string();
    assert!(refused.contains("is refused by its imports: this is no WebAssembly"), "{refused}");
}
