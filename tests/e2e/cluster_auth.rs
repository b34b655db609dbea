//! Service accounts of a real cluster as callers: the API server issues their tokens and says whose they are.

use std::path::Path;
use std::time::{Duration, Instant};

use lanner_tests::archive_of;
use lanner_tests::cluster::{Cluster, Program};
use lanner_tests::serve::{Serve, curl};
use serde_json::{Value, json};

use crate::cluster::{NODE, door, namespace, served};

const SECRET: &str = "secret-of-the-administrator";
/// Longer than any answer of the cluster is remembered.
const FORGOTTEN: Duration = Duration::from_secs(65);

fn config(folder: &Path) -> String {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    format!(
        "[kubernetes.auth]\n\
         [[kubernetes.auth.roles]]\naccount = \"ci/builder\"\nroles = [\"submit\", \"read\"]\n\
         [[kubernetes.auth.roles]]\ngroup = \"system:serviceaccounts:team\"\nroles = [\"submit\"]\n\
         [[credentials]]\nname = \"admin\"\nroles = [\"admin\"]\nsecret_file = {secret:?}\n"
    )
}

fn account(cluster: &Cluster, namespace: &str, name: &str) {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let (status, answer) =
        cluster.request("POST", &path, Some(&json!({ "metadata": { "name": name } }))).unwrap();
    assert_eq!(status, 201, "{answer}");
}

/// As `kubectl create token` asks for it; without an audience it is one for the API server itself.
fn token(cluster: &Cluster, namespace: &str, name: &str, audience: Option<&str>) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let body = json!({ "spec": { "audiences": audience.into_iter().collect::<Vec<_>>() } });
    let (status, answer) = cluster.request("POST", &path, Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Status, whole answer with its head, and its body.
fn ask(serve: &Serve, token: &str, path: &str, args: &[&str]) -> (u16, String, Value) {
    let header = format!("authorization: Bearer {token}");
    let url = format!("{}{path}", serve.url);
    let (status, text) = curl(&[&["-i", "-H", &header, &url], args].concat()).unwrap();
    let body = text.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status, text, body)
}

#[test]
fn service_accounts_come_in_by_their_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(&folder.path().join("cluster")).unwrap() else { return };
    namespace(&cluster);
    for name in ["ci", "team"] {
        let body = json!({ "metadata": { "name": name } });
        assert_eq!(cluster.request("POST", "/api/v1/namespaces", Some(&body)).unwrap().0, 201);
    }
    let accounts = [("ci", "builder"), ("ci", "other"), ("team", "anybody")];
    for (namespace, name) in accounts {
        account(&cluster, namespace, name);
    }
    let archive = folder.path().join("project.tgz");
    let package = json!({ "name": "a", "version": "1.0.0" }).to_string();
    std::fs::write(&archive, archive_of("package.json", package.as_bytes()).unwrap()).unwrap();
    let data = format!("@{}", archive.display());
    let stage = Stage {
        cluster: &cluster,
        serve: served(&cluster, folder.path(), door(&cluster), NODE, ("", &config(folder.path()))),
        submission: vec!["-X", "POST", "--data-binary", &data, "-H", "content-type: application/gzip"],
    };
    let builder = token(&cluster, "ci", "builder", Some("lanner"));
    stage.each_has_the_roles_of_the_map(&builder);
    stage.what_is_not_for_us_is_refused(&builder);
    stage.an_api_server_that_is_away_is_no_answer_and_no_way_in(&builder);
    stage.an_account_that_is_deleted_is_forgotten(&builder);
    let log = std::fs::read_to_string(folder.path().join("data.log")).unwrap();
    let claims = builder.split('.').nth(1).unwrap();
    assert!(!log.contains(claims) && log.contains("a caller could not be answered"), "{log}");
    assert_eq!(stage.serve.stop().unwrap(), Some(0));
}

struct Stage<'a> {
    cluster: &'a Cluster,
    serve: Serve,
    submission: Vec<&'a str>,
}

impl Stage<'_> {
    fn ask(&self, token: &str, path: &str, args: &[&str]) -> (u16, String, Value) {
        ask(&self.serve, token, path, args)
    }

    fn each_has_the_roles_of_the_map(&self, builder: &str) {
        let (status, said, scan) = self.ask(builder, "/v1/scans", &self.submission);
        assert_eq!(status, 202, "{said}");
        let id = scan["id"].as_str().unwrap();
        let (status, said, scan) = self.ask(builder, &format!("/v1/scans/{id}"), &[]);
        assert_eq!((status, &scan["owner"]), (200, &json!("ci/builder")), "{said}");
        assert_eq!(self.ask(SECRET, &format!("/v1/scans/{id}"), &[]).2["owner"], "ci/builder");

        let anybody = token(self.cluster, "team", "anybody", Some("lanner"));
        assert_eq!(self.ask(&anybody, "/v1/scans", &self.submission).0, 202);
        let (status, said, _) = self.ask(&anybody, "/v1/scans", &[]);
        assert!(status == 403 && said.contains("this needs the role read"), "{said}");
        let theirs = self.ask(builder, "/v1/scans", &[]).2["scans"].as_array().unwrap().len();
        let all = self.ask(SECRET, "/v1/scans", &[]).2["scans"].as_array().unwrap().len();
        assert_eq!((theirs, all), (1, 2), "each sees its own");

        let other = token(self.cluster, "ci", "other", Some("lanner"));
        let (status, said, _) = self.ask(&other, "/v1/scans", &[]);
        assert!(status == 403 && said.contains("ci/other has no role here"), "{said}");
        println!("builder, anybody and other have what the map gives them");
    }

    fn what_is_not_for_us_is_refused(&self, builder: &str) {
        let (cluster, elsewhere) = (self.cluster, Some("another.example"));
        let forged = format!("{}{}", &builder[..builder.len() - 8], "AAAAAAAA");
        let (head, rest) = builder.split_once('.').unwrap();
        let unsigned = format!("{head}.{}.x", rest.split('.').next().unwrap());
        for (what, token) in [
            ("the default audience", token(cluster, "ci", "builder", None)),
            ("another audience", token(cluster, "ci", "builder", elsewhere)),
            ("a forged signature", forged),
            ("no signature", unsigned),
            ("no token", "a.b.c".to_owned()),
        ] {
            let (status, said, body) = self.ask(&token, "/v1/scans", &[]);
            assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "{what}: {said}");
            println!("{what}: {status}");
        }
    }

    fn an_api_server_that_is_away_is_no_answer_and_no_way_in(&self, builder: &str) {
        let fresh = token(self.cluster, "ci", "builder", Some("lanner"));
        assert_eq!(self.ask(builder, "/v1/scans", &[]).0, 200);
        self.cluster.kill(Program::Api).unwrap();
        let (status, said, body) = self.ask(&fresh, "/v1/scans", &[]);
        assert_eq!((status, &body["code"]), (503, &json!("auth-unavailable")), "{said}");
        assert!(said.contains("retry-after: 5"), "{said}");
        assert_eq!(self.ask(builder, "/v1/scans", &[]).0, 200, "it is remembered");
        assert_eq!(self.ask(SECRET, "/v1/scans", &[]).0, 200, "nobody is asked about a credential");
        self.cluster.restart(Program::Api).unwrap();
        let begun = Instant::now();
        loop {
            let (status, said, _) = self.ask(&fresh, "/v1/scans", &[]);
            if status == 200 {
                break;
            }
            // While it starts, an API server does not know its accounts yet.
            assert!([503, 401].contains(&status) && begun.elapsed() < Duration::from_secs(30), "{said}");
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("the API server was away: 503, and back after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn an_account_that_is_deleted_is_forgotten(&self, builder: &str) {
        let path = "/api/v1/namespaces/ci/serviceaccounts/builder";
        assert_eq!(self.cluster.request("DELETE", path, None).unwrap().0, 200);
        let begun = Instant::now();
        while self.ask(builder, "/v1/scans", &[]).0 == 200 {
            assert!(begun.elapsed() < FORGOTTEN, "it is let in still");
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("a deleted account was refused after {:.1} s", begun.elapsed().as_secs_f64());
        for _ in 0..3 {
            assert_eq!(self.ask(builder, "/v1/scans", &[]).0, 401);
        }
    }
}
