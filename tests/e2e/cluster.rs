//! Scans as Jobs on a real cluster: real API server, scheduler, kubelet and containerd, in a namespace that enforces Pod
//! Security `restricted`. The host runs beside it; pods reach it on their bridge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lanner_tests::answers::{is_over, rules};
use lanner_tests::certificates::{authority, signed};
use lanner_tests::cluster::{Cluster, Program, image};
use lanner_tests::samples::{Sample, scripted};
use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{Random, lanner, run};
use serde_json::{Value, json};

use crate::service::{packed, submit};

mod breaks;
mod bucket;
mod volume;
mod waits;

const NAMESPACE: &str = "lanner-scans";
pub(crate) const AGENT: &str = "lanner.test/lanner:1";
pub(crate) const NODE: &str = "lanner.test/node:1";
/// What the image of a package manager has beside it; the samples use some of it.
const PROGRAMS: [&str; 25] = [
    "sh", "bash", "env", "cat", "ls", "cp", "mv", "rm", "mkdir", "chmod", "ln", "sleep", "id", "uname",
    "head", "tail", "touch", "tar", "gzip", "base64", "true", "git", "curl", "perl", "node",
];

/// Samples that isolation `container` shows otherwise, on one machine too, and those whose tools the image lacks.
const OTHERWISE: [(&str, &str); 12] = [
    ("dns-exfil", "no name server of ours is in a container, so the lookup is a datagram socket"),
    ("env-to-http", "the same"),
    ("dropper-detached", "the package's temporary folder in a container is not /tmp"),
    ("shebang-dropper", "the same"),
    ("symlink-dance", "the same"),
    ("terminal-escape", "the same"),
    ("reverse-shell-node", "nothing may listen in a container"),
    ("kills-its-watcher", "in a container it ends its own installation"),
    ("pipe-to-shell", "in a container the shell gets the proxy's refusal to run, and fails"),
    ("forged-arguments", "needs a C compiler"),
    ("native-addon", "needs a C compiler and Python"),
    ("memfd-exec", "needs Perl's modules"),
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

pub(crate) fn images(cluster: &Cluster, folder: &Path) {
    let (agent, node) = (folder.join("agent"), folder.join("node"));
    root_of(&[lanner().unwrap()], &agent);
    std::fs::create_dir_all(agent.join("usr/bin")).unwrap();
    let program = agent.join(lanner().unwrap().strip_prefix("/").unwrap());
    std::fs::rename(program, agent.join("usr/bin/lanner")).unwrap();
    let found: Vec<_> = PROGRAMS.iter().map(|name| Path::new("/usr/bin").join(name)).collect();
    root_of(&found, &node);
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

pub(crate) fn namespace(cluster: &Cluster) {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": labels } });
    let (status, answer) = cluster.request("POST", "/api/v1/namespaces", Some(&body)).unwrap();
    assert_eq!(status, 201, "{answer}");
}

/// A free port for the host's door, to which its pods come without a detour.
pub(crate) fn door(cluster: &Cluster) -> (u16, u16) {
    let free = std::net::TcpListener::bind((cluster.gateway(), 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    (port, port)
}

/// A host whose scans run on the cluster: its door is at the first port, and its pods come to the second. More of its
/// configuration comes in the table `kubernetes`, and from the end of `kubernetes.pods` on.
pub(crate) fn served(
    cluster: &Cluster,
    folder: &Path,
    (port, way): (u16, u16),
    image: &str,
    (above, more): (&str, &str),
) -> Serve {
    let gateway = cluster.gateway();
    // Once: pods know the authority that was there when they began.
    if !folder.join("ca.pem").exists() {
        authority(folder).unwrap();
    }
    signed(folder, "server", &format!("/CN={gateway}"), &format!("IP:{gateway}")).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let config = folder.join("lanner.toml");
    let text = format!(
        "[kubernetes]\nlisten = \"{gateway}:{port}\"\nurl = \"https://{gateway}:{way}\"\nstart_deadline = 120\n\
         {above}certificate_file = {:?}\nkey_file = {:?}\nauthority_file = {:?}\n\
         [kubernetes.pods]\nnamespace = \"{NAMESPACE}\"\nimage = \"{AGENT}\"\nimage_pull_policy = \"Never\"\n\
         cpu_request = \"100m\"\nimages = {{ npm = \"{image}\" }}\n{more}",
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
pub(crate) fn over(serve: &Serve, id: &str) -> (Value, Value) {
    let begun = Instant::now();
    loop {
        let (_, scan) = curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        if is_over(&scan) {
            let (_, alerts) =
                curl_json(&[&format!("{}/v1/scans/{id}/alerts?include=suppressed", serve.url)]).unwrap();
            return (scan, alerts);
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "{scan}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The phase runs: the package's own script is there soon, if it is not yet.
fn running_now(serve: &Serve, id: &str) -> bool {
    let (_, scan) = curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
    scan["phases"].as_array().is_some_and(|phases| !phases.is_empty())
}

fn running(serve: &Serve, id: &str) {
    let begun = Instant::now();
    while !running_now(serve, id) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not run");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn submitted(serve: &Serve, archive: &Path) -> String {
    let (status, answer) = submit(&format!("{}/v1/scans", serve.url), archive);
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// A project whose installation takes so many seconds.
fn slow(folder: &Path, seconds: u32) -> PathBuf {
    scripted(folder, &format!("slow-{seconds}"), &format!("sleep {seconds}")).unwrap()
}

fn items(cluster: &Cluster, path: &str) -> Vec<Value> {
    cluster.get(path).unwrap().1["items"].as_array().unwrap().clone()
}

fn jobs() -> String {
    format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs")
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// What was asked of Jobs in our namespace but for watches, by us and nobody else: the controllers write their status alone.
fn calls(cluster: &Cluster) -> u64 {
    let metrics = cluster.get("/metrics").unwrap().1;
    let is_ours = |line: &&str| {
        let of_jobs = line.starts_with("apiserver_request_total{") && line.contains("resource=\"jobs\"");
        of_jobs
            && line.contains("subresource=\"\"")
            && !line.contains("verb=\"WATCH\"")
            && !line.contains("verb=\"LIST\"")
    };
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, written as a float"
    )]
    let sum = metrics.as_str().unwrap().lines().filter(is_ours).map(count).sum::<f64>() as u64;
    sum
}

/// Scans in the storm; 100 were promised, fewer keep a quick run quick.
fn batch() -> usize {
    std::env::var("LANNER_BATCH").ok().and_then(|b| b.parse().ok()).unwrap_or(16)
}

/// Another each time, and given again to see the same.
fn seed() -> u64 {
    std::env::var("LANNER_STORM")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| std::process::id().into())
}

/// Each Job goes with its scan, and its pod with it.
fn nothing_is_left(cluster: &Cluster) {
    let begun = Instant::now();
    while !items(cluster, &jobs()).is_empty() || !items(cluster, &pods()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(150), "Jobs or pods are left");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn scans_run_as_jobs_of_a_real_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(&folder.path().join("cluster")).unwrap() else { return };
    images(&cluster, folder.path());
    namespace(&cluster);
    // The same in each life of the host: pods come back to it.
    let (port, _) = door(&cluster);
    let stage = Stage { cluster: &cluster, folder: folder.path(), port };
    let serve = stage.samples_are_seen_as_on_one_machine(stage.served("[scan]\nparallel = 4\n"));
    let serve = stage.a_pod_that_is_deleted_is_no_clean_scan(serve);
    let serve = stage.a_scan_that_is_cancelled_takes_its_job_along(serve);
    let serve = stage.the_control_plane_may_go_and_come_back(serve);
    let serve = stage.a_host_that_is_killed_goes_on_with_its_scans(serve);
    let serve = stage.a_host_that_is_stopped_goes_on_with_its_scans(serve);
    let serve = stage.a_pod_that_dies_while_the_host_is_away_is_no_clean_scan(serve);
    let serve = stage.a_batch_in_a_storm_is_answered_and_never_falsely_clean(serve);
    assert_eq!(serve.stop().unwrap(), Some(0));
    stage.a_connection_that_breaks_is_made_again();
    stage.a_project_comes_by_a_shared_volume();
    stage.a_project_comes_from_a_bucket();
    stage.an_image_that_is_not_there_is_named();
    stage.a_quota_is_waited_for();
    stage.a_suspended_job_is_waited_for();
    nothing_is_left(&cluster);
}

struct Stage<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
    /// Of the host's door.
    port: u16,
}

impl Stage<'_> {
    fn served(&self, more: &str) -> Serve {
        self.served_at(self.port, more)
    }

    /// Pods come to another port, from which something leads to the door.
    fn served_at(&self, way: u16, more: &str) -> Serve {
        served(self.cluster, self.folder, (self.port, way), NODE, ("", more))
    }

    fn samples_are_seen_as_on_one_machine(&self, serve: Serve) -> Serve {
        let before = calls(self.cluster);
        for (name, why) in OTHERWISE {
            println!("{name}: not on the cluster: {why}");
        }
        let all = Sample::all().unwrap().into_iter();
        let there: Vec<_> = all.filter(|s| OTHERWISE.iter().all(|(name, _)| s.name != *name)).collect();
        let ids: Vec<_> = there
            .iter()
            .map(|s| (s.name.as_str(), submitted(&serve, &packed(&s.name, self.folder))))
            .collect();
        let mut others = Vec::new();
        for (name, id) in &ids {
            let (scan, alerts) = over(&serve, id);
            println!("{name}: {} {}", scan["state"], scan["reason"]);
            let expect = Sample::named(name).unwrap().expect;
            let rules = rules(&alerts);
            let missing = expect.must.iter().map(|m| m.rule.as_str()).filter(|rule| !rules.contains(rule));
            let wrong = expect.must_not.iter().map(String::as_str).filter(|rule| rules.contains(rule));
            let mut found: Vec<String> = missing.map(|r| format!("{r} is missing")).collect();
            found.extend(wrong.map(|r| format!("{r} is wrong")));
            let wanted = expect.state.as_deref().unwrap_or("finished");
            if scan["state"] != wanted {
                found.push(format!("it is not {wanted}"));
            }
            if !found.is_empty() {
                others.push(format!("{name}: {found:?}: {rules:?} {scan}"));
            }
            assert_eq!(scan["isolation"], "container");
        }
        let log = || std::fs::read_to_string(self.folder.join("data.log")).unwrap_or_default();
        assert!(others.is_empty(), "{others:#?}\n{}", log());
        nothing_is_left(self.cluster);
        let (scans, calls) = (u64::try_from(ids.len()).unwrap(), calls(self.cluster) - before);
        println!("{calls} calls of the API for {scans} scans");
        assert!(calls <= 4 * scans, "{calls} calls for {scans} scans");
        serve
    }

    fn a_pod_that_is_deleted_is_no_clean_scan(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &slow(self.folder, 60));
        running(&serve, &id);
        let pod = items(self.cluster, &pods())[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("{}/{pod}?gracePeriodSeconds=0", pods());
        assert_eq!(self.cluster.request("DELETE", &path, None).unwrap().0, 200);
        let (scan, _) = over(&serve, &id);
        println!("pod deleted: {} {}", scan["state"], scan["evidence"]["gaps"]);
        assert_eq!(scan["state"], "incomplete", "{scan}");
        let gaps = scan["evidence"]["gaps"].to_string();
        assert!(gaps.contains("agent-lost") && gaps.contains("the pod was deleted while it ran"), "{gaps}");
        nothing_is_left(self.cluster);
        serve
    }

    fn a_scan_that_is_cancelled_takes_its_job_along(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &slow(self.folder, 61));
        running(&serve, &id);
        let (status, _) = curl_json(&["-X", "DELETE", &format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        assert_eq!(status, 200);
        nothing_is_left(self.cluster);
        serve
    }

    /// What runs, runs on: neither the API server nor the kubelet is part of the evidence.
    fn the_control_plane_may_go_and_come_back(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &slow(self.folder, 8));
        running(&serve, &id);
        self.cluster.restart(Program::Api).unwrap();
        self.cluster.restart(Program::Kubelet).unwrap();
        let (scan, _) = over(&serve, &id);
        println!("control plane restarted: {} {}", scan["state"], scan["reason"]);
        assert_eq!(
            (&scan["state"], &scan["evidence"]["complete"]),
            (&"finished".into(), &true.into()),
            "{scan}"
        );
        nothing_is_left(self.cluster);
        serve
    }

    /// Programs and pods are killed at random moments while a batch runs: each scan has its answer, and each that is finished
    /// has seen what there was to see.
    fn a_batch_in_a_storm_is_answered_and_never_falsely_clean(&self, serve: Serve) -> Serve {
        assert_eq!(serve.stop().unwrap(), Some(0));
        let mut serve = self.served("[scan]\nparallel = 4\n");
        let names = ["npmrc-token", "ssh-keys", "own-npmrc", "outlives-npm"];
        let archives = names.map(|name| packed(name, self.folder));
        let ids: Vec<(usize, String)> =
            (0..batch()).map(|n| (n % names.len(), submitted(&serve, &archives[n % names.len()]))).collect();
        let mut random = Random(seed());
        println!("a batch of {} in a storm, LANNER_STORM={}", ids.len(), random.0);
        let mut hits: BTreeMap<&str, u32> = BTreeMap::new();
        let begun = Instant::now();
        let waits = |serve: &Serve| {
            let (_, page) = curl_json(&[&format!("{}/v1/scans?limit=200", serve.url)]).unwrap();
            !page["scans"].as_array().unwrap().iter().all(is_over)
        };
        while waits(&serve) {
            assert!(begun.elapsed() < Duration::from_secs(900), "it does not come to its end");
            std::thread::sleep(Duration::from_millis(1000 + random.number() % 3000));
            let hit = ["a pod", "the API server", "the kubelet", "containerd", "the host", "nothing"]
                [usize::try_from(random.number() % 6).unwrap()];
            *hits.entry(hit).or_default() += 1;
            match hit {
                "a pod" => {
                    if let Some(pod) = items(self.cluster, &pods()).first() {
                        let name = pod["metadata"]["name"].as_str().unwrap();
                        let path = format!("{}/{name}?gracePeriodSeconds=0", pods());
                        self.cluster.request("DELETE", &path, None).unwrap();
                    }
                }
                "the API server" => self.cluster.restart(Program::Api).unwrap(),
                "the kubelet" => self.cluster.restart(Program::Kubelet).unwrap(),
                "containerd" => self.cluster.restart(Program::Containerd).unwrap(),
                "the host" => {
                    serve.kill().unwrap();
                    serve = self.served("[scan]\nparallel = 4\n");
                }
                _ => {}
            }
        }
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for (which, id) in &ids {
            let (scan, alerts) = over(&serve, id);
            let state = scan["state"].as_str().unwrap().to_owned();
            let seen = |rule: &str| alerts["alerts"].as_array().unwrap().iter().any(|a| a["rule"] == rule);
            for must in Sample::named(names[*which]).unwrap().expect.must {
                assert!(state == "incomplete" || seen(&must.rule), "{}: {} {scan}", names[*which], must.rule);
            }
            *ends.entry(state).or_default() += 1;
        }
        println!("in {} s: {ends:?} after {hits:?}", begun.elapsed().as_secs());
        assert!(ends.contains_key("finished"), "{ends:?}");
        nothing_is_left(self.cluster);
        serve
    }

    fn an_image_that_is_not_there_is_named(&self) {
        let serve = served(self.cluster, self.folder, (self.port, self.port), "lanner.test/none:1", ("", ""));
        let (scan, _) = over(&serve, &submitted(&serve, &slow(self.folder, 1)));
        println!("no image: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "incomplete", "{scan}");
        let why = "container package: its image is not on the node, and may not be pulled";
        assert!(scan["reason"].as_str().unwrap().contains(why), "{scan}");
        assert_eq!(serve.stop().unwrap(), Some(0));
    }
}
