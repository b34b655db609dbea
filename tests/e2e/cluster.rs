//! Scans as Jobs on a real cluster: real API server, scheduler, kubelet and containerd, in a namespace that enforces Pod
//! Security `restricted`. The host runs beside it; pods reach it on their bridge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::cluster::{Cluster, image};
use lanner_tests::registry::certificates;
use lanner_tests::samples::Sample;
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{lanner, run};
use serde_json::{Value, json};

use crate::service::{packed, submit};

const NAMESPACE: &str = "lanner-scans";
const AGENT: &str = "lanner.test/lanner:1";
const NODE: &str = "lanner.test/node:1";
/// What the image of a package manager has beside it; the samples use some of it.
const PROGRAMS: [&str; 24] = [
    "sh", "bash", "env", "cat", "ls", "cp", "mv", "rm", "mkdir", "chmod", "ln", "sleep", "id", "uname",
    "head", "tail", "touch", "tar", "gzip", "base64", "true", "git", "curl", "node",
];

/// A folder with these programs and the libraries that they need, at the paths that they have here.
fn root_of(programs: &[PathBuf], folder: &Path) {
    for program in programs {
        put(program, folder);
        let listed = run(Command::new("ldd").arg(program)).unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            put(Path::new(library), folder);
        }
    }
}

fn put(file: &Path, folder: &Path) {
    let to = folder.join(file.strip_prefix("/").unwrap());
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(file, to).unwrap();
}

fn images(cluster: &Cluster, folder: &Path) {
    let (agent, node) = (folder.join("agent"), folder.join("node"));
    root_of(&[lanner().unwrap()], &agent);
    std::fs::create_dir_all(agent.join("usr/bin")).unwrap();
    let program = agent.join(lanner().unwrap().strip_prefix("/").unwrap());
    std::fs::rename(program, agent.join("usr/bin/lanner")).unwrap();
    let found = PROGRAMS.iter().map(|name| {
        let which = run(Command::new("sh").args(["-c", &format!("command -v {name}")])).unwrap();
        PathBuf::from(String::from_utf8_lossy(&which.stdout).trim())
    });
    root_of(&found.filter(|p| p.is_absolute()).collect::<Vec<_>>(), &node);
    let npm = run(Command::new("sh").args(["-c", "readlink -f $(command -v npm)"])).unwrap();
    let npm = PathBuf::from(String::from_utf8_lossy(&npm.stdout).trim());
    let modules = npm.ancestors().find(|a| a.ends_with("npm")).unwrap();
    let to = node.join(modules.strip_prefix("/").unwrap());
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(Command::new("cp").arg("-rL").arg(modules).arg(&to)).unwrap();
    std::os::unix::fs::symlink(&npm, node.join("usr/bin/npm")).unwrap();
    std::os::unix::fs::symlink("usr/bin", node.join("bin")).unwrap();
    std::fs::create_dir_all(node.join("etc")).unwrap();
    std::fs::write(node.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnode:x:65532:65532::/work:/bin/sh\n")
        .unwrap();
    std::fs::create_dir_all(node.join("tmp")).unwrap();
    let inside = |from: &Path| vec![(from.to_owned(), "/".to_owned())];
    for (name, from, entry) in [(AGENT, &agent, "/usr/bin/lanner"), (NODE, &node, "/usr/bin/node")] {
        cluster.import(&image(folder, name, &inside(from), &[entry]).unwrap()).unwrap();
    }
}

fn namespace(cluster: &Cluster) {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": labels } });
    let (status, answer) = cluster.request("POST", "/api/v1/namespaces", Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");
}

/// A host whose scans run on the cluster.
fn served(cluster: &Cluster, folder: &Path, more: &str) -> Serve {
    let gateway = cluster.gateway();
    certificates(folder, gateway).unwrap();
    let port = std::net::TcpListener::bind((gateway, 0)).unwrap().local_addr().unwrap().port();
    let at = |name: &str| folder.join(name).display().to_string();
    let config = folder.join("lanner.toml");
    let text = format!(
        "[kubernetes]\nlisten = \"{gateway}:{port}\"\nurl = \"https://{gateway}:{port}\"\nstart_deadline = 120\n\
         certificate_file = {:?}\nkey_file = {:?}\nauthority_file = {:?}\n\
         [kubernetes.pods]\nnamespace = \"{NAMESPACE}\"\nimage = \"{AGENT}\"\nimage_pull_policy = \"Never\"\n\
         cpu_request = \"100m\"\nimages = {{ npm = \"{NODE}\" }}\n{more}",
        at("server.pem"),
        at("server.key"),
        at("ca.pem"),
    );
    std::fs::write(&config, text).unwrap();
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let env = [("KUBECONFIG", kubeconfig.as_str())];
    Serve::start_in(&folder.join("data"), &["--config", config.to_str().unwrap()], &env).unwrap()
}

/// The scan as it ended, and its alerts.
fn over(serve: &Serve, id: &str) -> (Value, Value) {
    let begun = Instant::now();
    loop {
        let (_, scan) = curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        if !matches!(scan["state"].as_str(), Some("queued" | "running")) {
            let (_, alerts) =
                curl_json(&[&format!("{}/v1/scans/{id}/alerts?include=suppressed", serve.url)]).unwrap();
            return (scan, alerts);
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "{scan}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn scans_run_as_jobs_of_a_real_cluster_and_see_what_they_see_on_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(&folder.path().join("cluster")).unwrap() else { return };
    images(&cluster, folder.path());
    namespace(&cluster);
    let serve = served(&cluster, folder.path(), "");
    let scans = format!("{}/v1/scans", serve.url);
    let names = ["funding-message", "npmrc-token", "ssh-keys", "esbuild-like", "steals-then-fails"];
    let mut submitted = Vec::new();
    for name in names {
        let (status, answer) = submit(&scans, &packed(name, folder.path()));
        assert_eq!(status, 202, "{answer}");
        submitted.push((name, answer["id"].as_str().unwrap().to_owned()));
    }
    for (name, id) in &submitted {
        let (scan, alerts) = over(&serve, id);
        println!("{name}: {} {}", scan["state"], scan["reason"]);
        let expect = Sample::named(name).unwrap().expect;
        let rules: BTreeSet<&str> =
            alerts["alerts"].as_array().unwrap().iter().filter_map(|a| a["rule"].as_str()).collect();
        for must in &expect.must {
            assert!(rules.contains(must.rule.as_str()), "{name}: {} is missing: {rules:?} {scan}", must.rule);
        }
        let state = expect.state.as_deref().unwrap_or("finished");
        assert_eq!(scan["state"], state, "{name}: {scan}");
        assert_eq!(scan["isolation"], "container");
    }
    // Each Job is gone with its scan.
    let path = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    let begun = Instant::now();
    while !cluster.get(&path).unwrap().1["items"].as_array().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "Jobs are left");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(serve.stop().unwrap(), Some(0));
}
