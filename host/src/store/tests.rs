//! What any store must do, tried on SQLite with real files.

use lanner_core::*;

use super::*;

fn scan(ms: u64, owner: &str, state: ScanState) -> Scan {
    Scan {
        id: ScanId::new(ms, [7; 10]),
        owner: Owner(owner.into()),
        state,
        created: 1,
        started: None,
        ended: state.is_final().then_some(i64::try_from(ms).unwrap()),
        spec: JobSpec {
            manager: "npm".into(),
            subject: Subject::Project { name: None },
            tools: vec![],
            probe: None,
            phases: vec![],
            env: vec![],
            proxy_env: vec![],
            package_roots: vec![],
            manifests: vec![],
            files: vec![],
        },
        source: None,
        isolation: None,
        phases: vec![],
        evidence: Evidence::default(),
        counts: Counts::default(),
        reason: String::new(),
        filter_failures: vec![],
        network: vec![],
    }
}

fn alert(id: u64, rule: &str) -> JudgedAlert {
    JudgedAlert::unjudged(Alert {
        id,
        time: 1,
        last_time: 1,
        count: 1,
        rule: rule.into(),
        priority: Priority::Warning,
        output: "\u{fffd}".into(),
        output_fields: Default::default(),
        tags: vec![],
        source: "syscall".into(),
        hostname: "h".into(),
        sensor: "builtin".into(),
        ancestry: vec![],
        package: None,
    })
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = scan(1, "me", ScanState::Queued);
    {
        let store = SqliteStore::open(folder.path()).unwrap();
        assert_eq!(store.create(first.clone(), Some("k".into())).await.unwrap(), Created::New);
        store.put_alerts(first.id.clone(), vec![alert(1, "a"), alert(2, "b")]).await.unwrap();
        store.put_alerts(first.id.clone(), vec![alert(1, "changed")]).await.unwrap();
    }
    let store = reopened(folder.path());
    assert_eq!(store.get(first.id.clone()).await.unwrap(), Some(first.clone()));
    let again = store.create(scan(2, "me", ScanState::Queued), Some("k".into())).await.unwrap();
    assert_eq!(again, Created::Earlier(first.id.clone()));
    let rules: Vec<_> = store.alerts(first.id.clone()).await.unwrap().into_iter().map(|a| a.alert.rule).collect();
    assert_eq!(rules, ["changed", "b"]);
    assert_eq!(store.unfinished().await.unwrap(), std::slice::from_ref(&first));

    store.delete(first.id.clone()).await.unwrap();
    assert_eq!(store.get(first.id.clone()).await.unwrap(), None);
    assert!(store.alerts(first.id.clone()).await.unwrap().is_empty());
    assert_eq!(store.create(scan(3, "me", ScanState::Queued), Some("k".into())).await.unwrap(), Created::New);
}

/// The lock is given up when the old store's last handle goes, which its threads may see a moment later.
fn reopened(folder: &Path) -> SqliteStore {
    (0..100)
        .find_map(|_| {
            let opened = SqliteStore::open(folder).ok();
            if opened.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened
        })
        .expect("the lock is free after a second")
}

#[tokio::test]
async fn pages_are_newest_first_and_by_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    for ms in 1..=5 {
        let owner = if ms % 2 == 0 { "you" } else { "me" };
        store.create(scan(ms, owner, ScanState::Finished), None).await.unwrap();
    }
    let ids = |scans: Vec<Scan>| scans.into_iter().map(|s| s.id).collect::<Vec<_>>();
    let id = |ms| ScanId::new(ms, [7; 10]);
    assert_eq!(ids(store.list(None, None, 2).await.unwrap()), [id(5), id(4)]);
    assert_eq!(ids(store.list(None, Some(id(4)), 2).await.unwrap()), [id(3), id(2)]);
    assert_eq!(ids(store.list(Some(Owner("me".into())), None, 9).await.unwrap()), [id(5), id(3), id(1)]);
    let mut expired = store.expired(3, 2).await.unwrap();
    expired.sort();
    assert_eq!(expired, [id(1), id(2)]);
}

#[tokio::test]
async fn many_writers_at_once_all_get_their_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let all = (0..500).map(|ms| store.create(scan(ms, "me", ScanState::Queued), None));
    let answers = futures::future::join_all(all).await;
    assert!(answers.iter().all(|a| matches!(a, Ok(Created::New))));
    assert_eq!(store.unfinished().await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_second_host_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = SqliteStore::open(folder.path()).unwrap();
    let error = SqliteStore::open(folder.path()).err().unwrap().to_string();
    assert!(error.starts_with("another lanner uses the data directory"), "{error}");
}

#[test]
fn a_folder_that_is_a_file_and_a_damaged_database_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = SqliteStore::open(&file).err().unwrap().to_string();
    assert!(error.contains("cannot be used: choose another with --data-dir"), "{error}");
    std::fs::write(folder.path().join("lanner.db"), "this is no database, ".repeat(100)).unwrap();
    let error = SqliteStore::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("cannot be opened: if it is damaged, move it away"), "{error}");
}
