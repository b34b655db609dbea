//! What a scan's pod can reach and what it may become, from inside one: on a cluster that enforces NetworkPolicies, with the
//! host in the pod network behind its Services. Each way is shown to be open before the policies are there: a closed door
//! proves nothing about a wall. The probes are the container's own process, so neither the agent nor its sandbox helps.

use std::path::Path;
use std::time::{Duration, Instant};

use lanner_tests::answers::is_over;
use lanner_tests::cluster::{Cluster, Network};
use lanner_tests::samples::scripted;
use lanner_tests::serve::curl_json;
use serde_json::{Value, json};

use crate::chart::{Helm, chart, helm, score, values};
use crate::cluster::{AGENT, NODE, images};
use ways::{Way, World};

mod desk;
mod more;
mod pods;
mod ways;

const SCANS: &str = "lanner-scans";
/// Where nothing is enforced.
const ELSEWHERE: &str = "elsewhere";
const DOOR: &str = "10.214.0.50";
/// Longer than rules need to be there after their policy.
const ENFORCED: Duration = Duration::from_secs(30);

#[test]
fn a_scan_pod_reaches_the_door_and_nothing_else() {
    let Some(mut helm) = helm("escape from a scan's pod") else { return };
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let cluster = Cluster::start_with(&folder.path().join("cluster"), Network::Enforced).unwrap();
    let Some(cluster) = cluster else { return };
    println!("a cluster with policies and Services after {:.1} s", begun.elapsed().as_secs_f64());
    images(&cluster, folder.path());
    helm.kubeconfig.clone_from(&cluster.kubeconfig);
    let stage = Stage { cluster: &cluster, helm, folder: folder.path() };

    stage.helm_says("install", &["--create-namespace", "--set", "networkPolicy.enabled=false"]);
    let job = stage.the_job_of_a_scan();
    score::only_known_findings(&job);
    let world = World::of(&cluster);
    let probe = stage.scan_pod(&job, "probe", pods::SLEEP);
    let neighbour = stage.scan_pod(&job, "neighbour", pods::LISTEN);
    let (stranger, names) = stage.others();
    let ways = stage.ways(&neighbour, &stranger, &names);
    let callers = stage.ways_to_the_host();

    let before = stage.all_are_open(&probe, &ways, &world);
    let called = stage.all_are_open(&stranger, &callers, &world);
    stage
        .the_doctor_says_of_policies("network-policy: MISSING, no policy of lanner-scans forbids everything");
    let api = stage.address("lanner");
    let test = format!("test.url=http://{api}:3000");
    stage.helm_says("upgrade", &["--set", &test]);
    stage.closes(&probe, &world);
    let after = stage.tried(&probe, &ways, &world);
    ways::table("a scan's pod", &ways, &before, &after);
    stage.only_these_are_open(&ways, &after);
    let calls = stage.tried(&stranger, &callers, &world);
    ways::table("a pod of another namespace", &callers, &called, &calls);
    stage.only_these_are_open(&callers, &calls);

    stage.one_born_under_the_policies_reaches_no_more(&job, &ways, &world);
    stage.the_doctor_says_of_policies(
        "network-policy: ok, a pod of lanner-scans was kept from the API server",
    );
    stage.package_hunters_client_in_a_pod_is_served(&stranger);
    stage.helm_test();
    stage.a_pod_that_wants_more_is_refused(&job);
}

struct Stage<'a> {
    cluster: &'a Cluster,
    helm: Helm,
    folder: &'a Path,
}

impl Stage<'_> {
    /// As an operator installs it, but for images that cannot be pulled and a volume that nobody provides.
    fn helm_says(&self, verb: &str, more: &[&str]) {
        let (repository, tag) = AGENT.split_once(':').unwrap();
        let values = values(
            self.folder,
            "values.json",
            &json!({
                "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
                "door": { "clusterIP": DOOR },
                "scans": { "images": { "npm": NODE }, "cpuRequest": "100m" },
                "resources": { "requests": { "cpu": "100m" } },
                "persistence": { "enabled": false },
                "intake": { "enabled": true },
                // The test's image has no authorities, and the host does not start without any.
                "extraEnv": [{ "name": "SSL_CERT_FILE", "value": "/etc/lanner/door/ca.crt" }],
            }),
        );
        let chart = chart().display().to_string();
        let fixed = [verb, "lanner", &chart, "-n", "lanner", "-f", &values, "--wait", "--timeout", "120s"];
        let begun = Instant::now();
        let said = self.cluster.within(|| self.helm.try_run(&[&fixed, more].concat())).unwrap();
        if let Err(why) = said {
            panic!("helm {verb}: {why}\n{}", self.what_the_host_says());
        }
        println!("helm {verb}: ready after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn helm_test(&self) {
        let args = ["test", "lanner", "-n", "lanner", "--timeout", "60s"];
        if let Err(why) = self.cluster.within(|| self.helm.try_run(&args)).unwrap() {
            panic!("helm test: {why}\n{}", self.what_the_host_says());
        }
    }

    fn what_the_host_says(&self) -> String {
        let mut said = String::new();
        for pod in self.items("/api/v1/namespaces/lanner/pods") {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let log = self.cluster.get(&format!("/api/v1/namespaces/lanner/pods/{name}/log")).unwrap().1;
            said += &format!("{name}: {}\n{}\n", pod["status"], log.as_str().unwrap_or_default());
        }
        for event in [self.items("/api/v1/namespaces/lanner/events"), self.items(&scans("events"))].concat() {
            said += &format!("{}\n", event["message"]);
        }
        said
    }

    fn items(&self, path: &str) -> Vec<Value> {
        self.cluster.get(path).unwrap().1["items"].as_array().unwrap().clone()
    }

    fn create(&self, path: &str, body: &Value) -> Value {
        let begun = Instant::now();
        loop {
            let (status, answer) = self.cluster.request("POST", path, Some(body)).unwrap();
            if status == 201 {
                return answer;
            }
            // A new namespace has no service account for a moment.
            assert!(begun.elapsed() < ENFORCED, "{path}: {answer}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Of a Service.
    fn address(&self, name: &str) -> String {
        let (_, service) = self.cluster.get(&format!("/api/v1/namespaces/lanner/services/{name}")).unwrap();
        service["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }

    fn token(&self) -> String {
        let (_, secret) = self.cluster.get("/api/v1/namespaces/lanner/secrets/lanner-credentials").unwrap();
        pods::decoded(secret["data"]["submit"].as_str().unwrap())
    }

    /// From the node, by the Service's address.
    fn ask(&self, path: &str, args: &[&str]) -> (u16, Value) {
        let token = format!("authorization: Bearer {}", self.token());
        let url = format!("http://{}:3000{path}", self.address("lanner"));
        let args = [&["-H", &token, &url], args].concat();
        let begun = Instant::now();
        loop {
            match self.cluster.within(|| curl_json(&args)).unwrap() {
                Ok(answer) => return answer,
                // A Service's rules may come a moment after its host is ready.
                Err(why) => assert!(begun.elapsed() < ENFORCED, "{why:#}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// As the host made it for a real scan, which comes to the door by the address of its Service.
    fn the_job_of_a_scan(&self) -> Value {
        let path = scripted(self.folder, "slow", "sleep 3").unwrap();
        let body = format!("@{}", path.display());
        let body = ["-X", "POST", "--data-binary", &body, "-H", "content-type: application/gzip"];
        let (status, answer) = self.ask("/v1/scans", &body);
        assert_eq!(status, 202, "{answer}");
        let id = answer["id"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        let mut job = Value::Null;
        loop {
            if job.is_null()
                && let Some(made) = self.items("/apis/batch/v1/namespaces/lanner-scans/jobs").first()
            {
                let name = made["metadata"]["name"].as_str().unwrap();
                let (status, whole) =
                    self.cluster.get(&format!("/apis/batch/v1/namespaces/{SCANS}/jobs/{name}")).unwrap();
                assert_eq!(status, 200, "{whole}");
                job = whole;
            }
            let (_, scan) = self.ask(&format!("/v1/scans/{id}"), &[]);
            if is_over(&scan) {
                assert_eq!(scan["state"], "finished", "{scan}\n{}", self.what_the_host_says());
                println!("a scan by the Services' addresses: {}", scan["state"]);
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "{scan}\n{}", self.what_the_host_says());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(!job.is_null(), "the scan had no Job");
        job
    }

    /// A Service's rules may come a moment after it.
    fn all_are_open(&self, from: &Value, ways: &[Way], world: &World) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let found = self.tried(from, ways, world);
            let shut: Vec<_> = ways.iter().zip(&found).filter(|(_, f)| *f != "open").collect();
            if shut.is_empty() {
                return found;
            }
            assert!(begun.elapsed() < ENFORCED, "not open without a policy: {shut:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn closes(&self, probe: &Value, world: &World) {
        let begun = Instant::now();
        let one = [Way::to_the_world()];
        while self.tried(probe, &one, world)[0] == "open" {
            assert!(begun.elapsed() < ENFORCED, "the policies are not enforced");
        }
        println!("enforced {} ms after the chart was", begun.elapsed().as_millis());
    }

    fn only_these_are_open(&self, ways: &[Way], found: &[String]) {
        let wrong: Vec<_> = ways.iter().zip(found).filter(|(w, f)| w.stays_open != (*f == "open")).collect();
        assert!(wrong.is_empty(), "{wrong:?}\n{}", self.cluster.folder.display());
    }
}

fn scans(what: &str) -> String {
    format!("/api/v1/namespaces/{SCANS}/{what}")
}
