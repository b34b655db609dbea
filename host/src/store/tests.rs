//! SQLite with real files: the suite for every store, and what only one on a disk can get wrong.

use std::io::BufRead;
use std::process::Stdio;

use lanner_core::ScanState;
use proptest::prelude::*;

use super::conformance::{Model, Step, alert, id, scan, steps, suite};
use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[tokio::test]
async fn it_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    suite(&SqliteStore::open(folder.path()).unwrap()).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_history_ends_as_the_model_says(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let mut store = SqliteStore::open(folder.path()).unwrap();
            let mut model = Model::default();
            for step in &steps {
                if matches!(step, Step::Reopen) {
                    drop(store);
                    store = SqliteStore::open(folder.path()).unwrap();
                }
                model.step(&store, step).await;
            }
            model.agrees(&store).await;
        });
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = scan(1, "me", ScanState::Queued);
    let store = SqliteStore::open(folder.path()).unwrap();
    store.create(first.clone(), Some("k".into())).await.unwrap();
    store.put_alerts(id(1), vec![alert(1, "a")]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.unfinished().await.unwrap(), [first]);
    assert_eq!(store.alerts(id(1)).await.unwrap(), [alert(1, "a")]);
    let again = store.create(scan(2, "me", ScanState::Queued), Some("k".into())).await.unwrap();
    assert_eq!(again, Created::Earlier(id(1)));
}

#[tokio::test]
async fn many_writers_at_once_all_get_their_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    // More than may wait, and the third and fourth of every four want the same id.
    let all = (0..2000).map(|ms| store.create(scan(ms - ms % 4 / 3, "me", ScanState::Queued), None));
    let answers = futures::future::join_all(all).await;
    for four in answers.chunks(4) {
        let ok: Vec<_> = four.iter().map(Result::is_ok).collect();
        assert!(ok[0] && ok[1] && ok[2] != ok[3], "{four:?}");
    }
    assert_eq!(store.unfinished().await.unwrap().len(), 1500);
}

/// A change that fails half way takes back its own part and leaves its neighbours in the same commit alone.
#[tokio::test]
async fn a_change_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let half = store.write(|c| {
        sql::create(c, &scan(1, "me", ScanState::Queued), None)?;
        c.execute_batch("no statement")
    });
    let whole = store.create(scan(2, "me", ScanState::Queued), None);
    let (half, whole) = futures::future::join(half, whole).await;
    assert!(half.is_err() && whole.is_ok());
    let ids: Vec<_> = store.list(None, None, 9).await.unwrap().into_iter().map(|s| s.id).collect();
    assert_eq!(ids, [id(2)]);
}

/// As on a full disk, SQLite is given no further page.
#[tokio::test]
async fn a_full_disk_is_told_and_what_was_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    store.create(scan(1, "me", ScanState::Running), None).await.unwrap();
    store.write(|c| c.query_row("PRAGMA max_page_count = 30", [], |_| Ok(()))).await.unwrap();
    let many: Vec<_> = (1..2000).map(|n| alert(n, &"r".repeat(200))).collect();
    let full = store.put_alerts(id(1), many).await;
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    assert_eq!(store.alerts(id(1)).await.unwrap(), []);
    // Small things may still fit, and room can be made.
    store.put_alerts(id(1), vec![alert(1, "a")]).await.unwrap();
    store.delete(id(1)).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), None);
}

/// Some errors make SQLite take back the whole transaction: then nobody in it may be told that all is well.
#[tokio::test]
async fn nobody_is_told_ok_when_the_whole_group_was_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let before = store.create(scan(1, "me", ScanState::Queued), None);
    let taken_back = store.write(|c| {
        c.execute_batch("ROLLBACK")?;
        c.execute_batch("no statement")
    });
    let after = store.create(scan(2, "me", ScanState::Queued), None);
    let answers = futures::future::join3(before, taken_back, after).await;
    let told = [answers.0.is_ok(), answers.2.is_ok()];
    let there = [store.get(id(1)).await.unwrap().is_some(), store.get(id(2)).await.unwrap().is_some()];
    assert_eq!(told, there);
    assert!(answers.1.is_err());
    store.create(scan(3, "me", ScanState::Queued), None).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut gone = store.create(scan(1, "me", ScanState::Queued), None);
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    store.create(scan(2, "me", ScanState::Queued), None).await.unwrap();
    assert!(store.get(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_host_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = SqliteStore::open(folder.path()).unwrap();
    let error = SqliteStore::open(folder.path()).err().unwrap().to_string();
    assert!(error.starts_with("another lanner uses the data directory"), "{error}");
}

#[test]
fn a_database_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lanner.db"), "this is no database, ".repeat(100)).unwrap();
    let error = SqliteStore::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("lanner.db is damaged: move it away"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_lanner_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    store.write(|c| c.pragma_update(None, "user_version", 99)).await.unwrap();
    drop(store);
    let error = SqliteStore::open(folder.path()).err().unwrap().to_string();
    assert!(error.ends_with("was written by a newer lanner (schema 99, this one knows 4)"), "{error}");
}

/// What this process says it wrote, another finds after `kill -9`, whenever that comes.
#[test]
fn what_was_answered_survives_a_kill() {
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = writing_child(folder.path());
        let mut told = Vec::new();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness speaks first; killed in the middle of a line, the child has not told it.
        while told.len() < 1 + round * 40 {
            told.extend(lines.next().unwrap().unwrap().strip_prefix("created ").map(str::to_owned));
        }
        child.kill().unwrap();
        told.extend(
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("created ").map(str::to_owned)),
        );
        child.wait().unwrap();
        // The last line may be cut off.
        told.retain(|t| t.len() == 32);
        runtime().block_on(async {
            let store = SqliteStore::open(folder.path()).unwrap();
            for id in told {
                let id: ScanId = id.parse().unwrap();
                assert!(store.get(id.clone()).await.unwrap().is_some(), "{id} was answered and is gone");
                assert_eq!(store.alerts(id).await.unwrap().len(), 1);
            }
        });
    }
}

const CHILD: &str = "store::tests::the_child_that_writes_until_it_is_killed";
const CHILD_FOLDER: &str = "LANNER_STORE_TEST_FOLDER";

#[expect(
    clippy::disallowed_methods,
    reason = "a process to kill must be a process, and this one is the test itself"
)]
fn writing_child(folder: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Started by the test above; by itself it has nowhere to write and nothing to say.
#[test]
#[expect(clippy::disallowed_methods, reason = "the one thing that its parent can tell it")]
fn the_child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    runtime().block_on(async {
        let store = SqliteStore::open(Path::new(&folder)).unwrap();
        // Bounded, should the parent die: a few seconds of writing.
        for group in 0..500u64 {
            let group = (0..4).map(|n| {
                let ms = group * 4 + n;
                let created = store.create(scan(ms, "me", ScanState::Queued), None);
                let alerts = store.put_alerts(id(ms), vec![alert(1, "a")]);
                async move {
                    created.await.unwrap();
                    alerts.await.unwrap();
                    println!("created {}", id(ms));
                }
            });
            futures::future::join_all(group).await;
        }
    });
}
