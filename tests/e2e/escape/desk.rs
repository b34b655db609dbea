//! What `lanner doctor --on kubernetes --probe` makes of a cluster that enforces policies.

use std::process::Command;

use lanner_tests::lanner;

use super::{SCANS, Stage};

impl Stage<'_> {
    /// Without a policy it says so, and with one it has tried.
    pub(super) fn the_doctor_says_of_policies(&self, line: &str) {
        let kubeconfig = self.helm.kubeconfig.display().to_string();
        let mut doctor = Command::new(lanner().unwrap());
        let args = ["doctor", "--on", "kubernetes", "--scans-namespace", SCANS, "--probe"];
        doctor.args(args).env("KUBECONFIG", kubeconfig);
        let output = self.cluster.within(|| doctor.output()).unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find(|l| l.starts_with("network-policy: ")).unwrap_or_default();
        println!("the doctor: {said}");
        assert!(said.starts_with(line), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
