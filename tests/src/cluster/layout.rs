//! Where everything of one cluster is and how each program is called. Plain data: nothing is started or written here.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::root;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Etcd,
    Api,
    Containerd,
    Controllers,
    Scheduler,
    Kubelet,
    /// These two with [`Network::Enforced`] only.
    Proxy,
    Policies,
}

impl Program {
    pub(super) const ALL: [Self; 8] = [
        Self::Etcd,
        Self::Api,
        Self::Containerd,
        Self::Controllers,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
        Self::Policies,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Api => "kube-apiserver",
            Self::Containerd => "containerd",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Policies => "kube-router",
        }
    }

    pub(super) fn log(self) -> String {
        format!("{}.log", self.name())
    }

    pub(super) fn path(self) -> PathBuf {
        match self {
            Self::Etcd | Self::Containerd => PathBuf::from(self.name()),
            _ => root().join("target/cluster").join(self.name()),
        }
    }
}

/// What pods have of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// They reach each other, and this machine at [`super::Cluster::gateway`]. No Service, and nothing is enforced.
    Plain,
    /// One of the cluster's own, with a way out, Services and enforced NetworkPolicies: everything of the cluster is in it, and
    /// this machine is not. [`super::Cluster::within`] gets there.
    Enforced,
}

pub(super) struct Layout {
    pub(super) network: Network,
    /// Logs, certificates, configurations and etcd's data.
    pub(super) folder: PathBuf,
    /// Whatever has sockets and mounts: short, since a socket's path has at most 107 characters.
    pub(super) run: PathBuf,
    /// The last part of `run`: names the cgroup and the pods' network too.
    pub(super) name: String,
    /// The third byte of the pods' network.
    pub(super) subnet: u8,
    pub(super) ports: Ports,
}

pub(super) struct Ports {
    etcd: u16,
    etcd_peer: u16,
    pub(super) api: u16,
    pub(super) kubelet: u16,
}

impl Ports {
    /// Below those that the kernel gives to whoever connects, so that a restarted program finds its own again.
    pub(super) fn free() -> Result<Self> {
        let first = 20_000 + u16::try_from(std::process::id() % 1000)? * 10;
        let mut free = (first..32_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let held = [free.next(), free.next(), free.next(), free.next()];
        let port = |at: usize| {
            let listener =
                held.get(at).and_then(Option::as_ref).context("no free port from 20000 to 32000")?;
            Ok::<_, anyhow::Error>(listener.local_addr()?.port())
        };
        Ok(Self { etcd: port(0)?, etcd_peer: port(1)?, api: port(2)?, kubelet: port(3)? })
    }
}

pub(super) const PAUSE: &str = "lanner.test/pause:1";
/// Where Services have their addresses, and that of the API server's own.
pub(super) const SERVICES: &str = "10.214.0.0/24";
pub const KUBERNETES: &str = "10.214.0.1";
const NODE_NAME: &str = "--hostname-override=127.0.0.1";
const CONTAINERD: &str = include_str!("../../cluster/containerd.toml");

impl Layout {
    pub(super) fn socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    pub(super) fn api(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    pub(super) fn bridge(&self) -> String {
        bridge(self.subnet)
    }

    pub(super) fn gateway(&self) -> String {
        gateway(self.subnet)
    }

    /// `NAME.kubeconfig` of one identity.
    pub(super) fn kubeconfig(&self, identity: &str) -> PathBuf {
        self.folder.join(format!("{identity}.kubeconfig"))
    }

    pub(super) fn certificate(&self, file: &str) -> PathBuf {
        self.folder.join("certificates").join(file)
    }

    pub(super) fn args(&self, program: Program) -> Vec<String> {
        let config = |of: &str, path: &Path| format!("--{of}={}", path.display());
        match program {
            Program::Etcd => self.etcd(),
            Program::Api => self.api_server(),
            Program::Containerd => vec![config("config", &self.folder.join("containerd.toml"))],
            Program::Controllers => vec![
                config("kubeconfig", &self.kubeconfig("controllers")),
                config("root-ca-file", &self.certificate("ca.pem")),
                config("service-account-private-key-file", &self.certificate("accounts.key")),
                "--use-service-account-credentials=true".to_owned(),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
            Program::Scheduler => vec![
                config("kubeconfig", &self.kubeconfig("scheduler")),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
            Program::Kubelet => {
                let mut args = vec![
                    config("kubeconfig", &self.kubeconfig("node")),
                    config("config", &self.folder.join("kubelet.json")),
                    config("root-dir", &self.run.join("kubelet")),
                    NODE_NAME.to_owned(),
                ];
                if self.network == Network::Enforced {
                    args.push(format!("--node-ip={}", self.gateway()));
                }
                args
            }
            Program::Proxy => vec![
                config("kubeconfig", &self.kubeconfig("proxy")),
                NODE_NAME.to_owned(),
                // In a table of its own: kube-router writes that of iptables back whole, as it was when it read it.
                "--proxy-mode=nftables".to_owned(),
                format!("--cluster-cidr={}", pods(self.subnet)),
                // Settings of the whole machine, which a namespace may not change.
                "--conntrack-max-per-core=0".to_owned(),
                "--conntrack-min=0".to_owned(),
                "--conntrack-tcp-timeout-established=0s".to_owned(),
                "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
            ],
            // Of its three parts the one that enforces NetworkPolicies. It reads more kinds of objects than it needs.
            Program::Policies => vec![
                config("kubeconfig", &self.kubeconfig("admin")),
                NODE_NAME.to_owned(),
                "--run-firewall=true".to_owned(),
                "--run-router=false".to_owned(),
                "--run-service-proxy=false".to_owned(),
                "--run-loadbalancer=false".to_owned(),
                format!("--service-cluster-ip-range={SERVICES}"),
                "--health-port=0".to_owned(),
                "--metrics-port=0".to_owned(),
            ],
        }
    }

    /// Where the API server and the kubelet listen: in a namespace of the cluster's own there is nobody else.
    fn listen(&self) -> &'static str {
        match self.network {
            Network::Plain => "127.0.0.1",
            Network::Enforced => "0.0.0.0",
        }
    }

    fn etcd(&self) -> Vec<String> {
        let (client, peer) = (self.ports.etcd, self.ports.etcd_peer);
        vec![
            "--name=one".to_owned(),
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=one=http://127.0.0.1:{peer}"),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let file = |of: &str, name: &str| format!("--{of}={}", self.certificate(name).display());
        // What is written down for `kubernetes.default` may not be of loopback.
        let (advertised, reconciler) = match self.network {
            Network::Plain => ("127.0.0.1".to_owned(), "none"),
            Network::Enforced => (self.gateway(), "lease"),
        };
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            format!("--bind-address={}", self.listen()),
            format!("--secure-port={}", self.ports.api),
            format!("--advertise-address={advertised}"),
            format!("--endpoint-reconciler-type={reconciler}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            // As everywhere: whether a pod may be is what `pod-security` says of its namespace.
            "--allow-privileged=true".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            file("client-ca-file", "ca.pem"),
            file("tls-cert-file", "api.pem"),
            file("tls-private-key-file", "api.key"),
            file("kubelet-certificate-authority", "ca.pem"),
            file("kubelet-client-certificate", "api-client.pem"),
            file("kubelet-client-key", "api-client.key"),
            format!("--service-account-issuer={}", self.api()),
            file("service-account-key-file", "accounts.pub"),
            file("service-account-signing-key-file", "accounts.key"),
        ]
    }

    pub(super) fn containerd_config(&self) -> String {
        CONTAINERD.replace("@RUN@", &self.run.display().to_string()).replace("@PAUSE@", PAUSE)
    }

    pub(super) fn kubelet_config(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.listen(),
            "port": self.ports.kubelet,
            "healthzPort": 0,
            "tlsCertFile": self.certificate("node.pem"),
            "tlsPrivateKeyFile": self.certificate("node.key"),
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.certificate("ca.pem") },
            },
            "authorization": { "mode": "Webhook" },
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.name),
            "failCgroupV1": false,
            "failSwapOn": false,
            // A lower one than that of a test needs CAP_SYS_RESOURCE.
            "oomScoreAdj": 0,
            "podLogsDir": self.run.join("logs"),
            "volumePluginDir": self.run.join("volume-plugins"),
            "resolvConf": self.run.join("resolv.conf"),
            "makeIPTablesUtilChains": false,
            // The machine's disk is not ours to judge, and imported images cannot be pulled again.
            "evictionHard": { "memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%",
                "nodefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100,
        })
    }

    /// Without `isGateway` and without masquerading: the bridge has its address already, and nothing else is in reach where pods
    /// have no route.
    pub(super) fn network_config(&self) -> Value {
        let mut plugins = vec![json!({
            "type": "bridge",
            "bridge": self.bridge(),
            "isGateway": false,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": self.run.join("addresses"),
                "ranges": [[{ "subnet": pods(self.subnet), "rangeStart": format!("10.213.{}.10", self.subnet) }]],
                "routes": match self.network {
                    Network::Plain => json!([]),
                    Network::Enforced => json!([{ "dst": "0.0.0.0/0" }]),
                },
            },
        })];
        if self.network == Network::Enforced {
            // kube-router knows IPv4 alone here, and the address that a link gives itself would be a way past it.
            let no_other = json!({ "net.ipv6.conf.all.disable_ipv6": "1" });
            plugins.push(json!({ "type": "tuning", "sysctl": no_other }));
        }
        json!({ "cniVersion": "0.4.0", "name": self.name, "plugins": plugins })
    }

    /// JSON, which is YAML too.
    pub(super) fn kubeconfig_of(&self, identity: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": {
                "server": self.api(), "certificate-authority": self.certificate("ca.pem") } }],
            "users": [{ "name": identity, "user": {
                "client-certificate": self.certificate(&format!("{identity}.pem")),
                "client-key": self.certificate(&format!("{identity}.key")) } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": identity } }],
            "current-context": "test",
        })
    }
}

pub(super) fn bridge(subnet: u8) -> String {
    format!("lnr-br{subnet}")
}

pub(super) fn pods(subnet: u8) -> String {
    format!("10.213.{subnet}.0/24")
}

pub(super) fn gateway(subnet: u8) -> String {
    format!("10.213.{subnet}.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            network: Network::Plain,
            folder: PathBuf::from("/var/a-rather-long-folder"),
            run: PathBuf::from("/tmp/lnr-a1"),
            name: "lnr-a1".to_owned(),
            subnet: 77,
            ports: Ports { etcd: 1, etcd_peer: 2, api: 3, kubelet: 4 },
        }
    }

    #[test]
    fn nothing_listens_beyond_loopback() {
        let layout = layout();
        for program in [Program::Etcd, Program::Api] {
            let args = layout.args(program);
            let open = |a: &&String| a.contains("listen") || a.contains("bind");
            assert!(args.iter().filter(open).all(|a| a.contains("127.0.0.1")), "{args:?}");
        }
        assert_eq!(layout.kubelet_config()["address"], "127.0.0.1");
    }

    #[test]
    fn pods_get_no_route_out() {
        let network = layout().network_config();
        let plugin = &network["plugins"][0];
        assert_eq!((&plugin["ipMasq"], &plugin["isGateway"]), (&Value::Bool(false), &Value::Bool(false)));
        assert_eq!(plugin["ipam"]["routes"], json!([]));
        assert!(gateway(77).len() < "10.213.77.10".len(), "pods' addresses begin after the gateway's");
    }

    #[test]
    fn in_a_network_of_its_own_pods_have_a_way_out_and_one_family_of_addresses() {
        let layout = Layout { network: Network::Enforced, ..layout() };
        let network = layout.network_config();
        assert_eq!(network["plugins"][0]["ipam"]["routes"][0]["dst"], "0.0.0.0/0");
        assert_eq!(network["plugins"][1]["sysctl"]["net.ipv6.conf.all.disable_ipv6"], "1");
        let args = layout.args(Program::Api);
        assert!(args.contains(&"--advertise-address=10.213.77.1".to_owned()), "{args:?}");
    }

    #[test]
    fn containerd_keeps_all_in_its_folder() {
        let text = layout().containerd_config();
        assert!(!text.contains('@'), "{text}");
        let parsed: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(parsed["root"].as_str(), Some("/tmp/lnr-a1/containerd"));
        assert_eq!(parsed["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"].as_str(), Some(PAUSE));
    }
}
