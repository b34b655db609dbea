//! `AlertFilter` objects of a real cluster, their components in a real registry: what becomes of one, and what it is told.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::cluster::{Cluster, Program};
use lanner_tests::filters::{all, good};
use lanner_tests::registry::Registry;
use lanner_tests::serve::{Serve, curl, curl_json};
use lanner_tests::{lanner, root, run, skipped};
use serde_json::{Value, json};

use crate::cluster::{NODE, door, images, namespace, over, served, submitted};
use crate::service::packed;

const OBJECTS: &str = "/apis/lanner.dev/v1alpha1/namespaces/filters/alertfilters";
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage<'a> {
    cluster: &'a Cluster,
    registry: &'a Registry,
    folder: &'a Path,
    serve: Serve,
}

/// The chart's own, as it is.
fn define(cluster: &Cluster) {
    let file = root().join("charts/lanner/crds/alertfilters.lanner.dev.yaml");
    let [ca, certificate, key] = cluster.admin_files().map(|p| p.display().to_string());
    let url = format!("{}/apis/apiextensions.k8s.io/v1/customresourcedefinitions", cluster.api());
    let data = format!("@{}", file.display());
    let identity = ["--cacert", &ca, "--cert", &certificate, "--key", &key];
    let kind = ["-H", "content-type: application/yaml", "--data-binary", &data, &url];
    let (status, answer) = curl(&[identity.as_slice(), &kind].concat()).unwrap();
    assert_eq!(status, 201, "{answer}");
    let body = json!({ "metadata": { "name": "filters" } });
    assert_eq!(cluster.request("POST", "/api/v1/namespaces", Some(&body)).unwrap().0, 201);
    let begun = Instant::now();
    while cluster.get(OBJECTS).unwrap().0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "the kind is not served");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn config(folder: &Path) -> String {
    let own = folder.join("own.wasm");
    std::fs::write(&own, good().unwrap()).unwrap();
    format!(
        "[kubernetes.filters]\nnamespace = \"filters\"\n[registry]\nplain_http = true\n\
         [[filters]]\nname = \"own\"\nsource = {own:?}\n"
    )
}

#[test]
fn objects_become_filters_and_are_told_what_became_of_them() {
    let test = "objects_become_filters_and_are_told_what_became_of_them";
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(folder.path()).unwrap() else {
        return skipped(test, "docker-registry is not on this machine");
    };
    let Some(cluster) = Cluster::start(&folder.path().join("cluster")).unwrap() else { return };
    images(&cluster, folder.path());
    namespace(&cluster);
    define(&cluster);
    let serve = served(&cluster, folder.path(), door(&cluster), NODE, ("", &config(folder.path())));
    let stage = Stage { cluster: &cluster, registry: &registry, folder: folder.path(), serve };
    let module = stage.one_that_is_good_judges();
    stage.a_bad_one_is_told_and_the_one_before_judges_on(&module);
    stage.names_of_the_operators_file_are_taken();
    stage.what_is_away_is_waited_for();
    let stage = stage.a_restart_takes_nothing_in_again(&module);
    stage.one_that_is_deleted_is_gone();
    assert_eq!(stage.serve.stop().unwrap(), Some(0));
}

impl Stage<'_> {
    /// Pushes a component; the reference that names it.
    fn push(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.folder.join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).unwrap();
        let at = format!("{}/filters/{name}:1", self.registry.host);
        let mut push = Command::new(lanner().unwrap());
        let done = run(push.args(["function", "push", "--plain-http", &at]).arg(&file)).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        format!("oci://{}", String::from_utf8_lossy(&done.stdout).trim())
    }

    fn make(&self, name: &str, spec: &Value) -> (u16, Value) {
        let body = json!({ "apiVersion": "lanner.dev/v1alpha1", "kind": "AlertFilter",
                           "metadata": { "name": name }, "spec": spec });
        self.cluster.request("POST", OBJECTS, Some(&body)).unwrap()
    }

    fn change(&self, name: &str, spec: &Value) {
        let body = json!({ "spec": spec });
        let (status, answer) =
            self.cluster.request("PATCH", &format!("{OBJECTS}/{name}"), Some(&body)).unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    fn object(&self, name: &str) -> Value {
        self.cluster.get(&format!("{OBJECTS}/{name}")).unwrap().1
    }

    /// The object, once a condition of its present generation has this status and reason.
    fn told(&self, name: &str, condition: &str, status: &str, reason: &str) -> Value {
        let begun = Instant::now();
        loop {
            let object = self.object(name);
            let of_now = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let conditions = object["status"]["conditions"].as_array();
            let is_it = |c: &Value| c["type"] == condition && c["status"] == status && c["reason"] == reason;
            if of_now && conditions.is_some_and(|c| c.iter().any(is_it)) {
                println!(
                    "{name}: {condition} {status} {reason} after {:.1} s",
                    begun.elapsed().as_secs_f64()
                );
                return object;
            }
            let log = || std::fs::read_to_string(self.folder.join("data.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{name}: {condition}: {object:#}\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn message(object: &Value, condition: &str) -> String {
        let conditions = object["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == condition).unwrap();
        found["message"].as_str().unwrap().to_owned()
    }

    /// Digest of the active revision, as the host's own API has it.
    fn active(&self, name: &str) -> Value {
        let (_, filter) = curl_json(&[&format!("{}/v1/policies/{name}", self.serve.url)]).unwrap();
        filter["active"]["digest"].clone()
    }

    fn one_that_is_good_judges(&self) -> String {
        let module = self.push("quiet", &good().unwrap());
        // What could not be read would hold up the watch of all.
        let (status, answer) = self.make("large", &json!({ "module": module, "order": 3_000_000_000_i64 }));
        assert_eq!(status, 422, "{answer}");
        assert_eq!(self.make("quiet", &json!({ "module": module, "order": 7 })).0, 201);
        let object = self.told("quiet", "Active", "True", "Judges");
        let digest = object["status"]["digest"].clone();
        assert!(digest.as_str().unwrap().starts_with("sha256:"), "{object}");
        assert_eq!((self.active("quiet"), &object["status"]["revision"]), (digest.clone(), &json!(1)));

        let id = submitted(&self.serve, &packed("npmrc-token", self.folder));
        let (scan, alerts) = over(&self.serve, &id);
        assert_eq!(scan["state"], "finished", "{scan}");
        let judged = |list: &Value| {
            list.as_array().unwrap().iter().any(|f| f["filter"] == "quiet" && f["digest"] == digest)
        };
        assert!(judged(&scan["filters"]), "{scan}");
        let alerts = alerts["alerts"].as_array().unwrap();
        assert!(!alerts.is_empty() && alerts.iter().all(|a| judged(&a["decisions"])), "{alerts:#?}");

        // At rest nothing is written.
        let version = || self.object("quiet")["metadata"]["resourceVersion"].clone();
        let before = version();
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(version(), before);
        module
    }

    fn a_bad_one_is_told_and_the_one_before_judges_on(&self, module: &str) {
        let before = self.active("quiet");
        let nowhere = format!("{}{}", &module[..module.len() - 64], "0".repeat(64));
        self.change("quiet", &json!({ "module": nowhere }));
        let object = self.told("quiet", "Tried", "False", "Refused");
        let why = Self::message(&object, "Tried");
        assert!(why.starts_with("it cannot be had: "), "{why}");
        assert_eq!(self.active("quiet"), before, "what judged before judges on");
        let traps = all().unwrap().into_iter().find(|h| h.name == "trap-in-evaluate").unwrap();
        let traps = self.push("traps", &traps.bytes);
        self.change("quiet", &json!({ "module": traps }));
        let object = self.told("quiet", "Tried", "False", "Refused");
        assert!(Self::message(&object, "Tried").contains("unreachable"), "{object}");
        assert_eq!(self.active("quiet"), before);
        // It is remembered: nobody tries it again before the object changes.
        let revisions = || {
            let (_, filter) = curl_json(&[&format!("{}/v1/policies/quiet", self.serve.url)]).unwrap();
            filter["revisions"].as_array().unwrap().len()
        };
        let tried = revisions();
        self.cluster
            .request(
                "PATCH",
                &format!("{OBJECTS}/quiet"),
                Some(&json!({ "metadata": { "labels": { "a": "b" } } })),
            )
            .unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(revisions(), tried);
        self.change("quiet", &json!({ "module": module }));
        self.told("quiet", "Active", "True", "Judges");
        assert_eq!(self.active("quiet"), before);
    }

    fn names_of_the_operators_file_are_taken(&self) {
        let before = self.active("own");
        let module = self.push("other", &[good().unwrap(), vec![0, 3, 1, b'n', 9]].concat());
        for name in ["own", "baseline"] {
            assert_eq!(self.make(name, &json!({ "module": module })).0, 201);
            let object = self.told(name, "Accepted", "False", "NameTaken");
            println!("{name}: {}", Self::message(&object, "Accepted"));
        }
        assert_eq!(self.active("own"), before);
        for name in ["own", "baseline"] {
            self.cluster.request("DELETE", &format!("{OBJECTS}/{name}"), None).unwrap();
        }
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(self.active("own"), before, "the operator's own stays when such an object goes");
    }

    fn what_is_away_is_waited_for(&self) {
        let module = format!("oci://127.0.0.1:1/a@sha256:{}", "0".repeat(64));
        assert_eq!(self.make("away", &json!({ "module": module })).0, 201);
        let begun = Instant::now();
        loop {
            let object = self.told("away", "Tried", "Unknown", "Pending");
            let why = Self::message(&object, "Tried");
            if why.starts_with("it cannot be had: ") {
                println!("away: {why}");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{object}");
            std::thread::sleep(Duration::from_millis(200));
        }
        let good = self.push("back", &good().unwrap());
        self.change("away", &json!({ "module": good, "mode": "shadow" }));
        self.told("away", "Active", "False", "Shadow");
    }

    /// The API server goes meanwhile, too: a watch that begins anew is no reason to take anything out.
    fn a_restart_takes_nothing_in_again(self, module: &str) -> Self {
        let before = self.object("quiet")["status"].clone();
        let active = self.active("quiet");
        self.cluster.restart(Program::Api).unwrap();
        assert_eq!(self.serve.stop().unwrap(), Some(0));
        let serve = served(self.cluster, self.folder, door(self.cluster), NODE, ("", &config(self.folder)));
        let stage = Stage { serve, ..self };
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!((stage.active("quiet"), &stage.object("quiet")["status"]), (active, &before));
        assert_eq!(stage.object("quiet")["spec"]["module"], module);
        stage
    }

    fn one_that_is_deleted_is_gone(&self) {
        let (status, _) = self.cluster.request("DELETE", &format!("{OBJECTS}/quiet"), None).unwrap();
        assert_eq!(status, 200);
        let begun = Instant::now();
        while !self.active("quiet").is_null() {
            assert!(begun.elapsed() < PATIENCE, "it judges still");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("deleted: gone after {:.1} s", begun.elapsed().as_secs_f64());
        let (_, audit) = curl_json(&[&format!("{}/v1/audit", self.serve.url)]).unwrap();
        let last = &audit["changes"][0];
        assert_eq!((&last["action"], &last["by"]), (&json!("retire"), &json!("kubernetes:alertfilters")));
        assert!(self.active("own").is_string(), "and nothing else");
    }
}
