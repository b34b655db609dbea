//! The pods of the suite: those that are like a scan's but for their command, and those of others.

use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::run;
use serde_json::{Value, json};

use super::{ELSEWHERE, SCANS, Stage};
use crate::cluster::NODE;

pub(super) const SLEEP: &str = "setTimeout(() => {}, 1e9)";
pub(super) const LISTEN: &str = "require('net').createServer((s) => s.destroy()).listen(8080)";
const LISTEN_AS_NAME_SERVER: &str = "require('net').createServer((s) => s.destroy()).listen(53)";
pub(super) const NODE_PORT: u16 = 30_080;

/// What a real scan's Job says of its pods, with another command.
pub(super) fn like_a_scans(job: &Value, name: &str, script: &str) -> Value {
    let template = &job["spec"]["template"];
    let mut spec = template["spec"].clone();
    spec["containers"][0]["command"] = json!(["/usr/bin/node", "-e", script]);
    json!({ "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": { "name": name, "labels": template["metadata"]["labels"] } })
}

impl Stage<'_> {
    /// When it runs.
    pub(super) fn scan_pod(&self, job: &Value, name: &str, script: &str) -> Value {
        self.runs(SCANS, &like_a_scans(job, name, script))
    }

    /// Somebody's pod with a port of the node, and one that is labelled as the cluster's name server is.
    pub(super) fn others(&self) -> (Value, Value) {
        self.create("/api/v1/namespaces", &json!({ "metadata": { "name": ELSEWHERE } }));
        let pod = |name: &str, labels: Value, script: &str| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels }, "spec": {
                "automountServiceAccountToken": false, "containers": [{ "name": "main", "image": NODE,
                "imagePullPolicy": "Never", "command": ["/usr/bin/node", "-e", script] }] } })
        };
        let stranger = self.runs(ELSEWHERE, &pod("stranger", json!({ "app": "stranger" }), LISTEN));
        let service = json!({ "metadata": { "name": "stranger" }, "spec": { "type": "NodePort",
            "selector": { "app": "stranger" }, "ports": [{ "port": 8080, "nodePort": NODE_PORT }] } });
        self.create(&format!("/api/v1/namespaces/{ELSEWHERE}/services"), &service);
        let names = pod("names", json!({ "k8s-app": "kube-dns" }), LISTEN_AS_NAME_SERVER);
        (stranger, self.runs("kube-system", &names))
    }

    pub(super) fn runs(&self, namespace: &str, pod: &Value) -> Value {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        self.create(&pods, pod);
        let path = format!("{pods}/{}", pod["metadata"]["name"].as_str().unwrap());
        let begun = Instant::now();
        loop {
            let (_, pod) = self.cluster.get(&path).unwrap();
            let status = &pod["status"];
            if status["phase"] == "Running" && status["podIP"].is_string() {
                return pod;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

pub(super) fn address(pod: &Value) -> String {
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

pub(super) fn container(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap()
}

pub(super) fn decoded(text: &str) -> String {
    let output = run(Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d", text])).unwrap();
    String::from_utf8(output.stdout).unwrap()
}
