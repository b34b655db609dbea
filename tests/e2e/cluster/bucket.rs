//! Projects by way of a bucket, at a real server of S3: the host puts a project there, its pod reads it, then it is gone.

use std::fs::File;
use std::process::{Child, Stdio};

use lanner_tests::serve::curl;
use lanner_tests::{root, skipped};

use super::*;

/// A server of S3 with the bucket `projects`, and what it was asked.
struct S3 {
    child: Child,
    url: String,
    log: PathBuf,
}

impl S3 {
    fn start(cluster: &Cluster, folder: &Path) -> Option<Self> {
        let tools = root().join("target/tools/moto/bin");
        if !tools.join("moto_server").exists() {
            skipped("a project comes from a bucket", "moto_server is missing: run xtask/setup.sh tests");
            return None;
        }
        let ((port, _), log) = (door(cluster), folder.join("s3.log"));
        // That script names the folder that it was installed in, which may have moved since.
        let child = Command::new(tools.join("python"))
            .args(["-m", "moto.server", "-H", cluster.gateway(), "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let s3 = Self { child, url: format!("http://{}:{port}", cluster.gateway()), log };
        let begun = Instant::now();
        while curl(&["-X", "PUT", &format!("{}/projects", s3.url)]).map_or(0, |(status, _)| status) != 200 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", s3.asked());
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(s3)
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn is_empty(&self) -> bool {
        let (status, list) = curl(&[&format!("{}/projects?list-type=2", self.url)]).unwrap();
        assert_eq!(status, 200, "{list}");
        !list.contains("<Key>")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage<'_> {
    pub(super) fn a_project_comes_from_a_bucket(&self) {
        let Some(s3) = S3::start(self.cluster, self.folder) else { return };
        let (access, secret) = (self.folder.join("access-key"), self.folder.join("secret-key"));
        std::fs::write(&access, "accesskeyofours\n").unwrap();
        std::fs::write(&secret, "secretkeyofours\n").unwrap();
        let above = format!(
            "bucket = {{ url = \"s3://projects/ci\", endpoint = {:?}, allow_http = true, region = \"us-east-1\", \
             access_key_file = {access:?}, secret_key_file = {secret:?} }}\n",
            s3.url
        );
        let serve = served(self.cluster, self.folder, (self.port, self.port), NODE, (&above, ""));
        let id = submitted(&serve, &packed("npmrc-token", self.folder));
        let (scan, alerts) = over(&serve, &id);
        println!("from a bucket: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "finished", "{scan} {}", s3.asked());
        assert!(!alerts["alerts"].as_array().unwrap().is_empty(), "{alerts}");
        let (put, got) =
            (format!("\"PUT /projects/ci/{id}.tgz"), format!("\"GET /projects/ci/{id}.tgz?X-Amz-"));
        let asked = s3.asked();
        let line = |what: &str| asked.lines().find(|line| line.contains(what)).expect(&asked);
        println!("{}\n{}", line(&put), line(&got).split("X-Amz-").next().unwrap());
        let is_from_host = |line: &str| line.starts_with(&format!("{} ", self.cluster.gateway()));
        assert!(
            is_from_host(line(&put)) && !is_from_host(line(&got)) && line(&got).ends_with(" 200 -"),
            "{asked}"
        );
        nothing_is_left(self.cluster);
        let begun = Instant::now();
        while !s3.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the project is left in the bucket: {asked}");
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(s3);
        let (scan, _) = over(&serve, &submitted(&serve, &packed("npmrc-token", self.folder)));
        println!("the bucket is away: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "incomplete", "{scan}");
        let why = scan["reason"].as_str().unwrap();
        assert!(why.contains("the bucket s3://projects/ci did not take the project: "), "{why}");
        assert_eq!(serve.stop().unwrap(), Some(0));
        let log = std::fs::read_to_string(self.folder.join("data.log")).unwrap();
        for secret in ["X-Amz-Signature", "secretkeyofours", "accesskeyofours"] {
            assert!(!log.contains(secret) && !scan.to_string().contains(secret), "{secret}");
        }
        nothing_is_left(self.cluster);
    }
}
