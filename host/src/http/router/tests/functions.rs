//! The routes of the functions' life cycle: who may use them, and what they say.

use super::*;
use crate::function::{CanarySettings, Settings};

/// The built-in functions, which take long to compile, once for all tests.
pub(super) fn opened() -> Functions {
    static OPENED: std::sync::OnceLock<(Functions, tempfile::TempDir)> = std::sync::OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
        let blob = FileBlob::open(folder.path().join("s"), lanner_archive::Limits::default(), 1).unwrap();
        let filter = Arc::new(policy(folder.path(), &store));
        let ports = Ports { store: store.clone(), blob: Arc::new(blob), runner: Arc::new(Idle), filter };
        let limits = crate::scan::Settings {
            queue: 1,
            parallel: 1,
            keep: 1,
            max_age: Duration::ZERO,
            patience: Patience::default(),
            witness: None,
        };
        let scans = Scans::new(ports, limits);
        let engine = crate::engine::Engine::new(None).unwrap();
        let apart = crate::engine::Apart { program: "/nowhere".into(), memory_bytes: 1, cpu: Duration::ZERO };
        let settings = Settings {
            folder: folder.path().join("functions"),
            apart,
            max_bytes: 1,
            keep: 1,
            poll: None,
            canary: CanarySettings { percent: 0, time: Duration::ZERO, requests: 0 },
            sources: Default::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let opened = Functions::open(&engine, &scans, None, settings, store, origins());
        (runtime.block_on(opened).unwrap(), folder)
    };
    let opened = move || OPENED.get_or_init(open).0.clone();
    std::thread::spawn(opened).join().unwrap()
}

#[tokio::test]
async fn only_an_admin_changes_functions_and_everybody_who_reads_sees_them() {
    let bench = bench(&CALLERS);
    for path in ["refresh", "status/activate", "status/rollback"].map(|p| format!("/v1/functions/{p}")) {
        for caller in ["submitter", "reader", "both"] {
            let (status, _, problem) = ask(&bench, request("POST", &path, Some(caller))).await;
            assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")), "{path}");
        }
        assert_eq!(ask(&bench, request("POST", &path, None)).await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, _, list) = ask(&bench, request("GET", "/v1/functions", Some("reader"))).await;
    let names: Vec<_> =
        list["functions"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!((status, names), (StatusCode::OK, vec!["alerts", "status", "submit"]));
    let (_, _, one) = ask(&bench, request("GET", "/v1/functions/status", Some("reader"))).await;
    assert_eq!((&one["source"], &one["routes"]), (&json!("built in"), &json!(["/v1/scans/:id", "/"])));
    assert_eq!((&one["active"]["number"], &one["revisions"][0]["state"]), (&json!(1), &json!("active")));
}

#[tokio::test]
async fn a_change_of_a_function_is_answered_and_a_notification_is_read() {
    let bench = bench(&CALLERS);
    let post = async |path: &str, body: &str| {
        let mut sent = request("POST", &format!("/v1/functions/{path}"), Some("admin"));
        *sent.body_mut() = Full::from(body.to_owned());
        let (status, _, answer) = ask(&bench, sent).await;
        (status.as_u16(), answer)
    };
    for (path, body, status, code) in [
        ("status/rollback", "", 409, "conflict"),
        ("status/rollback", "{\"revision\": 7}", 404, "not-found"),
        ("status/activate", "{}", 409, "conflict"),
        ("status/activate", "{\"revision\": 1}", 409, "conflict"),
        ("nobody/activate", "", 404, "not-found"),
        ("Nobody/activate", "", 400, "bad-request"),
        ("status/activate", "{\"colour\": 1}", 400, "bad-request"),
        ("refresh", "{\"function\": \"nobody\"}", 404, "not-found"),
        ("refresh", "{\"function\": 7}", 400, "bad-request"),
        ("status", "", 405, "method-not-allowed"),
    ] {
        let (was, problem) = post(path, body).await;
        assert_eq!((was, &problem["code"]), (status, &json!(code)), "{path} {body}: {problem}");
    }
    assert_eq!(post("refresh", "{\"function\": \"status\"}").await.1["functions"], json!(["status"]));
    assert_eq!(post("refresh", "").await.1["functions"].as_array().unwrap().len(), 3);
    // What is about others' packages is nothing to us.
    let event = r#"{"events":[{"action":"push","target":{"repository":"a"}}]}"#;
    assert_eq!(post("refresh", event).await, (202, json!({ "functions": [] })));
    assert_eq!(
        ask(&bench, request("GET", "/v1/functions/nobody", Some("admin"))).await.0,
        StatusCode::NOT_FOUND
    );
}
