//! A control plane without nodes, and a host that may there what the chart's lets it, and no more.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lanner_tests::certificates::{authority, signed};
use lanner_tests::cluster::{Cluster, Program};
use lanner_tests::serve::Serve;
use serde_json::{Value, json};

use super::audit;

pub(super) const NAMESPACE: &str = "lanner-scans";
const HOST: &str = "lanner";

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    folder: PathBuf,
}

impl Stage {
    /// Nothing, and the reason is printed, where this machine cannot.
    pub(super) fn set(folder: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let (policy, log) = (folder.join("audit-policy.json"), folder.join("audit.log"));
        let user = format!("system:serviceaccount:{HOST}:{HOST}");
        std::fs::write(&policy, audit::policy(&user).to_string())?;
        // Out of the way of what is measured: by default the controllers ask 20 times a second.
        let controllers = ["--kube-api-qps=2000", "--kube-api-burst=2000", "--concurrent-job-syncs=20"];
        let controllers = controllers.map(|a| (Program::Controllers, a.to_owned()));
        let server = [("policy-file", &policy), ("log-path", &log)];
        let server = server.map(|(of, path)| (Program::Api, format!("--audit-{of}={}", path.display())));
        let more = controllers.into_iter().chain(server).collect();
        let Some(cluster) = Cluster::without_nodes(&folder.join("cluster"), more)? else { return Ok(None) };
        let stage = Self { cluster, folder: folder.to_owned() };
        stage.allow()?;
        Ok(Some(stage))
    }

    /// As `charts/lanner/templates/rbac.yaml`.
    fn allow(&self) -> Result<()> {
        let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        for (name, labels) in [(HOST, json!({})), (NAMESPACE, restricted)] {
            self.make("/api/v1/namespaces", &json!({ "metadata": { "name": name, "labels": labels } }))?;
        }
        let named = json!({ "name": HOST });
        self.make(&format!("/api/v1/namespaces/{HOST}/serviceaccounts"), &json!({ "metadata": named }))?;
        let verbs = ["create", "delete", "deletecollection", "list", "watch"];
        let rules = json!([{ "apiGroups": ["batch"], "resources": ["jobs"], "verbs": verbs },
                           { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }]);
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}");
        self.make(&format!("{rbac}/roles"), &json!({ "metadata": named, "rules": rules }))?;
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": HOST });
        let subject = json!({ "kind": "ServiceAccount", "name": HOST, "namespace": HOST });
        let binding = json!({ "metadata": named, "roleRef": role, "subjects": [subject] });
        self.make(&format!("{rbac}/rolebindings"), &binding)?;
        Ok(())
    }

    fn make(&self, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.cluster.request("POST", path, Some(body))?;
        ensure!(status == 201, "{path}: {status} {answer}");
        Ok(answer)
    }

    /// With room for as many scans as there will be, all at the same time.
    pub(super) fn serve(&self, jobs: usize) -> Result<Serve> {
        let folder = &self.folder;
        authority(folder)?;
        signed(folder, "server", "/CN=door", "IP:127.0.0.1")?;
        // Free a moment ago; nobody else is asking for ports here.
        let door = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| folder.join(name));
        let config = folder.join("lanner.toml");
        let text = format!(
            "[kubernetes]\nlisten = \"{door}\"\nurl = \"https://{door}\"\nstart_deadline = 3600\n\
             certificate_file = {certificate:?}\nkey_file = {key:?}\nauthority_file = {ca:?}\n\
             [kubernetes.pods]\nnamespace = \"{NAMESPACE}\"\nimage = \"lanner.test/lanner:1\"\n\
             images = {{ npm = \"lanner.test/node:1\" }}\n\
             [scan]\nqueue = {jobs}\nparallel = {jobs}\nkeep = {jobs}\n"
        );
        std::fs::write(&config, text)?;
        let kubeconfig = self.kubeconfig()?.display().to_string();
        let args = ["--config", &config.display().to_string()];
        Serve::start_in(&folder.join("data"), &args, &[("KUBECONFIG", kubeconfig.as_str())])
    }

    /// Of the host's service account.
    fn kubeconfig(&self) -> Result<PathBuf> {
        let path = format!("/api/v1/namespaces/{HOST}/serviceaccounts/{HOST}/token");
        let answer = self.make(&path, &json!({ "spec": { "expirationSeconds": 7200 } }))?;
        let token = answer.pointer("/status/token").context("no token")?;
        let [ca, ..] = self.cluster.admin_files();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": HOST,
            "clusters": [{ "name": HOST, "cluster": { "server": self.cluster.api(), "certificate-authority": ca } }],
            "users": [{ "name": HOST, "user": { "token": token } }],
            "contexts": [{ "name": HOST, "context": { "cluster": HOST, "user": HOST } }],
        });
        let path = self.folder.join("host.kubeconfig");
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    pub(super) fn calls(&self) -> Result<audit::Calls> {
        audit::calls(&std::fs::read_to_string(self.folder.join("audit.log"))?)
    }

    /// The last lines of the host's log.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("data.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Jobs that are there. Their pods go after them, when the cluster gets to it.
    pub(super) fn left(&self) -> Result<usize> {
        let (_, list) = self.cluster.get(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs?limit=1"))?;
        let more = list.pointer("/metadata/remainingItemCount").and_then(Value::as_u64).unwrap_or(0);
        let items = list.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.len() + usize::try_from(more)?)
    }
}
