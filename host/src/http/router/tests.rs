//! The contract of every answer, through the whole router, with functions that echo who called them.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use lanner_core::ScanState;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::blob::FileBlob;
use crate::config::Credential;
use crate::http::admin::Admin;
use crate::http::full;
use crate::http::metrics::register_sizes;
use crate::manifest;
use crate::policy::{self, Policy};
use crate::scan::ports::{Job, ReportSender, Runner, Store};
use crate::scan::{Patience, Ports, Reach, Settings};
use crate::source::{Local, Origins};
use crate::store::SqliteStore;
use crate::store::conformance::{alert, id, scan};

mod functions;

struct Idle;

impl Runner for Idle {
    fn run(&self, _: Job, _: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        async move { cancel.cancelled().await }.boxed()
    }

    fn recover(&self, _: Vec<crate::scan::ports::Left>) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

/// Says who called it with how many bytes; 400 for half a body, like our own; panics and tells too much on request.
struct Echo;

const ROUTES: [&str; 5] =
    ["/v1/scans", "/v1/scans/:id", "/v1/scans/:id/alerts", "/", "/monitor/project/:manager"];

impl FunctionHandler for Echo {
    fn route(&self, path: &str) -> Option<&str> {
        let fitting = ROUTES.iter().filter_map(|r| Some((manifest::fit(r, path)?, *r)));
        fitting.max_by_key(|(score, _)| *score).map(|(_, route)| route)
    }

    fn routes(&self) -> Vec<String> {
        ROUTES.map(str::to_owned).to_vec()
    }

    fn handle(&self, request: Request<Body>, caller: Caller) -> BoxFuture<'_, Response<Body>> {
        async move {
            assert_ne!(request.uri().path(), "/v1/scans/panic", "as asked");
            let secret = request.headers().contains_key(header::AUTHORIZATION);
            let method = request.method().to_string();
            let Ok(body) = request.into_body().collect().await else {
                return Code::Failed.answer("what a function makes of half a body");
            };
            let answer = json!({
                "owner": caller.owner, "all": caller.reach == Reach::All, "id": caller.request_id, "secret": secret,
                "method": method, "bytes": body.to_bytes().len(),
            });
            let mut response = Response::new(full(answer.to_string()));
            response.headers_mut().insert(header::SERVER, HeaderValue::from_static("guest/1"));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        .boxed()
    }
}

struct Bench {
    router: Router,
    admin: Admin,
    store: Arc<SqliteStore>,
    folder: tempfile::TempDir,
}

const CALLERS: [(&str, &[Role]); 4] = [
    ("submitter", &[Role::Submit]),
    ("reader", &[Role::Read]),
    ("both", &[Role::Submit, Role::Read]),
    ("admin", &[Role::Admin]),
];

fn secret(name: &str) -> String {
    format!("secret-of-the-{name}")
}

fn bench(callers: &[(&str, &[Role])]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let blob =
        FileBlob::open(folder.path().join("sources"), lanner_archive::Limits::default(), 1 << 20).unwrap();
    let policy = policy(folder.path(), &store);
    let filter = Arc::new(policy.clone());
    let ports = Ports { store: store.clone(), blob: Arc::new(blob), runner: Arc::new(Idle), filter };
    let settings = Settings {
        queue: 9,
        parallel: 2,
        keep: 9,
        max_age: Duration::from_secs(60),
        patience: Patience::default(),
        witness: None,
    };
    let scans = Scans::new(ports, settings);
    let credential = |(name, roles): &(&str, &[Role])| {
        let secret_file = folder.path().join(name);
        std::fs::write(&secret_file, secret(name)).unwrap();
        Credential { name: (*name).into(), roles: roles.to_vec(), secret_file }
    };
    let gate = Gate::load(&callers.iter().map(credential).collect::<Vec<_>>(), None).unwrap();
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    register_sizes(&mut registry, scans.clone());
    let stop = CancellationToken::new();
    let limits = BodyLimits { max_bytes: 64, pause: Duration::from_millis(100), pace: 10 };
    let router = Router {
        functions: Arc::new(Echo),
        revisions: functions::opened(),
        policies: Policies {
            policy,
            scans: scans.clone(),
            supervisor: crate::tasks::Supervisor::new(),
            max_bytes: 48,
        },
        scans,
        gate,
        metrics,
        limits,
        stop: stop.clone(),
        listeners: Arc::new(Semaphore::new(1)),
        intake: None,
        bench_native: true,
    };
    let admin = Admin { registry, data_dir: folder.path().to_owned(), stop };
    Bench { router, admin, store, folder }
}

fn origins() -> Origins {
    Origins::local(Local { max_bytes: 1, signed_only: vec![] })
}

/// The built-in filter, on this store.
fn policy(folder: &std::path::Path, store: &Arc<SqliteStore>) -> Policy {
    let settings = policy::Settings {
        folder: folder.join("components"),
        apart: crate::engine::Apart {
            program: "/nowhere".into(),
            memory_bytes: 1,
            cpu: Duration::from_secs(1),
        },
        max_bytes: 48,
        keep: 1,
        may_suppress_up_to: lanner_core::Grant::default(),
        trial_scans: 0,
        baseline: true,
        poll: None,
    };
    let engine = crate::engine::Engine::new(None).unwrap();
    let store = store.clone();
    // A test's own runtime is busy with the test.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Policy::open(&engine, settings, store.clone(), store, origins(), &[])).unwrap()
    })
    .join()
    .unwrap()
}

fn request(method: &str, path: &str, caller: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:3000");
    if let Some(name) = caller {
        request = request.header("authorization", format!("Bearer {}", secret(name)));
    }
    request.body(Full::from("body")).unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// Every answer is checked for what all have in common; what is not on the list would be a leak.
async fn ask(bench: &Bench, request: Request<Full<Bytes>>) -> (StatusCode, http::HeaderMap, Value) {
    const HEADERS: [&str; 9] = [
        "content-type",
        "x-request-id",
        "x-content-type-options",
        "cache-control",
        "www-authenticate",
        "allow",
        "retry-after",
        "connection",
        "location",
    ];
    let response = bench.router.answer(request).await;
    let (status, headers) = (response.status(), response.headers().clone());
    for name in headers.keys() {
        assert!(HEADERS.contains(&name.as_str()), "{name} is not one of ours");
    }
    assert!((1..=64).contains(&headers["x-request-id"].len()));
    let body = json_of(response).await;
    if !status.is_success() {
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], status.as_u16());
        let code = body["code"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:lanner:problem:{code}"));
        assert!(body["title"].is_string() && body["detail"].is_string());
    }
    (status, headers, body)
}

#[tokio::test]
async fn each_role_may_do_its_part_and_no_more() {
    let bench = bench(&CALLERS);
    let asked = [("GET", "/v1/scans"), ("POST", "/v1/scans"), ("DELETE", "/v1/scans/x"), ("GET", "/?id=x")];
    let asked = asked.into_iter().chain([("POST", "/monitor/project/npm"), ("GET", "/v1/scans/x/alerts")]);
    for (method, path) in asked {
        let needs = if method == "GET" { Role::Read } else { Role::Submit };
        for (name, roles) in CALLERS {
            let (status, _, body) = ask(&bench, request(method, path, Some(name))).await;
            if roles.contains(&needs) || roles.contains(&Role::Admin) {
                assert_eq!((status, &body["owner"]), (StatusCode::OK, &json!(name)), "{method} {path}");
                assert_eq!(body["all"], roles.contains(&Role::Admin));
                assert_eq!(body["secret"], false, "a function never sees the secret");
            } else {
                assert_eq!(
                    (status, &body["code"]),
                    (StatusCode::FORBIDDEN, &json!("forbidden")),
                    "{method} {path}"
                );
                let detail =
                    format!("this needs the role {}, which this credential does not have", needs.as_str());
                assert_eq!(body["detail"], detail);
            }
        }
        for stranger in [None, Some("stranger")] {
            let (status, headers, body) = ask(&bench, request(method, path, stranger)).await;
            assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
            assert!(headers["www-authenticate"].to_str().unwrap().contains("Basic realm="));
        }
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_routes_but_the_document() {
    let bench = bench(&CALLERS);
    for path in ["/nothing", "/v1/scans/x/events", "/bench/native-status/x"] {
        assert_eq!(ask(&bench, request("GET", path, None)).await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, _, document) = ask(&bench, request("GET", "/openapi.json", None)).await;
    assert_eq!((status, &document["openapi"]), (StatusCode::OK, &json!("3.1.0")));
}

#[tokio::test]
async fn unknown_paths_and_methods_have_their_problems() {
    let bench = bench(&CALLERS);
    let (status, _, body) = ask(&bench, request("GET", "/nothing", Some("reader"))).await;
    assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("not-found")));
    for path in ["/openapi.json", "/v1/scans/x/events"] {
        let (status, headers, _) = ask(&bench, request("POST", path, Some("submitter"))).await;
        assert_eq!((status, headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "GET"));
    }
    let (status, _, _) = ask(&bench, request("GET", "/v1/scans/no-such-scan/events", Some("reader"))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let bench = bench(&[]);
    let announced = Request::post("/v1/scans").body(Full::from(vec![b'x'; 65])).unwrap();
    let (status, headers, body) = ask(&bench, announced).await;
    assert_eq!((status, &body["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too-large")));
    assert_eq!(
        (headers["connection"].to_str().unwrap(), &body["detail"]),
        ("close", &json!("the body has more than 64 bytes"))
    );

    let pieces = futures::stream::iter(0..65).map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from("x"))));
    let silent = Request::post("/v1/scans").body(StreamBody::new(pieces)).unwrap();
    assert_eq!(bench.router.answer(silent).await.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let just = Request::post("/v1/scans").body(Full::from(vec![b'x'; 64])).unwrap();
    assert_eq!(ask(&bench, just).await.2["bytes"], 64);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408() {
    let bench = bench(&[]);
    let first = futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from("x")))]);
    let stalled = first.chain(futures::stream::pending());
    let request = Request::post("/v1/scans").body(StreamBody::new(stalled)).unwrap();
    let response = bench.router.answer(request).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(json_of(response).await["code"], "request-timeout");
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_one_replaced() {
    let bench = bench(&[]);
    let with = |id: &str| {
        let mut request = request("GET", "/v1/scans", None);
        request.headers_mut().insert("x-request-id", HeaderValue::from_str(id).unwrap());
        request
    };
    let (_, headers, body) = ask(&bench, with("build-7.a_B")).await;
    assert_eq!(
        (headers["x-request-id"].to_str().unwrap(), &body["id"]),
        ("build-7.a_B", &json!("build-7.a_B"))
    );
    for bad in ["", "a b", "x\"y", &"x".repeat(65)] {
        let (_, headers, body) = ask(&bench, with(bad)).await;
        let id = headers["x-request-id"].to_str().unwrap();
        assert!(id != bad && id.len() == 32, "{id}");
        assert_eq!(body["id"], id);
    }
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let bench = bench(&[]);
    let (status, _, body) = ask(&bench, request("GET", "/v1/scans/panic", None)).await;
    assert_eq!((status, &body["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("failed")));
    assert_eq!(ask(&bench, request("GET", "/v1/scans", None)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_web_page_cannot_use_a_host_without_credentials() {
    let open = bench(&[]);
    let page = || {
        let mut request = request("POST", "/v1/scans", None);
        request.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
        request
    };
    let (status, _, body) = ask(&open, page()).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("foreign-origin")));

    let guarded = bench(&CALLERS);
    let mut allowed = page();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", secret("both"))).unwrap();
    allowed.headers_mut().insert("authorization", bearer);
    assert_eq!(ask(&guarded, allowed).await.0, StatusCode::OK, "a credential is proof enough");
}

#[tokio::test]
async fn the_native_status_knows_owners() {
    let bench = bench(&CALLERS);
    bench.store.create(scan(1, "reader", ScanState::Finished), None).await.unwrap();
    bench.store.create(scan(2, "somebody", ScanState::Finished), None).await.unwrap();
    let path = |ms| format!("/bench/native-status/{}", id(ms));
    assert_eq!(ask(&bench, request("GET", &path(1), Some("reader"))).await.2["state"], "finished");
    assert_eq!(ask(&bench, request("GET", &path(2), Some("reader"))).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&bench, request("GET", &path(2), Some("admin"))).await.2["owner"], "somebody");
}

async fn events(bench: &Bench, ms: u64) -> Response<Body> {
    bench.router.answer(request("GET", &format!("/v1/scans/{}/events", id(ms)), Some("reader"))).await
}

async fn text_of(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn events_of_an_ended_scan_are_its_alerts_and_its_state() {
    let bench = bench(&CALLERS);
    bench.store.create(scan(1, "reader", ScanState::Finished), None).await.unwrap();
    bench.store.put_alerts(id(1), vec![alert(1, "first\n\nevent: forged")]).await.unwrap();
    let response = events(&bench, 1).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = text_of(response.into_body()).await;
    let names: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    assert_eq!(names, ["alert", "state"], "{text}");
    assert!(text.contains(r#""state":"finished""#));
}

#[tokio::test]
async fn events_follow_a_scan_to_its_final_state_and_bound_their_listeners() {
    let bench = bench(&CALLERS);
    bench.store.create(scan(1, "reader", ScanState::Queued), None).await.unwrap();
    bench.router.scans.recover().await.unwrap();
    let mut body = events(&bench, 1).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains(r#""state":"queued""#));
    assert_eq!(events(&bench, 1).await.status(), StatusCode::SERVICE_UNAVAILABLE, "there is one place here");

    bench.router.scans.delete(&Reach::All, &id(1)).await.unwrap();
    let rest = text_of(body).await;
    assert!(rest.contains(r#""state":"cancelled""#), "{rest}");
    assert_eq!(events(&bench, 1).await.status(), StatusCode::OK, "the place is free again");
}

#[tokio::test]
async fn a_stop_ends_event_streams() {
    let bench = bench(&CALLERS);
    bench.store.create(scan(1, "reader", ScanState::Queued), None).await.unwrap();
    bench.router.scans.recover().await.unwrap();
    let body = events(&bench, 1).await.into_body();
    bench.router.stop.cancel();
    assert!(!text_of(body).await.contains("cancelled"));
}

async fn admin(bench: &Bench, path: &str) -> (StatusCode, String) {
    let response = bench.admin.answer(Request::get(path).body(()).unwrap()).await;
    (response.status(), text_of(response.into_body()).await)
}

#[tokio::test]
async fn readiness_is_a_writable_data_directory_and_no_stop() {
    let bench = bench(&[]);
    assert_eq!(admin(&bench, "/healthz").await.0, StatusCode::OK);
    assert_eq!(admin(&bench, "/readyz").await.0, StatusCode::OK);
    assert_eq!(admin(&bench, "/v1/scans").await.0, StatusCode::NOT_FOUND);
    std::fs::create_dir(bench.folder.path().join("ready")).unwrap();
    let (status, text) = admin(&bench, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("the data directory cannot be written to"), "{text}");
    std::fs::remove_dir(bench.folder.path().join("ready")).unwrap();
    bench.admin.stop.cancel();
    assert!(admin(&bench, "/readyz").await.1.contains("the service is stopping"));
    assert_eq!(admin(&bench, "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn numbers_have_labels_from_closed_sets() {
    let bench = bench(&[]);
    for path in ["/v1/scans/abc", "/v1/scans/def", "/made/up", "/made/up/too"] {
        ask(&bench, request("GET", path, None)).await;
    }
    ask(&bench, request("BREW", "/v1/scans", None)).await;
    let (_, text) = admin(&bench, "/metrics").await;
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    has(r#"lanner_http_requests_total{route="/v1/scans/:id",method="Get",status="Success"} 2"#);
    has(r#"lanner_http_requests_total{route="none",method="Get",status="ClientError"} 2"#);
    has(r#"lanner_http_requests_total{route="/v1/scans",method="Other",status="Success"} 1"#);
    has("lanner_scan_queue_capacity 9");
    assert!(text.contains("process_resident_memory_bytes ") && !text.contains("/made/up"));
}

#[tokio::test]
async fn only_an_admin_changes_filters_and_what_others_send_is_not_stored() {
    let bench = bench(&CALLERS);
    for (method, path) in [
        ("PUT", "/v1/policies/mine"),
        ("DELETE", "/v1/policies/baseline"),
        ("POST", "/v1/policies/baseline/activate"),
        ("POST", "/v1/policies/baseline/rollback"),
        ("POST", "/v1/policies/rejudge"),
        ("GET", "/v1/audit"),
    ] {
        for caller in ["submitter", "reader", "both"] {
            let (status, _, problem) = ask(&bench, request(method, path, Some(caller))).await;
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::FORBIDDEN, &json!("forbidden")),
                "{method} {path}"
            );
        }
        assert_eq!(ask(&bench, request(method, path, None)).await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, _, list) = ask(&bench, request("GET", "/v1/policies", Some("reader"))).await;
    assert_eq!((status, &list["policies"][0]["name"]), (StatusCode::OK, &json!("baseline")));
    assert_eq!(list["policies"].as_array().unwrap().len(), 1);
    let (_, _, log) = ask(&bench, request("GET", "/v1/audit", Some("admin"))).await;
    assert_eq!((log["changes"].as_array().unwrap().len(), &log["next"]), (1, &Value::Null), "{log}");
    assert_eq!(std::fs::read_dir(bench.folder.path().join("components")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_said_by_a_code() {
    let bench = bench(&CALLERS);
    let put = async |path: &str, kind: &str, body: &'static str| {
        let mut sent = request("PUT", path, Some("admin"));
        sent.headers_mut().insert("content-type", kind.parse().unwrap());
        *sent.body_mut() = Full::from(body);
        let (status, _, problem) = ask(&bench, sent).await;
        (status.as_u16(), problem["code"].as_str().unwrap().to_owned(), problem["detail"].to_string())
    };
    let is = |answer: &(u16, String, String), status, code: &str| {
        assert_eq!((answer.0, answer.1.as_str()), (status, code), "{}", answer.2);
    };
    let (wasm, path) = ("application/wasm", "/v1/policies/mine");
    is(&put(path, wasm, "nonsense").await, 422, "filter-format");
    is(&put(path, wasm, "\0asm\u{1}\0\0\0").await, 422, "filter-format");
    is(&put(path, wasm, "\0asm\u{d}\0\u{1}\0").await, 422, "filter-world");
    is(
        &put(path, wasm, "\0asm and more than the forty-eight bytes that it may have").await,
        413,
        "too-large",
    );
    is(&put(path, "text/html", "x").await, 415, "unsupported-media-type");
    is(&put(path, "application/json", "{}").await, 400, "bad-request");
    is(&put(path, "application/json", "{\"colour\": 1}").await, 400, "bad-request");
    is(&put(path, "application/json", "{\"digest\": \"sha256:0\"}").await, 404, "not-found");
    is(&put(path, "multipart/form-data; boundary=b", "--b--").await, 400, "bad-request");
    is(&put(path, "multipart/form-data", "--b--").await, 400, "bad-request");
    is(&put("/v1/policies/My", wasm, "x").await, 400, "bad-request");
    is(&put("/v1/policies/rejudge", wasm, "x").await, 405, "method-not-allowed");
    is(&put("/v1/policies/mine?start=maybe", wasm, "x").await, 400, "bad-request");
}

#[tokio::test]
async fn filters_are_moved_by_name_and_number() {
    let bench = bench(&[]);
    let post = async |path: &str, body: &'static str| {
        let mut sent = request("POST", path, None);
        *sent.body_mut() = Full::from(body);
        let (status, _, answer) = ask(&bench, sent).await;
        (status.as_u16(), answer)
    };
    let (status, problem) = post("/v1/policies/baseline/rollback", "").await;
    assert_eq!((status, &problem["detail"]), (409, &json!("no revision was active before this one")));
    let (status, problem) = post("/v1/policies/baseline/activate", "{\"revision\": 7}").await;
    assert_eq!(
        (status, &problem["detail"]),
        (404, &json!("the filter has no revision 7; its kept ones are 1"))
    );
    assert_eq!(post("/v1/policies/nobody/activate", "").await.0, 404);
    assert_eq!(post("/v1/policies/baseline/activate", "{\"revision\": 1}").await.0, 409);
    assert_eq!(ask(&bench, request("DELETE", "/v1/policies/baseline", None)).await.0, StatusCode::OK);
    let (status, answer) = post("/v1/policies/baseline/rollback", "{}").await;
    assert_eq!((status, &answer["revision"]["state"]), (200, &json!("active")));

    let (status, answer) = post("/v1/policies/rejudge?since=2026-01-31T12:00:00Z", "").await;
    assert_eq!((status, &answer["since"]), (202, &json!(1_769_860_800_000_000_000_i64)));
    while ask(&bench, request("GET", "/v1/policies/rejudge", None)).await.2["ended"].is_null() {
        tokio::task::yield_now().await;
    }
    assert_eq!(post("/v1/policies/rejudge?since=yesterday", "").await.0, 400);
}
