//! What else holds while the policies do: pods that come later, clients in pods, and pods that ask for more.

use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::run;
use lanner_tests::samples::Sample;
use serde_json::{Value, json};

use super::ways::{Way, World};
use super::{ELSEWHERE, ENFORCED, SCANS, Stage, pods, scans};
use crate::service::packed;

/// From its first moment on, until it is refused; says how long it was not.
const HURRY: &str = "const net = require('net'); const begun = Date.now(); let open = 0; let last = 0;\
    const again = () => {\
      const socket = net.connect({ host: '203.0.113.10', port: 80 });\
      socket.setTimeout(300, () => socket.destroy(new Error('no answer')));\
      socket.on('connect', () => { open += 1; last = Date.now() - begun; socket.destroy(); setTimeout(again, 5); });\
      socket.on('error', () => { console.log(JSON.stringify({ open, last })); });\
    };\
    again(); setTimeout(() => {}, 1e9);";

/// Of a pod's specification.
type Change = fn(&mut Value);

impl Stage<'_> {
    /// The rules for a pod's address come after the pod: how long after is the enforcer's affair, and printed.
    pub(super) fn one_born_under_the_policies_reaches_no_more(
        &self,
        job: &Value,
        ways: &[Way],
        world: &World,
    ) {
        let pod = self.scan_pod(job, "born", HURRY);
        let begun = Instant::now();
        let said = loop {
            let log = self.cluster.get(&format!("{}/born/log", scans("pods"))).unwrap().1;
            if log["open"].is_number() {
                break log;
            }
            assert!(begun.elapsed() < ENFORCED, "it is never refused: {log}");
            std::thread::sleep(Duration::from_millis(100));
        };
        println!("a new pod got out {} times, the last {} ms after it began", said["open"], said["last"]);
        let found = self.tried(&pod, ways, world);
        self.only_these_are_open(ways, &found);
    }

    pub(super) fn package_hunters_client_in_a_pod_is_served(&self, from: &Value) {
        let (token, service) = (self.token(), self.address("lanner"));
        let curl = format!("curl -sS --max-time 30 --user submit:{token}");
        let sh = |script: &str| -> Value {
            let said = self.cluster.exec(pods::container(from), &["/usr/bin/sh", "-c", script]).unwrap();
            serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
        };
        let archive = packed("npmrc-token", self.folder);
        let text = run(Command::new("base64").arg("-w0").arg(&archive)).unwrap().stdout;
        let text = String::from_utf8(text).unwrap();
        let posted = sh(&format!(
            "echo {text} | base64 -d | {curl} -X POST -H 'content-type: application/gzip' --data-binary @- \
             http://{service}:3000/monitor/project/npm"
        ));
        assert_eq!(posted["status"], "ok", "{posted}");
        let id = posted["id"].as_str().unwrap();
        let begun = Instant::now();
        let answer = loop {
            let answer = sh(&format!("{curl} 'http://{service}:3000/?id={id}'"));
            if answer["status"] != "pending" {
                break answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "{answer}\n{}", self.what_the_host_says());
            std::thread::sleep(Duration::from_millis(500));
        };
        assert_eq!(answer["status"], "finished", "{answer}\n{}", self.what_the_host_says());
        let rules: Vec<_> = answer["result"].as_array().unwrap().iter().map(|a| a["rule"].clone()).collect();
        for must in Sample::named("npmrc-token").unwrap().expect.must {
            assert!(rules.contains(&json!(must.rule)), "{} is missing: {rules:?}", must.rule);
        }
        println!("Package Hunter's client, from a pod by the Service: {} with {rules:?}", answer["status"]);
    }

    /// By Pod Security of the scans' namespace and of no other.
    pub(super) fn a_pod_that_wants_more_is_refused(&self, job: &Value) {
        let rows: [(&str, &str, Change); 5] = [
            ("a folder of the node", "restricted volume type \"hostPath\"", |spec| {
                let volumes = spec["volumes"].as_array_mut().unwrap();
                volumes.push(json!({ "name": "host", "hostPath": { "path": "/" } }));
            }),
            ("the node's network", "host namespaces (hostNetwork=true)", |spec| {
                spec["hostNetwork"] = json!(true);
            }),
            ("the node's processes", "host namespaces (hostPID=true)", |spec| spec["hostPID"] = json!(true)),
            ("privileged", "must not set securityContext.privileged=true", |spec| {
                let security = &mut spec["containers"][0]["securityContext"];
                security["privileged"] = json!(true);
                security["allowPrivilegeEscalation"] = json!(true);
            }),
            ("root", "runAsUser=0", |spec| {
                spec["securityContext"]["runAsUser"] = json!(0);
                spec["securityContext"]["runAsNonRoot"] = json!(false);
            }),
        ];
        let posted = |namespace: &str, pod: &Value| {
            let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
            self.cluster.request("POST", &path, Some(pod)).unwrap()
        };
        let plain = pods::like_a_scans(job, "more", pods::SLEEP);
        let (status, answer) = posted(SCANS, &plain);
        assert_eq!(status, 201, "a pod as a scan's: {answer}");
        for (name, why, change) in rows {
            let mut pod = plain.clone();
            change(&mut pod["spec"]);
            let (status, answer) = posted(SCANS, &pod);
            let message = answer["message"].as_str().unwrap_or_default();
            assert!(status == 403 && message.contains(why), "{name}: {status} {answer}");
            let (elsewhere, answer) = posted(ELSEWHERE, &pod);
            assert_eq!(elsewhere, 201, "{name}: {answer}");
            println!("a pod with {name}: {status} in {SCANS}, {elsewhere} in {ELSEWHERE}");
        }
    }
}
