//! The ways out of a pod, what was found of each, and who listens at the end of those that lead out of the cluster.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use lanner_tests::cluster::{Cluster, KUBERNETES, METADATA, WORLD};
use serde_json::Value;

use super::{DOOR, Stage, pods};

/// Tries all at once; prints what became of each. The last word is the pod's own: a refusal that is lost is no answer.
const CONNECT: &str = "const net = require('net');\
    Promise.all(process.argv.slice(1).map((way) => new Promise((done) => {\
      const [host, port] = way.split(':');\
      const socket = net.connect({ host, port: Number(port) });\
      const end = (how) => { socket.destroy(); done([way, how]); };\
      socket.setTimeout(4000, () => end('no answer'));\
      socket.on('connect', () => end('open'));\
      socket.on('error', (error) => end(error.code));\
    }))).then((all) => console.log(JSON.stringify(Object.fromEntries(all))));";
const SEND: &str = "const [host, port] = process.argv[1].split(':');\
    const socket = require('dgram').createSocket('udp4');\
    socket.on('error', () => process.exit(0));\
    socket.send('out', Number(port), host, () => socket.close());";

#[derive(Clone, Debug)]
pub(super) struct Way {
    name: &'static str,
    to: String,
    /// One datagram, which arrives or not; else a connection.
    datagram: bool,
    pub(super) stays_open: bool,
}

/// Listens where the cluster's network ends.
pub(super) struct World {
    _listeners: Vec<TcpListener>,
    datagrams: UdpSocket,
}

impl World {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let all = || {
            // Connections are made by the kernel; nobody has to take them.
            let listeners = [(WORLD, 80), (METADATA, 80)].map(|to| TcpListener::bind(to).unwrap());
            (Vec::from(listeners), UdpSocket::bind((WORLD, 53)).unwrap())
        };
        let (listeners, datagrams) = cluster.outside(all).unwrap();
        datagrams.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self { _listeners: listeners, datagrams }
    }

    fn hears(&self) -> bool {
        self.datagrams.recv_from(&mut [0; 16]).is_ok()
    }
}

impl Way {
    fn shut(name: &'static str, host: &str, port: u16) -> Self {
        Self { name, to: format!("{host}:{port}"), datagram: false, stays_open: false }
    }

    fn open(name: &'static str, host: &str, port: u16) -> Self {
        Self { stays_open: true, ..Self::shut(name, host, port) }
    }

    pub(super) fn to_the_world() -> Self {
        Self::shut("an address outside", WORLD, 80)
    }
}

impl Stage<'_> {
    pub(super) fn ways(&self, neighbour: &Value, stranger: &Value, names: &Value) -> Vec<Way> {
        let (node, host) = (self.cluster.gateway(), self.host());
        let api = self.cluster.api().rsplit(':').next().unwrap().parse().unwrap();
        let service = self.address("lanner");
        let intake = self.address("lanner-intake");
        vec![
            Way::shut("the API server", node, api),
            Way::shut("the API server's Service", KUBERNETES, 443),
            Way::shut("the cloud's metadata", METADATA, 80),
            Way::shut("the host's API", &host, 3000),
            Way::shut("the host's API, by its Service", &service, 3000),
            Way::shut("the host's admin port", &host, 3001),
            Way::shut("the host's intake", &host, 3002),
            Way::shut("the host's intake, by its Service", &intake, 3002),
            Way::shut("a scan's pod", &pods::address(neighbour), 8080),
            Way::shut("a pod of another namespace", &pods::address(stranger), 8080),
            Way::shut("a name server's pod", &pods::address(names), 53),
            Way::shut("the kubelet", node, self.cluster.kubelet_port()),
            Way::shut("a port of the node for a Service", node, pods::NODE_PORT),
            Way::to_the_world(),
            Way { datagram: true, ..Way::shut("an address outside, a datagram", WORLD, 53) },
            Way::open("the door", &host, 3443),
            Way::open("the door, by its Service", DOOR, 3443),
        ]
    }

    /// Each port of the host has its callers; a pod of another namespace is one for the API alone.
    pub(super) fn ways_to_the_host(&self) -> Vec<Way> {
        let host = self.host();
        vec![
            Way::open("the host's API", &host, 3000),
            Way::open("the host's API, by its Service", &self.address("lanner"), 3000),
            Way::shut("the host's admin port", &host, 3001),
            Way::shut("the host's intake", &host, 3002),
            Way::shut("the door", &host, 3443),
            Way::shut("the door, by its Service", DOOR, 3443),
        ]
    }

    fn host(&self) -> String {
        let pods = self.items("/api/v1/namespaces/lanner/pods");
        let is_host = |p: &&Value| p["metadata"]["labels"]["app.kubernetes.io/component"] == "host";
        pods::address(pods.iter().find(is_host).unwrap())
    }

    /// What became of each, in their order: "open", or what the pod was told.
    pub(super) fn tried(&self, from: &Value, ways: &[Way], world: &World) -> Vec<String> {
        let container = pods::container(from);
        let node = |script, to: &[&str]| {
            self.cluster.exec(container, &[&["/usr/bin/node", "-e", script], to].concat()).unwrap()
        };
        let to: Vec<&str> = ways.iter().filter(|w| !w.datagram).map(|w| w.to.as_str()).collect();
        let said = node(CONNECT, &to);
        let found: BTreeMap<String, String> = serde_json::from_str(&said).unwrap();
        let of = |way: &Way| {
            if !way.datagram {
                return found[&way.to].clone();
            }
            node(SEND, &[&way.to]);
            if world.hears() { "open" } else { "lost" }.to_owned()
        };
        ways.iter().map(of).collect()
    }
}

pub(super) fn table(from: &str, ways: &[Way], without: &[String], with: &[String]) {
    println!("{:<36} {:<22} {:<16} with policies", format!("from {from} to"), "address", "without policies");
    for ((way, without), with) in ways.iter().zip(without).zip(with) {
        println!("{:<36} {:<22} {without:<16} {with}", way.name, way.to);
    }
}
