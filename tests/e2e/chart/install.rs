//! The chart on a real cluster: installed, used, upgraded, uninstalled, and installed again over what was kept.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::answers::{is_over, rules};
use lanner_tests::cluster::Cluster;
use lanner_tests::run;
use lanner_tests::samples::Sample;
use lanner_tests::serve::{curl, curl_json};
use serde_json::{Value, json};

use super::{Helm, chart, helm, values};
use crate::cluster::{AGENT, NODE, images};
use crate::service::packed;

mod desk;

const SCANS: &str = "lanner-scans";
const SECRETS: [&str; 3] = ["lanner-credentials", "lanner-door", "lanner-intake"];

struct Release<'a> {
    cluster: &'a Cluster,
    helm: Helm,
    values: String,
    http: u16,
    intake: u16,
}

#[test]
fn the_chart_serves_keeps_its_secrets_and_leaves_what_it_says() {
    let Some(mut helm) = helm("chart on a cluster") else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(&folder.path().join("cluster")).unwrap() else { return };
    images(&cluster, folder.path());
    helm.kubeconfig.clone_from(&cluster.kubeconfig);
    let release = Release::of(&cluster, helm, folder.path());
    release.helm_says("install", &["--create-namespace"]);
    let secrets = release.secrets();

    let id = release.a_sample_is_scanned(folder.path());
    release.an_alert_of_falco_comes_in();
    release.the_test_pod_is_content();
    release.a_service_account_is_let_in();
    release.an_object_is_told_what_became_of_it();
    release.the_host_may_do_what_it_needs_and_nothing_else();
    release.a_desk_scans_on_the_cluster(folder.path());
    release.a_desk_sees_what_the_cluster_lacks();

    let pods = || release.names("/api/v1/namespaces/lanner/pods");
    let before = pods();
    release.helm_says("upgrade", &[]);
    assert_eq!(pods(), before, "an upgrade without a change started the host anew");
    release.helm_says("upgrade", &["--set", "config.scan.timeout=500"]);
    assert_ne!(pods(), before, "a changed configuration was not taken up");
    release.an_upgrade_keeps_a_running_scan(folder.path());
    assert_eq!(release.secrets(), secrets, "an upgrade made other secrets");
    // The scan is still there: the volume came along.
    assert_eq!(release.ask(&format!("/v1/scans/{id}"), &[]).1["state"], "finished");

    release.uninstalled_leaves_what_the_notes_say();
    release.helm_says("install", &[]);
    assert_eq!(release.secrets(), secrets, "what was kept was not taken up again");
    assert_eq!(release.ask(&format!("/v1/scans/{id}"), &[]).1["state"], "finished");
    release.helm.must(&["uninstall", "lanner", "-n", "lanner", "--wait"]);
}

impl<'a> Release<'a> {
    /// There is no route from pods to the API server and no proxy for Services: the host is in the node's network.
    fn of(cluster: &'a Cluster, helm: Helm, folder: &Path) -> Self {
        let gateway = cluster.gateway();
        let taken: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("0.0.0.0:0").unwrap()).collect();
        let port = |at: usize| taken[at].local_addr().unwrap().port();
        let (host, api) = cluster.api().strip_prefix("https://").unwrap().split_once(':').map(own).unwrap();
        let volume = folder.join("volume");
        std::fs::create_dir(&volume).unwrap();
        // A volume of the node is not given to the pod's group.
        run(Command::new("chmod").arg("777").arg(&volume)).unwrap();
        let body = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "data" }, "spec": {
            "capacity": { "storage": "10Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": volume },
            "claimRef": { "namespace": "lanner", "name": "lanner" }, "storageClassName": "" } });
        let (status, answer) = cluster.request("POST", "/api/v1/persistentvolumes", Some(&body)).unwrap();
        assert_eq!(status, 201, "{answer}");
        let (repository, tag) = AGENT.split_once(':').unwrap();
        let values = values(
            folder,
            "values.json",
            &json!({
                "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
                "hostNetwork": true,
                "networkPolicy": { "doorCIDRs": [format!("{gateway}/32")] },
                "door": { "url": format!("https://{gateway}:{}", port(3)), "ipAddresses": [gateway] },
                "ports": { "http": port(0), "admin": port(1), "intake": port(2), "door": port(3) },
                "scans": { "images": { "npm": NODE }, "cpuRequest": "100m" },
                "resources": { "requests": { "cpu": "100m" } },
                "persistence": { "storageClass": "-" },
                "intake": { "enabled": true },
                "auth": { "roles": [{ "account": "lanner/ci", "roles": ["submit", "read"] }] },
                "extraEnv": [{ "name": "KUBERNETES_SERVICE_HOST", "value": host },
                             { "name": "KUBERNETES_SERVICE_PORT", "value": api },
                         // The test's image has no authorities, and the host does not start without any.
                         { "name": "SSL_CERT_FILE", "value": "/etc/lanner/door/ca.crt" }],
                "test": { "url": format!("http://127.0.0.1:{}", port(0)) },
            }),
        );
        Self { cluster, helm, values, http: port(0), intake: port(2) }
    }

    /// And waits until the host is ready.
    fn helm_says(&self, verb: &str, more: &[&str]) {
        let begun = Instant::now();
        let chart = chart().display().to_string();
        let fixed =
            [verb, "lanner", &chart, "-n", "lanner", "-f", &self.values, "--wait", "--timeout", "90s"];
        if let Err(why) = self.helm.try_run(&[&fixed, more].concat()) {
            panic!("helm {verb}: {why}\n{}", self.what_the_pods_say());
        }
        println!("helm {verb}: ready after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn what_the_pods_say(&self) -> String {
        let mut said = String::new();
        for pod in self.items("/api/v1/namespaces/lanner/pods") {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let log = self.cluster.get(&format!("/api/v1/namespaces/lanner/pods/{name}/log")).unwrap().1;
            said += &format!("{name}: {}\n{log:#}\n", pod["status"]);
        }
        for event in self.items("/api/v1/namespaces/lanner/events") {
            said += &format!("{}\n", event["message"]);
        }
        said
    }

    fn items(&self, path: &str) -> Vec<Value> {
        self.cluster.get(path).unwrap().1["items"].as_array().unwrap().clone()
    }

    fn names(&self, path: &str) -> BTreeSet<String> {
        self.items(path).iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn secrets(&self) -> Vec<Value> {
        let secret = |name| self.cluster.get(&format!("/api/v1/namespaces/lanner/secrets/{name}")).unwrap();
        SECRETS
            .iter()
            .map(|name| {
                let (status, secret) = secret(name);
                assert_eq!(status, 200, "{secret}");
                secret["data"].clone()
            })
            .collect()
    }

    fn secret(&self, name: &str, key: &str) -> String {
        let (_, secret) = self.cluster.get(&format!("/api/v1/namespaces/lanner/secrets/{name}")).unwrap();
        let text = secret["data"][key].as_str().unwrap();
        let decoded = run(Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d", text])).unwrap();
        String::from_utf8(decoded.stdout).unwrap()
    }

    fn ask(&self, path: &str, args: &[&str]) -> (u16, Value) {
        let token = format!("authorization: Bearer {}", self.secret("lanner-credentials", "submit"));
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        curl_json(&[&["-H", &token, &url], args].concat()).unwrap()
    }

    fn submitted(&self, archive: &Path) -> String {
        let archive = format!("@{}", archive.display());
        let body = ["-X", "POST", "--data-binary", &archive, "-H", "content-type: application/gzip"];
        let (status, answer) = self.ask("/v1/scans", &body);
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// The scan as it ended.
    fn over(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let (_, scan) = self.ask(&format!("/v1/scans/{id}"), &[]);
            if is_over(&scan) {
                return scan;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "{scan}\n{}", self.what_the_pods_say());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn a_sample_is_scanned(&self, folder: &Path) -> String {
        let id = self.submitted(&packed("npmrc-token", folder));
        let scan = self.over(&id);
        assert_eq!(scan["state"], "finished", "{scan}");
        let (_, alerts) = self.ask(&format!("/v1/scans/{id}/alerts"), &[]);
        let rules = rules(&alerts);
        for must in &Sample::named("npmrc-token").unwrap().expect.must {
            assert!(rules.contains(must.rule.as_str()), "{} is missing: {rules:?}", must.rule);
        }
        println!("a scan: {} with {rules:?}", scan["state"]);
        id
    }

    /// By the certificate that the chart made, under the Service's name.
    fn an_alert_of_falco_comes_in(&self) {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.crt");
        std::fs::write(&authority, self.secret("lanner-door", "ca.crt")).unwrap();
        let host = format!("lanner-intake.lanner.svc:{}", self.intake);
        let to = format!("{host}:127.0.0.1");
        let url = format!("https://{host}/intake/falco/{}?sensor=n1", self.secret("lanner-intake", "secret"));
        let alert = json!({ "rule": "r", "priority": "Notice", "output": "o", "time": "2026-11-25T00:00:00Z",
                            "output_fields": {} });
        let authority = authority.display().to_string();
        let (status, answer) =
            curl(&["--cacert", &authority, "--resolve", &to, "--data-binary", &alert.to_string(), &url])
                .unwrap();
        assert!(status < 300, "{status} {answer}");
    }

    /// By the ClusterRole: without it the answer would be 503.
    fn a_service_account_is_let_in(&self) {
        let core = "/api/v1/namespaces/lanner/serviceaccounts";
        for (name, status) in [("ci", 200), ("other", 403)] {
            let body = json!({ "metadata": { "name": name } });
            assert_eq!(self.cluster.request("POST", core, Some(&body)).unwrap().0, 201);
            let asked = json!({ "spec": { "audiences": ["lanner"] } });
            let header = format!("authorization: Bearer {}", self.token_of(name, &asked));
            let url = format!("http://127.0.0.1:{}/v1/scans", self.http);
            let (is, answer) = curl_json(&["-H", &header, &url]).unwrap();
            assert_eq!(is, status, "{name}: {answer}");
            assert_eq!(self.cluster.request("DELETE", &format!("{core}/{name}"), None).unwrap().0, 200);
        }
    }

    /// By the Role: no registry is there, and that is what it is told.
    fn an_object_is_told_what_became_of_it(&self) {
        let path = "/apis/lanner.dev/v1alpha1/namespaces/lanner/alertfilters";
        let module = format!("oci://127.0.0.1:1/a@sha256:{}", "0".repeat(64));
        let body = json!({ "apiVersion": "lanner.dev/v1alpha1", "kind": "AlertFilter",
                           "metadata": { "name": "away" }, "spec": { "module": module } });
        assert_eq!(self.cluster.request("POST", path, Some(&body)).unwrap().0, 201);
        let begun = Instant::now();
        let told = |object: &Value| object["status"].to_string().contains("it cannot be had: ");
        while !told(&self.cluster.get(&format!("{path}/away")).unwrap().1) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.what_the_pods_say());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(self.cluster.request("DELETE", &format!("{path}/away"), None).unwrap().0, 200);
    }

    fn the_test_pod_is_content(&self) {
        if let Err(why) = self.helm.try_run(&["test", "lanner", "-n", "lanner", "--timeout", "60s"]) {
            panic!("helm test: {why}\n{}", self.what_the_pods_say());
        }
    }

    fn token_of(&self, account: &str, asked: &Value) -> String {
        let path = format!("/api/v1/namespaces/lanner/serviceaccounts/{account}/token");
        let (status, answer) = self.cluster.request("POST", &path, Some(asked)).unwrap();
        assert_eq!(status, 201, "{answer}");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// It asks about itself, with a token like the one in its pod.
    fn the_host_may_do_what_it_needs_and_nothing_else(&self) {
        let token = self.token_of("lanner", &json!({ "spec": {} }));
        let may = |verb: &str, group: &str, resource: &str, namespace: &str| {
            let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
            let body = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
                "resourceAttributes": { "verb": verb, "group": group, "resource": resource, "subresource": sub,
                                        "namespace": namespace } } });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let (status, answer) = self.cluster.request_as(&token, "POST", path, Some(&body)).unwrap();
            assert_eq!(status, 201, "{answer}");
            answer["status"]["allowed"] == true
        };
        let needed = |verb: &str, group: &str, resource: &str, namespace: &str| match (group, resource) {
            ("batch", "jobs") => {
                namespace == SCANS
                    && ["create", "delete", "deletecollection", "list", "watch"].contains(&verb)
            }
            ("", "pods") => namespace == SCANS && ["list", "watch"].contains(&verb),
            ("lanner.dev", "alertfilters") => namespace == "lanner" && ["list", "watch"].contains(&verb),
            ("lanner.dev", "alertfilters/status") => namespace == "lanner" && verb == "patch",
            // It is of no namespace, so it is asked for in each.
            ("authentication.k8s.io", "tokenreviews") => verb == "create",
            _ => false,
        };
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
        let resources = [
            ("batch", "jobs"),
            ("batch", "jobs/status"),
            ("batch", "cronjobs"),
            ("", "pods"),
            ("", "pods/exec"),
            ("", "pods/log"),
            ("", "pods/attach"),
            ("", "pods/portforward"),
            ("", "pods/ephemeralcontainers"),
            ("", "secrets"),
            ("", "configmaps"),
            ("", "serviceaccounts"),
            ("", "serviceaccounts/token"),
            ("", "services"),
            ("", "nodes"),
            ("", "nodes/proxy"),
            ("", "namespaces"),
            ("", "persistentvolumes"),
            ("", "events"),
            ("apps", "deployments"),
            ("apps", "daemonsets"),
            ("networking.k8s.io", "networkpolicies"),
            ("rbac.authorization.k8s.io", "roles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
            ("lanner.dev", "alertfilters"),
            ("lanner.dev", "alertfilters/status"),
            ("authentication.k8s.io", "tokenreviews"),
            ("authorization.k8s.io", "subjectaccessreviews"),
        ];
        let mut asked = 0;
        for (group, resource) in resources {
            for namespace in [SCANS, "lanner", "default", "kube-system"] {
                for verb in verbs {
                    let (allowed, right) =
                        (may(verb, group, resource, namespace), needed(verb, group, resource, namespace));
                    assert_eq!(allowed, right, "{verb} {group}/{resource} in {namespace}");
                    asked += 1;
                }
            }
        }
        println!("{asked} questions about what the host may do");
    }

    fn uninstalled_leaves_what_the_notes_say(&self) {
        self.helm.must(&["uninstall", "lanner", "-n", "lanner", "--wait", "--timeout", "120s"]);
        let begun = Instant::now();
        let namespace = format!("/api/v1/namespaces/{SCANS}");
        while self.cluster.get(&namespace).unwrap().0 != 404 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{SCANS} is still there");
            std::thread::sleep(Duration::from_millis(200));
        }
        let core = "/api/v1/namespaces/lanner";
        let rows: [(String, &[&str]); 12] = [
            (format!("{core}/secrets"), &SECRETS),
            (format!("{core}/persistentvolumeclaims"), &["lanner"]),
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions".into(), &["alertfilters.lanner.dev"]),
            (format!("{core}/configmaps"), &["kube-root-ca.crt"]),
            (format!("{core}/serviceaccounts"), &["default"]),
            (format!("{core}/services"), &[]),
            ("/apis/apps/v1/namespaces/lanner/deployments".into(), &[]),
            ("/apis/networking.k8s.io/v1/networkpolicies".into(), &[]),
            ("/apis/rbac.authorization.k8s.io/v1/namespaces/lanner/roles".into(), &[]),
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=app.kubernetes.io/part-of=lanner".into(), &[]),
            ("/apis/batch/v1/jobs".into(), &[]),
            // The pod of `helm test` is no part of a release: it goes with the next test.
            (format!("{core}/pods"), &[]),
        ];
        for (path, left) in rows {
            let left: BTreeSet<String> = left.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(self.names(&path), left, "{path}");
        }
    }
}

fn own((host, port): (&str, &str)) -> (String, String) {
    (host.to_owned(), port.to_owned())
}
