//! What any [`Store`] must do: one suite, called for every store, and a model that a random history is held against.

use std::collections::BTreeMap;

use lanner_core::agree::Witness;
use lanner_core::*;
use proptest::prelude::*;

use crate::scan::ports::{Created, Store};

/// A scan made at this millisecond; its `ended` is the same number when it is final.
pub(crate) fn scan(ms: u64, owner: &str, state: ScanState) -> Scan {
    let spec = JobSpec::new("npm", Subject::Project { name: None });
    let ended = state.is_final().then_some(nanos(ms));
    Scan { state, ended, ..Scan::queued(id(ms), Owner(owner.into()), nanos(ms), spec) }
}

pub(crate) fn id(ms: u64) -> ScanId {
    ScanId::new(ms, [7; 10])
}

fn nanos(ms: u64) -> Nanos {
    Nanos::try_from(ms).unwrap()
}

pub(crate) fn alert(id: u64, rule: &str) -> JudgedAlert {
    JudgedAlert::unjudged(Alert {
        id,
        time: 1,
        last_time: 1,
        count: 1,
        rule: rule.into(),
        priority: Priority::Warning,
        // What a package may put there: no text of it may change what is stored.
        output: "'); DROP TABLE scans; -- \u{fffd}\0\u{1b}".into(),
        output_fields: [("proc.name".to_owned(), serde_json::json!([1, null, "x"]))].into(),
        tags: vec!["t".into()],
        source: "syscall".into(),
        hostname: "h".into(),
        sensor: "builtin".into(),
        also_seen_by: vec![Witness { sensor: "falco:n".into(), count: 2, last_time: 3 }],
        ancestry: vec![Process { pid: 1, ..Process::default() }],
        package: None,
    })
}

/// Every promise of the trait, on a store that holds nothing yet.
pub(crate) async fn suite(store: &dyn Store) {
    scans_and_keys(store).await;
    alerts_by_number(store).await;
    pages_and_expiry(store).await;
    fingerprints_of_earlier_scans(store).await;
    the_last_rejudgement(store).await;
    what_was_deleted_stays_deleted(store).await;
}

async fn scans_and_keys(store: &dyn Store) {
    let mut first = scan(1, "me", ScanState::Queued);
    assert_eq!(store.create(first.clone(), Some("k".into())).await.unwrap(), Created::New);
    assert_eq!(store.get(id(1)).await.unwrap(), Some(first.clone()));
    assert_eq!(store.get(id(2)).await.unwrap(), None);

    let again = store.create(scan(2, "me", ScanState::Queued), Some("k".into())).await.unwrap();
    assert_eq!((again, store.get(id(2)).await.unwrap()), (Created::Earlier(id(1)), None));
    let other_owner = store.create(scan(3, "you", ScanState::Queued), Some("k".into())).await.unwrap();
    assert_eq!(other_owner, Created::New, "a key belongs to its owner");
    assert_eq!(
        store.unfinished().await.unwrap().into_iter().map(|s| s.id).collect::<Vec<_>>(),
        [id(1), id(3)]
    );

    first.state = ScanState::Finished;
    first.ended = Some(1);
    first.reason = "because".into();
    store.put(first.clone()).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), Some(first));
    assert_eq!(store.unfinished().await.unwrap().len(), 1);

    store.delete(id(1)).await.unwrap();
    let anew = store.create(scan(4, "me", ScanState::Queued), Some("k".into())).await.unwrap();
    assert_eq!(anew, Created::New, "a key is forgotten with its scan");
    store.delete(id(3)).await.unwrap();
    store.delete(id(4)).await.unwrap();
}

async fn alerts_by_number(store: &dyn Store) {
    store.create(scan(1, "me", ScanState::Running), None).await.unwrap();
    store.create(scan(2, "me", ScanState::Running), None).await.unwrap();
    store.put_alerts(id(1), vec![alert(2, "b"), alert(1, "a")]).await.unwrap();
    store.put_alerts(id(2), vec![alert(1, "other")]).await.unwrap();
    store.put_alerts(id(1), vec![alert(10, "c"), alert(1, "changed")]).await.unwrap();
    store.put_alerts(id(1), vec![]).await.unwrap();
    let expected = vec![alert(1, "changed"), alert(2, "b"), alert(10, "c")];
    assert_eq!(store.alerts(id(1)).await.unwrap(), expected);
    store.delete(id(1)).await.unwrap();
    assert_eq!(store.alerts(id(1)).await.unwrap(), []);
    assert_eq!(store.alerts(id(2)).await.unwrap(), [alert(1, "other")]);
    store.delete(id(2)).await.unwrap();
}

async fn the_last_rejudgement(store: &dyn Store) {
    assert_eq!(store.rejudgement().await.unwrap(), None);
    for since in [1, 2] {
        let it = crate::scan::Rejudgement::begun(since);
        store.put_rejudgement(it.clone()).await.unwrap();
        assert_eq!(store.rejudgement().await.unwrap(), Some(it));
    }
}

async fn fingerprints_of_earlier_scans(store: &dyn Store) {
    for (ms, owner, project) in
        [(1, "me", "a"), (2, "me", "a"), (3, "me", "b"), (4, "you", "a"), (5, "me", "a")]
    {
        let mut scan = scan(ms, owner, ScanState::Finished);
        scan.spec.subject = Subject::Project { name: Some(project.into()) };
        store.create(scan, None).await.unwrap();
        store
            .put_alerts(id(ms), vec![alert(1, "r"), alert(2, "r"), alert(3, &format!("only {ms}"))])
            .await
            .unwrap();
    }
    let seen = async |before, scans| {
        let key = Subject::Project { name: Some("a".into()) }.key().unwrap();
        store.seen(Owner("me".into()), key, id(before), scans).await.unwrap()
    };
    let (both, first) = (alert(1, "r").alert.fingerprint(), alert(1, "only 1").alert.fingerprint());
    let all = seen(5, 9).await;
    assert_eq!(
        (all.len(), all[&both], all[&first]),
        (3, 2, 1),
        "each scan counts once, its own and later ones not"
    );
    assert_eq!(seen(5, 1).await.get(&first), None, "only the newest are looked at");
    assert_eq!(seen(1, 9).await, Default::default());
    for ms in 1..=5 {
        store.delete(id(ms)).await.unwrap();
    }
}

async fn pages_and_expiry(store: &dyn Store) {
    for ms in 1..=5 {
        let owner = if ms % 2 == 0 { "you" } else { "me" };
        store.create(scan(ms, owner, ScanState::Finished), None).await.unwrap();
    }
    store.create(scan(6, "me", ScanState::Running), None).await.unwrap();
    let ids = |scans: Vec<Scan>| scans.into_iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(ids(store.list(None, None, 2).await.unwrap()), [id(6), id(5)]);
    assert_eq!(ids(store.list(None, Some(id(4)), 2).await.unwrap()), [id(3), id(2)]);
    assert_eq!(
        ids(store.list(Some(Owner("me".into())), None, 9).await.unwrap()),
        [id(6), id(5), id(3), id(1)]
    );
    assert_eq!(ids(store.list(Some(Owner("me".into())), Some(id(5)), 1).await.unwrap()), [id(3)]);
    assert_eq!(ids(store.list(None, None, 0).await.unwrap()), []);
    let expired = async |keep, older| {
        let mut ids = store.expired(keep, older).await.unwrap();
        ids.sort();
        ids
    };
    assert_eq!(expired(9, 0).await, []);
    assert_eq!(expired(3, 0).await, [id(1), id(2)]);
    assert_eq!(expired(9, 2).await, [id(1)]);
    assert_eq!(expired(0, 0).await, (1..=5).map(id).collect::<Vec<_>>(), "one that runs never expires");
    for ms in 1..=6 {
        store.delete(id(ms)).await.unwrap();
    }
}

async fn what_was_deleted_stays_deleted(store: &dyn Store) {
    store.create(scan(1, "me", ScanState::Running), None).await.unwrap();
    store.delete(id(1)).await.unwrap();
    store.delete(id(1)).await.unwrap();
    store.put(scan(1, "me", ScanState::Finished)).await.unwrap();
    store.put_alerts(id(1), vec![alert(1, "a")]).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), None);
    assert_eq!(store.alerts(id(1)).await.unwrap(), []);
    assert_eq!(store.list(None, None, 9).await.unwrap(), []);
}

/// One step of a history. Few scans, owners and keys, so that steps meet each other.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        ms: u64,
        owner: &'static str,
        key: Option<&'static str>,
    },
    Put {
        ms: u64,
        state: ScanState,
    },
    Alerts {
        ms: u64,
        alerts: Vec<(u64, String)>,
    },
    Delete {
        ms: u64,
    },
    /// The store is closed and opened again, where it has a life beyond the process.
    Reopen,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ms = || 1..6u64;
    let states = prop::sample::select(vec![ScanState::Running, ScanState::Finished, ScanState::Cancelled]);
    let owner = prop::sample::select(vec!["me", "you"]);
    let key = prop::option::of(prop::sample::select(vec!["k", "l"]));
    let alerts = prop::collection::vec((1..4u64, "[a-z]{1,3}"), 0..4);
    let step = prop_oneof![
        4 => (ms(), owner, key).prop_map(|(ms, owner, key)| Step::Create { ms, owner, key }),
        3 => (ms(), states).prop_map(|(ms, state)| Step::Put { ms, state }),
        3 => (ms(), alerts).prop_map(|(ms, alerts)| Step::Alerts { ms, alerts }),
        2 => ms().prop_map(|ms| Step::Delete { ms }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

/// What a store should hold, in plain maps.
#[derive(Default)]
pub(crate) struct Model {
    scans: BTreeMap<ScanId, Scan>,
    keys: BTreeMap<(&'static str, &'static str), ScanId>,
    alerts: BTreeMap<(ScanId, u64), JudgedAlert>,
}

impl Model {
    /// Takes a step with a store; both must answer alike.
    pub(crate) async fn step(&mut self, store: &dyn Store, step: &Step) {
        match step {
            Step::Create { ms, owner, key } if !self.scans.contains_key(&id(*ms)) => {
                let new = scan(*ms, owner, ScanState::Queued);
                let answer = store.create(new.clone(), key.map(Into::into)).await.unwrap();
                let earlier = key.and_then(|key| self.keys.get(&(*owner, key)).cloned());
                assert_eq!(answer, earlier.clone().map_or(Created::New, Created::Earlier));
                if earlier.is_none() {
                    self.keys.extend(key.map(|key| ((*owner, key), id(*ms))));
                    self.scans.insert(id(*ms), new);
                }
            }
            Step::Create { ms, owner, .. } => {
                // An id is never taken twice; that its scan is not overwritten is what `agrees` sees.
                store.create(scan(*ms, owner, ScanState::Queued), None).await.unwrap_err();
            }
            Step::Put { ms, state } => {
                let owner = self.scans.get(&id(*ms)).map_or("me", |s| s.owner.0.as_str());
                let changed = scan(*ms, owner, *state);
                store.put(changed.clone()).await.unwrap();
                self.scans.entry(id(*ms)).and_modify(|s| *s = changed);
            }
            Step::Alerts { ms, alerts } => {
                let alerts: Vec<_> = alerts.iter().map(|(n, rule)| alert(*n, rule)).collect();
                store.put_alerts(id(*ms), alerts.clone()).await.unwrap();
                if self.scans.contains_key(&id(*ms)) {
                    self.alerts.extend(alerts.into_iter().map(|a| ((id(*ms), a.alert.id), a)));
                }
            }
            Step::Delete { ms } => {
                store.delete(id(*ms)).await.unwrap();
                self.scans.remove(&id(*ms));
                self.keys.retain(|_, scan| *scan != id(*ms));
                self.alerts.retain(|(scan, _), _| *scan != id(*ms));
            }
            Step::Reopen => {}
        }
    }

    pub(crate) async fn agrees(&self, store: &dyn Store) {
        let all: Vec<_> = self.scans.values().rev().cloned().collect();
        assert_eq!(store.list(None, None, 99).await.unwrap(), all);
        let mut unfinished = all;
        unfinished.retain(|s| !s.state.is_final());
        unfinished.reverse();
        assert_eq!(store.unfinished().await.unwrap(), unfinished);
        for ms in 1..6 {
            assert_eq!(store.get(id(ms)).await.unwrap(), self.scans.get(&id(ms)).cloned());
            let of_scan = self.alerts.iter().filter(|((scan, _), _)| *scan == id(ms));
            assert_eq!(
                store.alerts(id(ms)).await.unwrap(),
                of_scan.map(|(_, a)| a.clone()).collect::<Vec<_>>()
            );
        }
    }
}
