//! kube-score's findings about what the chart renders together with a scan's Job: those that are known, each with its reason,
//! and no other. A reason whose finding is gone is told too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use lanner_tests::{root, run, skipped};
use serde_json::Value;

use super::{LEAST, everything, helm};

/// Kind, check, container.
type Finding = (String, String, String);

const CPU: &str = "container-resources";
const PULL: &str = "container-image-pull-policy";
const DISK: &str = "container-ephemeral-storage-request-and-limit";
const KNOWN: [(&str, &str, &str, &str); 13] = [
    ("Job", CPU, "package", "scans.cpuLimit gives one; slowed down, a scan is incomplete"),
    ("Job", PULL, "agent", "image.pullPolicy, and image.digest names one that cannot change"),
    ("Job", PULL, "package", "the same, by scans.images"),
    ("Job", DISK, "agent", "its root is read-only, and the volume that it writes to has a limit"),
    ("Deployment", CPU, "lanner", "resources gives one; slowed down, it answers late"),
    ("Deployment", PULL, "lanner", "image.pullPolicy"),
    ("Deployment", DISK, "lanner", "its root is read-only, and its volumes have limits"),
    ("Deployment", "pod-networkpolicy", "", "it needs registries and what allow_hosts names"),
    ("Deployment", "deployment-strategy", "", "the store is one host's: the old one must have let go of it"),
    ("Deployment", "deployment-replicas", "", "the same"),
    ("Pod", CPU, "api", "helm's test: one question, and it ends"),
    ("Pod", DISK, "api", "the same; its root is read-only"),
    ("Pod", PULL, "api", "the same as the host's"),
];
/// Of the test's pod, which nobody calls.
const ALSO_KNOWN: (&str, &str, &str) = ("Pod", "pod-networkpolicy", "");
/// `everything.yaml` asks for it.
const ASKED_FOR: (&str, &str, &str) = ("Service", "service-type", "");

fn program() -> Option<PathBuf> {
    let program = root().join("target/cluster/kube-score");
    if program.is_file() {
        return Some(program);
    }
    skipped("kube-score", "target/cluster/kube-score is not there: run tests/cluster/build.sh");
    None
}

fn findings(program: &Path, files: &[&Path]) -> BTreeSet<Finding> {
    let options = ["score", "-o", "json", "--enable-optional-test", "container-seccomp-profile"];
    let output = run(Command::new(program).args(options).args(files)).unwrap();
    let objects: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert!(!objects.is_empty(), "kube-score saw nothing");
    let mut found = BTreeSet::new();
    for object in &objects {
        let kind = object["type_meta"]["kind"].as_str().unwrap();
        for check in object["checks"].as_array().unwrap() {
            // Ten is without a word.
            if check["skipped"] == true || check["grade"].as_u64() >= Some(10) {
                continue;
            }
            let id = check["check"]["id"].as_str().unwrap();
            for comment in check["comments"].as_array().into_iter().flatten() {
                let path = comment["path"].as_str().unwrap_or_default();
                found.insert((kind.to_owned(), id.to_owned(), path.to_owned()));
            }
        }
    }
    found
}

fn known() -> BTreeSet<Finding> {
    let own = |(kind, check, of): (&str, &str, &str)| (kind.to_owned(), check.to_owned(), of.to_owned());
    KNOWN.into_iter().map(|(kind, check, of, _)| own((kind, check, of))).chain([own(ALSO_KNOWN)]).collect()
}

/// The reviewed manifest, without what the snapshot says about itself.
fn job_of_the_snapshot(folder: &Path) -> PathBuf {
    let snapshots = root().join("host/kubernetes/src/snapshots");
    let name = "lanner_kubernetes__job__tests__the_sandbox_is_as_it_was_reviewed.snap";
    let text = std::fs::read_to_string(snapshots.join(name)).unwrap();
    let job = text.splitn(3, "---\n").nth(2).unwrap();
    let path = folder.join("job.yaml");
    std::fs::write(&path, job).unwrap();
    path
}

#[test]
fn kube_score_finds_what_is_known_and_nothing_else() {
    let (Some(program), Some(helm)) = (program(), helm("kube-score")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let job = job_of_the_snapshot(folder.path());
    let all = everything().display().to_string();
    let chart = folder.path().join("chart.yaml");
    let scored = |args: &[&str]| {
        std::fs::write(&chart, helm.template(args).unwrap()).unwrap();
        findings(&program, &[&job, &chart])
    };
    assert_eq!(scored(&LEAST), known());
    let (kind, check, of) = ASKED_FOR;
    let mut allowed = known();
    allowed.insert((kind.to_owned(), check.to_owned(), of.to_owned()));
    let more: Vec<_> = scored(&["-f", &all]).difference(&allowed).cloned().collect();
    assert!(more.is_empty(), "{more:?}");
    // And that what is wrong would be seen here.
    let bad = std::fs::read_to_string(&job).unwrap().replace("privileged: false", "privileged: true");
    std::fs::write(&job, bad).unwrap();
    let wrong = ("Job".to_owned(), "container-security-context-privileged".to_owned(), "package".to_owned());
    assert!(scored(&LEAST).contains(&wrong));
}

/// Of a Job as a cluster has it.
pub(crate) fn only_known_findings(job: &Value) {
    let (Some(program), Some(helm)) = (program(), helm("kube-score")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let [chart, path] = ["chart.yaml", "job.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&chart, helm.template(&LEAST).unwrap()).unwrap();
    std::fs::write(&path, job.to_string()).unwrap();
    let found = findings(&program, &[&path, &chart]);
    let of_the_job: BTreeSet<_> = found.iter().filter(|(kind, ..)| kind == "Job").cloned().collect();
    assert!(!of_the_job.is_empty(), "the Job was not looked at: {found:?}");
    let known = known();
    let more: Vec<_> = found.difference(&known).collect();
    assert!(more.is_empty(), "{more:?}");
}
