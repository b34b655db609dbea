//! Filters from a registry that does what a test says: taken in at the start, looked at again, refused with a reason, and
//! kept when the registry is gone.

use std::path::Path;
use std::sync::Arc;

use lanner::policy::{Configured, PolicyError, Refusal, Spec, Start};
use lanner::source::{Local, Origins, Source};
use lanner_core::RevisionState;
use serde_json::json;

use crate::puppet::{Bench, component, name, settings, spec, variant};
use crate::shifty::Shelf;

const SOURCE: &str = "r.example/team/p:1";

fn origins(shelf: &Shelf) -> Origins {
    let local = Local { max_bytes: 1 << 20, signed_only: vec![] };
    Origins { local: Arc::new(local), registry: Arc::new(shelf.clone()) }
}

fn configured(start: Start, settings: serde_json::Value) -> Configured {
    let spec = Spec { start, ..spec(settings) }.complete(Default::default());
    Configured { name: name("p"), source: Source::Registry(SOURCE.parse().unwrap()), spec }
}

async fn open(folder: &Path, shelf: &Shelf, filter: Configured) -> Result<Bench, PolicyError> {
    Bench::open(folder, settings(folder), origins(shelf), &[filter]).await
}

async fn looked(bench: &Bench, again: bool) -> (&'static str, String) {
    let looked = bench.policy.check(&name("p"), again, "me").await.unwrap();
    assert_eq!(bench.policy.source_of(&name("p")).unwrap().looked, Some(looked.clone()));
    (looked.outcome, looked.detail)
}

fn states(bench: &Bench) -> Vec<(u64, RevisionState)> {
    bench.policy.revisions_of(&name("p")).into_iter().map(|r| (r.number, r.state)).collect()
}

#[tokio::test]
async fn a_filter_from_a_registry_is_taken_in_updated_and_outlives_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let suppress = || configured(Start::Active, json!({ "do": "suppress", "on": "r" }));
    let bench = open(folder.path(), &shelf, suppress()).await.unwrap();
    assert!(bench.judge(&["r"]).await.alerts[0].suppressed());
    assert_eq!(looked(&bench, false).await, ("up-to-date", String::new()));

    shelf.put(variant("two"));
    assert_eq!(looked(&bench, false).await, ("active", "revision 2".into()));
    let revision = &bench.policy.revisions_of(&name("p"))[1];
    let provenance = revision.spec.provenance.clone().unwrap();
    assert_eq!((provenance.named.source.as_str(), revision.by.as_str()), (SOURCE, "me"));
    assert_ne!(provenance.named.resolved, revision.digest, "a manifest's digest is not the component's");
    assert_eq!(bench.judge(&["r"]).await.alerts[0].decisions[0].revision, 2);

    // Whoever goes back stays there: neither a look nor a start leads forward again.
    bench.policy.rollback(&name("p"), None, "me").await.unwrap();
    assert_eq!(looked(&bench, false).await.0, "refused-before");
    drop(bench);
    shelf.away(true);
    let asked = shelf.asked();
    let bench = open(folder.path(), &shelf, suppress()).await.unwrap();
    assert_eq!(shelf.asked(), asked, "nobody is asked at a start");
    assert_eq!(bench.judge(&["r"]).await.alerts[0].decisions[0].revision, 1);
    assert_eq!(looked(&bench, false).await, ("unreachable", "the registry is away".into()));
    drop(bench);

    // Other settings for what is here: only its signature is asked for, and the registry is back for that.
    shelf.away(false);
    shelf.refuse_pull("it is not asked for again");
    let raise = configured(Start::Active, json!({ "do": "raise" }));
    let bench = open(folder.path(), &shelf, raise).await.unwrap();
    assert!(!bench.judge(&["r"]).await.alerts[0].suppressed());
    assert_eq!(states(&bench).last(), Some(&(3, RevisionState::Active)));
}

#[tokio::test]
async fn what_is_refused_is_remembered_and_the_one_before_judges_on() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let suppress = || configured(Start::Active, json!({ "do": "suppress", "on": "r" }));
    let bench = open(folder.path(), &shelf, suppress()).await.unwrap();

    shelf.put(variant("unsigned"));
    shelf.refuse_signature("r.example/team/p:1 is not signed; keys tried: 00");
    let why = "its signature is not as it has to be: r.example/team/p:1 is not signed; keys tried: 00";
    assert_eq!(looked(&bench, false).await, ("failed", why.into()));
    assert_eq!(looked(&bench, false).await.0, "refused-before");
    shelf.put(variant("flipped"));
    shelf.refuse_pull("the layer is not what its digest says");
    let why = "it cannot be had: the layer is not what its digest says";
    assert_eq!(looked(&bench, false).await, ("failed", why.into()));
    shelf.put(b"nonsense".to_vec());
    assert_eq!(looked(&bench, false).await.0, "failed");
    shelf.put(vec![0; (1 << 20) + 1]);
    let why = "the component has 1048577 bytes, more than 1048576";
    assert_eq!(looked(&bench, false).await, ("failed", why.into()));
    use RevisionState::{Active, Failed};
    assert_eq!(states(&bench), [(1, Active), (2, Failed), (3, Failed), (4, Failed), (5, Failed)]);
    assert!(bench.judge(&["r"]).await.alerts[0].suppressed());
    let reason = &bench.policy.revisions_of(&name("p"))[4].reason;
    assert_eq!(reason, "the component has 1048577 bytes, more than 1048576");

    // Asked for again, and well now.
    shelf.put(variant("flipped"));
    assert_eq!(looked(&bench, false).await.0, "refused-before");
    assert_eq!(looked(&bench, true).await.0, "active");
}

#[tokio::test]
async fn a_key_that_is_trusted_no_more_takes_its_filters_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let filter = || configured(Start::Active, json!({ "do": "suppress", "on": "r" }));
    drop(open(folder.path(), &shelf, filter()).await.unwrap());
    shelf.refuse_signature("it is signed by nobody whom we know");
    let bench = open(folder.path(), &shelf, filter()).await.unwrap();
    let judged = bench.judge(&["r"]).await;
    assert!(!judged.alerts[0].suppressed(), "no scan is clean by its word");
    assert_eq!(judged.failures[0].reason, "it is signed by nobody whom we know");
    let back = bench.policy.activate(&name("p"), Some(1), "me").await;
    assert!(back.is_err(), "{back:?}");
    let digest = bench.policy.revisions_of(&name("p"))[0].digest.clone();
    let (name, by, spec) = (name("p"), "me".to_owned(), spec(json!({ "a": 1 })));
    let module = lanner::policy::Module::Kept(digest);
    let again = lanner::policy::Upload { name, module, spec, by, dry_run: false };
    let refused = bench.policy.upload(again).await.unwrap_err();
    assert!(matches!(refused, Refusal::Signature(_)), "{refused}");
}

#[tokio::test]
async fn a_shadow_is_updated_as_a_shadow_and_a_source_is_named_once_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let bench = open(folder.path(), &shelf, configured(Start::Shadow, json!({}))).await.unwrap();
    assert_eq!(looked(&bench, false).await.0, "up-to-date");
    shelf.put(variant("two"));
    assert_eq!(looked(&bench, false).await, ("shadow", "revision 2".into()));
    use RevisionState::{Retired, Shadow};
    assert_eq!(states(&bench), [(1, Retired), (2, Shadow)]);

    let source = || Source::Registry("r.example/other:7".parse().unwrap());
    let by_hand = |dry| bench.policy.upload_from(name("q"), source(), spec(json!({})), "me", dry);
    let dry = by_hand(true).await.unwrap();
    assert_eq!((dry.revision.number, bench.policy.revisions_of(&name("q")).len()), (0, 0));
    let taken = by_hand(false).await.unwrap().revision;
    assert_eq!(taken.spec.provenance.unwrap().named.source, "r.example/other:7");
    assert!(bench.policy.source_of(&name("q")).is_none(), "it is not looked at again");
    // Other settings for the kept component: where it came from is known still.
    let module = lanner::policy::Module::Kept(taken.digest);
    let (name, by) = (name("q"), "me".to_owned());
    let upload = lanner::policy::Upload { name, module, spec: spec(json!({ "a": 1 })), by, dry_run: false };
    let kept = bench.policy.upload(upload).await.unwrap().revision;
    assert_eq!(kept.spec.provenance.unwrap().named.source, "r.example/other:7");
    shelf.away(true);
    let away = by_hand(false).await.unwrap_err();
    assert!(matches!(&away, Refusal::Pull(e) if e.is_transient()) && away.is_passing(), "{away}");
}

#[tokio::test]
async fn a_first_start_needs_the_source_and_one_name_is_one_filter() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.away(true);
    let filter = || configured(Start::Active, json!({}));
    let away = open(folder.path(), &shelf, filter()).await.err().unwrap();
    assert_eq!(away.to_string(), "the filter p cannot be had from r.example/team/p:1");
    let both = [filter(), filter()];
    let twice = Bench::open(folder.path(), settings(folder.path()), origins(&shelf), &both);
    assert_eq!(twice.await.err().unwrap().to_string(), "the filter p stands twice among the filters");
}

#[tokio::test]
async fn a_rollback_to_another_source_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let at = |source: &str| {
        let filter = configured(Start::Active, json!({ "do": "suppress", "on": "r" }));
        Configured { source: Source::Registry(source.parse().unwrap()), ..filter }
    };
    drop(open(folder.path(), &shelf, at("r.example/p:1")).await.unwrap());
    shelf.put(variant("two"));
    let bench = open(folder.path(), &shelf, at("r.example/p:2")).await.unwrap();
    bench.policy.rollback(&name("p"), None, "me").await.unwrap();
    drop(bench);
    for away in [false, true] {
        shelf.away(away);
        let bench = open(folder.path(), &shelf, at("r.example/p:2")).await.unwrap();
        assert_eq!(bench.judge(&["r"]).await.alerts[0].decisions[0].revision, 1);
    }
    shelf.away(false);
    let bench = open(folder.path(), &shelf, at("r.example/p:2")).await.unwrap();
    bench.policy.retire(&name("p"), "me").await.unwrap();
    drop(bench);
    let bench = open(folder.path(), &shelf, at("r.example/p:2")).await.unwrap();
    assert!(bench.judge(&["r"]).await.alerts[0].decisions.is_empty(), "it was retired");
    assert_eq!(looked(&bench, true).await.0, "active", "until somebody asks for it");
}

#[tokio::test]
async fn a_shadow_that_was_activated_stays_active() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(component().to_vec());
    let shadow = || configured(Start::Shadow, json!({ "do": "suppress", "on": "r" }));
    let bench = open(folder.path(), &shelf, shadow()).await.unwrap();
    bench.policy.activate(&name("p"), None, "me").await.unwrap();
    assert_eq!(looked(&bench, false).await, ("up-to-date", String::new()));
    drop(bench);
    shelf.away(true);
    let bench = open(folder.path(), &shelf, shadow()).await.unwrap();
    assert!(bench.judge(&["r"]).await.alerts[0].suppressed());
    assert_eq!(states(&bench), [(1, RevisionState::Active)]);
}
