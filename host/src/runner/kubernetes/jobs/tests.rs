//! What is asked of an API server that plays a script, and how often.

use std::collections::VecDeque;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::*;

/// An answer; nothing for a connection that breaks.
type Answer = Option<(u16, &'static str, &'static str)>;

const DONE: Answer = Some((200, "", ""));
const USED_UP: Answer =
    Some((403, "Forbidden", "jobs.batch \"lanner-1\" is forbidden: exceeded quota: few, used: 5"));
const FORBIDDEN: Answer = Some((403, "Forbidden", "jobs.batch is forbidden: User cannot create"));
const BUSY: Answer = Some((429, "TooManyRequests", "too many requests"));
const FAILED: Answer = Some((500, "InternalError", "etcdserver: request timed out"));
const EXISTS: Answer = Some((409, "AlreadyExists", "jobs.batch \"lanner-1\" already exists"));
const MISSING: Answer = Some((404, "NotFound", "jobs.batch \"lanner-1\" not found"));

#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn jobs(answers: &[Answer]) -> (Self, Jobs) {
        let server = Self::default();
        server.answers.lock().unwrap().extend(answers);
        let its = server.clone();
        let service = tower::service_fn(move |request| std::future::ready(its.answer(&request)));
        let mut jobs = Jobs::new(Client::new(service, "scans"), "scans", "lanner");
        let (again, long) = (Duration::from_millis(1), Duration::from_secs(60));
        jobs.pace = Pace { again, create: long, delete: long };
        (server, jobs)
    }

    fn answer(&self, request: &Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let path = request
            .uri()
            .path_and_query()
            .unwrap()
            .as_str()
            .replace("/apis/batch/v1/namespaces/scans/jobs", "")
            .replace("?&", "?");
        self.asked.lock().unwrap().push(format!("{} {path}", request.method()));
        let answer = self.answers.lock().unwrap().pop_front().expect("one more than the script has");
        let (code, reason, message) = answer.ok_or_else(|| std::io::Error::other("connection refused"))?;
        let status = if code == 200 { "Success" } else { "Failure" };
        let document = match (code, request.method()) {
            (200, &http::Method::POST) => serde_json::to_vec(&named()),
            (200, &http::Method::GET) => serde_json::to_vec(&listed()),
            _ => serde_json::to_vec(
                &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status,
                         "code": code, "reason": reason, "message": message }),
            ),
        };
        let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
        Ok(response.header("content-type", "application/json").body(Body::from(document.unwrap())).unwrap())
    }

    /// Since it was asked last.
    fn asked(&self) -> Vec<String> {
        assert_eq!(self.answers.lock().unwrap().len(), 0, "answers nobody asked for");
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().map(|asked| asked.trim_end_matches(['?', '&', ' ']).to_owned()).collect()
    }
}

fn named() -> Job {
    let mut job = Job::default();
    job.metadata.name = Some("lanner-1".into());
    job
}

fn listed() -> serde_json::Value {
    let named = |name: &str| json!({ "metadata": { "name": name } });
    json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
            "items": [named("lanner-1"), named("lanner-2"), named("lanner-3")] })
}

#[tokio::test]
async fn what_is_refused_is_asked_for_once() {
    for (answer, passes, text) in [
        (USED_UP, true, "exceeded quota: few, used: 5"),
        (BUSY, true, "too many requests"),
        (FORBIDDEN, false, "jobs.batch is forbidden: User cannot create"),
    ] {
        let (server, jobs) = Server::jobs(&[answer]);
        let why = jobs.create(&named()).await.err().unwrap();
        assert_eq!((why.passes(), why.text().as_str()), (passes, text));
        assert_eq!(server.asked(), ["POST"]);
        assert!(jobs.doubtful().is_empty(), "it is not there");
    }
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again() {
    for answers in [[FAILED, DONE], [None, DONE], [None, EXISTS], [FAILED, EXISTS]] {
        let (server, jobs) = Server::jobs(&answers);
        assert!(jobs.create(&named()).await.is_ok());
        assert_eq!(server.asked(), ["POST", "POST"]);
        assert!(jobs.doubtful().is_empty());
    }
}

/// Of a server that is away for long, or that has no room any more for one that may have been made.
#[tokio::test]
async fn one_that_may_be_there_is_deleted_before_the_next() {
    let (server, mut jobs) = Server::jobs(&[FAILED, USED_UP]);
    assert!(jobs.create(&named()).await.err().unwrap().passes());
    assert_eq!(server.asked(), ["POST", "POST"]);

    server.answers.lock().unwrap().extend([FAILED]);
    assert!(jobs.create(&named()).await.err().unwrap().passes());
    assert_eq!(server.asked(), ["DELETE /lanner-1"], "and none is made as long as that is not done");

    for gone in [DONE, MISSING] {
        jobs.doubtful().push("lanner-1".into());
        jobs.doubtful().dedup();
        server.answers.lock().unwrap().extend([gone, DONE]);
        assert!(jobs.create(&named()).await.is_ok());
        assert_eq!(server.asked(), ["DELETE /lanner-1", "POST"]);
        assert!(jobs.doubtful().is_empty());
    }

    jobs.pace.create = Duration::ZERO;
    server.answers.lock().unwrap().extend([None]);
    let why = jobs.create(&named()).await.err().unwrap();
    assert!(why.passes() && why.text().contains("connection refused"), "{}", why.text());
    assert_eq!((server.asked(), jobs.doubtful().len()), (vec!["POST".to_owned()], 1));
}

#[tokio::test]
async fn a_job_is_deleted_in_spite_of_a_busy_server_and_by_its_scan_if_its_name_is_unknown() {
    let (server, jobs) = Server::jobs(&[BUSY, None, MISSING]);
    assert!(jobs.delete("lanner-1").await.is_ok());
    assert_eq!(server.asked(), ["DELETE /lanner-1"; 3]);
    server.answers.lock().unwrap().extend([FORBIDDEN, FAILED, DONE]);
    assert!(jobs.delete("lanner-1").await.is_err());
    let scan = ScanId::new(1, [1; 10]);
    assert!(jobs.delete_all_of(&scan).await.is_ok());
    let all = format!("DELETE ?labelSelector=lanner.dev%2Fscan%3D{scan}");
    assert_eq!(server.asked(), ["DELETE /lanner-1", &all, &all]);
}

#[tokio::test]
async fn those_of_an_earlier_life_go_but_for_the_kept_ones() {
    let (server, jobs) = Server::jobs(&[DONE]);
    assert!(jobs.sweep(&[]).await.is_ok());
    let ours =
        "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dlanner%2Capp.kubernetes.io%2Finstance%3Dlanner";
    assert_eq!(server.asked(), [format!("DELETE ?{ours}")]);
    // One is gone by itself meanwhile, and keeps nobody from the next.
    server.answers.lock().unwrap().extend([DONE, MISSING, DONE]);
    assert!(jobs.sweep(&["lanner-2".to_owned()]).await.is_ok());
    assert_eq!(
        server.asked(),
        [format!("GET ?{ours}"), "DELETE /lanner-1".into(), "DELETE /lanner-3".into()]
    );
}
