//! A real Kubernetes of one node on loopback: etcd, the control plane, containerd and a kubelet, each in its own process.
//!
//! Everything is below two folders, in one cgroup and on one bridge, and ends with the value. Pods reach each other and the
//! host at [`Cluster::gateway`], nothing else; with [`Network::Enforced`] there are Services, a way out and NetworkPolicies,
//! by kube-proxy and kube-router. There is no DNS. Images come by [`Cluster::import`] only. `tests/cluster/build.sh` builds
//! the programs.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::serve::curl;
use crate::{root, run, skipped};

mod certificates;
mod cgroup;
mod image;
mod layout;
mod network;
mod remains;

pub use image::image;
pub use layout::{KUBERNETES, Network, Program};
use layout::{Layout, PAUSE, Ports};
pub use network::{METADATA, WORLD};
use remains::Remains;

pub struct Cluster {
    /// Of an administrator.
    pub kubeconfig: PathBuf,
    /// Each program's `NAME.log` is there.
    pub folder: PathBuf,
    gateway: String,
    layout: Layout,
    remains: Remains,
    running: Mutex<BTreeMap<Program, Child>>,
    /// Arguments behind ours.
    more: Vec<(Program, String)>,
}

const API_START: Duration = Duration::from_secs(60);
const NODE_START: Duration = Duration::from_secs(90);
const RUNTIME_START: Duration = Duration::from_secs(30);
const PROXY_START: Duration = Duration::from_secs(60);
const NEEDED: [&str; 9] =
    ["etcd", "containerd", "ctr", "runc", "/usr/lib/cni/bridge", "ip", "openssl", "gcc", "curl"];
/// For a network that is enforced.
const NEEDED_TOO: [&str; 4] = ["iptables", "ipset", "nft", "unshare"];

impl Cluster {
    /// Nothing, and the reason is printed, where this machine cannot.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        Self::start_with(folder, Network::Plain)
    }

    pub fn start_with(folder: &Path, network: Network) -> Result<Option<Self>> {
        let Some(cluster) = Self::begin(folder, network)? else { return Ok(None) };
        cluster.boot()?;
        Ok(Some(cluster))
    }

    /// Of no node and no scheduler: the controllers make pods, and who holds the cluster says what becomes of them.
    pub fn without_nodes(folder: &Path, more: Vec<(Program, String)>) -> Result<Option<Self>> {
        let Some(mut cluster) = Self::begin(folder, Network::Plain)? else { return Ok(None) };
        cluster.more = more;
        certificates::make(&cluster.folder.join("certificates"), &cluster.gateway)?;
        cluster.configure()?;
        cluster.spawn(Program::Etcd)?;
        cluster.spawn(Program::Api)?;
        cluster.wait_for_api()?;
        cluster.spawn(Program::Controllers)?;
        Ok(Some(cluster))
    }

    fn begin(folder: &Path, network: Network) -> Result<Option<Self>> {
        if let Some(why) = missing(network) {
            skipped("cluster", &why);
            return Ok(None);
        }
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        if let Some(left) = Remains::of(&folder) {
            left.clear(&folder);
        }
        // What it knew was of other certificates, and its logs would be taken for the new one's.
        let _ = fs::remove_dir_all(folder.join("etcd"));
        for program in Program::ALL {
            let _ = fs::remove_file(folder.join(program.log()));
        }
        Ok(Some(Self::prepare(folder, network)?))
    }

    /// From here on a failure clears up, by `Drop`.
    fn prepare(folder: PathBuf, network: Network) -> Result<Self> {
        let run = tempfile::Builder::new().prefix("lnr-").tempdir_in("/tmp")?.keep();
        let name = run.file_name().and_then(|n| n.to_str()).context("a name")?.to_owned();
        let remains = Remains::begin(&folder, run.clone(), name.clone())?;
        let layout = Layout { network, folder: folder.clone(), run, name, subnet: 0, ports: Ports::free()? };
        let kubeconfig = layout.kubeconfig("admin");
        let (running, more) = (Mutex::default(), Vec::new());
        let mut cluster = Self { kubeconfig, folder, gateway: String::new(), layout, remains, running, more };
        cgroup::make(&cluster.layout.name)?;
        cluster.layout.subnet = match network {
            Network::Plain => cluster.remains.make_bridge(&cluster.folder)?,
            Network::Enforced => {
                network::make(&cluster.layout.run)?;
                network::SUBNET
            }
        };
        cluster.gateway = cluster.layout.gateway();
        Ok(cluster)
    }

    fn boot(&self) -> Result<()> {
        certificates::make(&self.folder.join("certificates"), &self.gateway)?;
        self.configure()?;
        for program in [Program::Etcd, Program::Containerd, Program::Api] {
            self.spawn(program)?;
        }
        let pause = self.pause()?;
        self.wait(Program::Containerd, RUNTIME_START, || Ok(self.ctr(&["version"]).is_ok()))?;
        self.import(&pause)?;
        self.wait_for_api()?;
        for program in [Program::Controllers, Program::Scheduler, Program::Kubelet] {
            self.spawn(program)?;
        }
        self.wait(Program::Kubelet, NODE_START, || self.node_is_ready())?;
        if self.layout.network == Network::Enforced {
            self.enforce()?;
        }
        Ok(())
    }

    /// Until a Service can be reached, and rules are there for policies.
    fn enforce(&self) -> Result<()> {
        self.spawn(Program::Proxy)?;
        self.spawn(Program::Policies)?;
        let service = || TcpStream::connect((KUBERNETES, 443)).is_ok();
        self.wait(Program::Proxy, PROXY_START, || self.within(service))?;
        let rules = || run(Command::new("iptables").args(["-S", "KUBE-ROUTER-FORWARD"]));
        self.wait(Program::Policies, PROXY_START, || Ok(self.within(rules)??.status.success()))
    }

    fn configure(&self) -> Result<()> {
        let layout = &self.layout;
        for identity in ["admin", "controllers", "scheduler", "node", "proxy"] {
            write_json(&layout.kubeconfig(identity), &layout.kubeconfig_of(identity))?;
        }
        fs::write(self.folder.join("containerd.toml"), layout.containerd_config())?;
        write_json(&self.folder.join("kubelet.json"), &layout.kubelet_config())?;
        fs::create_dir_all(layout.run.join("cni"))?;
        write_json(&layout.run.join("cni/10-lanner.conflist"), &layout.network_config())?;
        // Pods have no name server; without a file of its own a kubelet would give them this machine's.
        Ok(fs::write(layout.run.join("resolv.conf"), "")?)
    }

    /// The image of what holds a pod's namespaces.
    fn pause(&self) -> Result<PathBuf> {
        let program = self.folder.join("pause");
        let source = root().join("tests/cluster/pause.c");
        let output = run(Command::new("gcc").args(["-static", "-Os", "-o"]).arg(&program).arg(source))?;
        ensure!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr));
        image(&self.folder, PAUSE, &[(program, "/pause".to_owned())], &["/pause"])
    }

    /// Takes in what [`image`] or `docker save` wrote, for pods with `imagePullPolicy: Never`.
    pub fn import(&self, image_tar: &Path) -> Result<()> {
        self.ctr(&["images", "import", &image_tar.display().to_string()])?;
        // What the kubelet asks learns of it a moment later, and labels it then.
        self.wait(Program::Containerd, RUNTIME_START, || {
            let listed = self.ctr(&["images", "ls"])?;
            Ok(listed.lines().skip(1).all(|l| l.contains("io.cri-containerd.image=managed")))
        })
    }

    pub fn api(&self) -> String {
        self.layout.api()
    }

    /// The host's address on the pods' bridge: there from the start, so that a listener can take it before any pod.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// In the network of the node: what is opened or started in it stays there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        match self.layout.network {
            Network::Plain => Ok(act()),
            Network::Enforced => network::within(&self.namespace(), act),
        }
    }

    /// In the network that pods have their way out to, where [`WORLD`] and [`METADATA`] are.
    pub fn outside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        network::within(&self.layout.run.join(network::OUTSIDE), act)
    }

    /// The node's, for `nsenter --net=FILE`.
    pub fn namespace(&self) -> PathBuf {
        match self.layout.network {
            Network::Plain => PathBuf::from("/proc/self/ns/net"),
            Network::Enforced => self.layout.run.join(network::NODE),
        }
    }

    /// Where the kubelet listens.
    pub fn kubelet_port(&self) -> u16 {
        self.layout.ports.kubelet
    }

    /// Runs it in a pod's container, as the user and with the rights of what runs there.
    pub fn exec(&self, container: &str, args: &[&str]) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("exec-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let container = container.trim_start_matches("containerd://");
        self.ctr(&[&["tasks", "exec", "--exec-id", &id, container], args].concat())
    }

    /// Containerd's, for `ctr -n k8s.io`.
    pub fn socket(&self) -> PathBuf {
        self.layout.socket()
    }

    /// What only a file can prove to the API server: authority, certificate and key, as PEM.
    pub fn admin_files(&self) -> [PathBuf; 3] {
        ["ca.pem", "admin.pem", "admin.key"].map(|file| self.layout.certificate(file))
    }

    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        self.request("GET", path, None)
    }

    /// As an administrator. An answer that is no JSON, such as a log, is a string.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let [_, certificate, key] = self.admin_files().map(|p| p.display().to_string());
        self.ask(&["--cert", &certificate, "--key", &key], method, path, body)
    }

    /// As a service account, by a token of it.
    pub fn request_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        self.ask(&["-H", &format!("authorization: Bearer {token}")], method, path, body)
    }

    fn ask(
        &self,
        credential: &[&str],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let ca = self.admin_files()[0].display().to_string();
        let url = format!("{}{path}", self.api());
        let mut args = vec!["--cacert", &ca, "-X", method, &url];
        args.extend(credential);
        let kind = match method {
            "PATCH" => "content-type: application/merge-patch+json",
            _ => "content-type: application/json",
        };
        let body = body.map(Value::to_string);
        if let Some(body) = &body {
            args.extend(["-H", kind, "--data-binary", body]);
        }
        let (status, text) = self.within(|| curl(&args))??;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// As a crash would; pods go on when it is the kubelet or containerd.
    pub fn kill(&self, program: Program) -> Result<()> {
        if let Some(mut child) = self.running().remove(&program) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Again, with the same settings and the same port; waits for the API if it is that.
    pub fn restart(&self, program: Program) -> Result<()> {
        self.kill(program)?;
        self.spawn(program)?;
        if program == Program::Api {
            self.wait_for_api()?;
        }
        Ok(())
    }

    fn spawn(&self, program: Program) -> Result<()> {
        let path = self.folder.join(program.log());
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut command = Command::new(program.path());
        command
            .args(self.layout.args(program))
            .args(self.more.iter().filter(|(of, _)| *of == program).map(|(_, argument)| argument))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A terminal's Ctrl-C is for who holds the cluster.
            .process_group(0);
        let child = self.within(|| command.spawn())?.with_context(|| program.path().display().to_string())?;
        let pid = child.id();
        self.running().insert(program, child);
        cgroup::add(&self.layout.name, pid)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Program, Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ctr(&self, args: &[&str]) -> Result<String> {
        let output = run(Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "k8s.io"]).args(args))?;
        ensure!(output.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait_for_api(&self) -> Result<()> {
        self.wait(Program::Api, API_START, || Ok(self.get("/readyz").is_ok_and(|(status, _)| status == 200)))
    }

    /// And takes pods: a controller takes the taints away a moment later.
    fn node_is_ready(&self) -> Result<bool> {
        let (_, node) = self.get("/api/v1/nodes/127.0.0.1")?;
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let is_ready = |c: &Value| {
            let text = |key| c.get(key).and_then(Value::as_str);
            text("type") == Some("Ready") && text("status") == Some("True")
        };
        Ok(conditions.is_some_and(|c| c.iter().any(is_ready)) && node.pointer("/spec/taints").is_none())
    }

    /// Bounded, and by the program's life too; the end of its log says why.
    fn wait(&self, program: Program, within: Duration, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so()? {
            let ended = self.running().get_mut(&program).map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || begun.elapsed() > within {
                let log = fs::read_to_string(self.folder.join(program.log())).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(8).collect();
                let last: Vec<&str> = lines.into_iter().rev().collect();
                let how = if ended.is_some() { "ended" } else { "is not ready in time" };
                bail!("{} {how}:\n{}", program.name(), last.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // First who would start the others again.
        for (_, mut child) in std::mem::take(&mut *self.running()).into_iter().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.remains.clear(&self.folder);
    }
}

/// Why this machine cannot run it.
fn missing(network: Network) -> Option<String> {
    // SAFETY: no pointers are involved.
    if unsafe { libc::geteuid() } != 0 {
        return Some("only root can run a kubelet".to_owned());
    }
    let mut built = vec![Program::Api, Program::Controllers, Program::Scheduler, Program::Kubelet];
    let mut needed = NEEDED.to_vec();
    if network == Network::Enforced {
        built.extend([Program::Proxy, Program::Policies]);
        needed.extend(NEEDED_TOO);
    }
    if let Some(program) = built.iter().map(|p| p.path()).find(|p| !p.is_file()) {
        return Some(format!("{} is not there: run tests/cluster/build.sh", program.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let is_here = |name: &&str| folders.iter().any(|f| f.join(name).is_file());
    if let Some(name) = needed.iter().find(|name| !is_here(name)) {
        return Some(format!("no {name} on this machine"));
    }
    // Ours would take its place at the drivers of devices, which is no setting.
    if Path::new("/var/lib/kubelet/config.yaml").exists() || Path::new("/var/lib/kubelet/pods").exists() {
        return Some("this machine is a node of another cluster".to_owned());
    }
    let probe = format!("lnr-probe-{}", std::process::id());
    let writable = cgroup::make(&probe);
    let _ = cgroup::remove(&probe, Duration::from_secs(1));
    writable.err().map(|why| format!("no cgroup can be made: {why:#}"))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?).with_context(|| path.display().to_string())
}
