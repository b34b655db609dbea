//! The host in the cluster from a desk: `lanner scan --on kubernetes` and `lanner doctor --on kubernetes`, by nothing but a
//! kubeconfig; and an upgrade in the middle of a scan.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lanner_tests::answers::{files, rules};
use lanner_tests::lanner;
use lanner_tests::samples::{Sample, scripted};
use serde_json::{Value, json};

use super::{Release, SCANS, packed};

/// Something to see before and after the upgrade.
const STEALS: &str = "cat $HOME/.ssh/id_rsa; sleep 20; cat $HOME/.npmrc; sleep 1";

impl Release<'_> {
    fn lanner(&self, args: &[&str]) -> Output {
        let kubeconfig = self.helm.kubeconfig.display().to_string();
        Command::new(lanner().unwrap()).args(args).env("KUBECONFIG", kubeconfig).output().unwrap()
    }

    pub(super) fn a_desk_scans_on_the_cluster(&self, folder: &Path) {
        let sample = Sample::named("ssh-keys").unwrap();
        let project = packed(&sample.name, folder).display().to_string();
        let output = self.lanner(&["scan", &project, "--on", "kubernetes", "--format", "json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&answer["verdict"], &answer["scan"]["state"]), (&json!("alerts"), &json!("finished")));
        let rules = rules(&answer);
        for must in &sample.expect.must {
            assert!(rules.contains(must.rule.as_str()), "{} is missing: {rules:?}", must.rule);
        }
        let project = packed("funding-message", folder).display().to_string();
        let output = self.lanner(&["scan", &project, "--on", "kubernetes"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("lanner scan --on kubernetes:\n{text}");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("CLEAN: ") && text.contains("isolation: container"), "{text}");
        // What cannot be reached is no answer, with its reason.
        let output = self.lanner(&["scan", &project, "--on", "kubernetes", "--namespace", "default"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("0 releases have credentials in default"), "{said}");
        let output = self.lanner(&["scan", &project, "--on", "kubernetes", "--isolation", "container"]);
        assert_eq!(output.status.code(), Some(2));
    }

    pub(super) fn a_desk_sees_what_the_cluster_lacks(&self) {
        let output = self.lanner(&["doctor", "--on", "kubernetes", "--scans-namespace", SCANS]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("lanner doctor --on kubernetes:\n{text}");
        for line in [
            "cluster: ok, Kubernetes v1.".to_owned(),
            format!("pod-security: ok, {SCANS} enforces restricted"),
            "host: ok, the pod lanner-".to_owned(),
            format!("permissions: ok, system:serviceaccount:lanner:lanner may what it must in {SCANS}"),
            format!("network-policy: weak, {SCANS} has policies"),
            "falco: ok, ".to_owned(),
        ] {
            assert!(text.lines().any(|l| l.starts_with(&line)), "{line} is missing");
        }
        // Something is weak, so a script must not take it for well.
        assert_eq!(output.status.code(), Some(3));
    }

    pub(super) fn an_upgrade_keeps_a_running_scan(&self, folder: &Path) {
        let id = self.submitted(&scripted(folder, "thief", STEALS).unwrap());
        let seen = || self.ask(&format!("/v1/scans/{id}/alerts"), &[]).1;
        let begun = Instant::now();
        while seen()["alerts"].as_array().is_none_or(Vec::is_empty) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.what_the_pods_say());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.helm_says("upgrade", &["--set", "config.scan.timeout=501"]);
        let scan = self.over(&id);
        let alerts = seen();
        let files = files(&alerts);
        println!("upgraded while a scan ran: {} {} after {files:?}", scan["state"], scan["reason"]);
        assert_eq!(
            (&scan["state"], &scan["evidence"]["complete"]),
            (&json!("finished"), &json!(true)),
            "{scan}"
        );
        assert!(files.contains(&"id_rsa") && files.contains(&".npmrc"), "{alerts}");
    }
}
