//! What the operator says of Falco: the door for its alerts, those that are subscribed to, and whether it must vouch for scans.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::net::tls::TlsFiles;

/// Where Falco's alerts come in by HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    /// Without it there is no such listener.
    pub listen: Option<SocketAddr>,
    /// Its content is the last part of the path.
    pub secret_file: Option<PathBuf>,
    /// Addresses and nets that may send; everybody if it is empty.
    pub allow: Vec<ipnet::IpNet>,
    pub connections: Option<usize>,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FalcoConfig {
    /// Every scan needs Falco's marks beside the built-in sensor's.
    pub witness: bool,
    /// Seconds that a scan waits for the start mark, and for the end mark.
    pub start_deadline: Option<u64>,
    pub end_deadline: Option<u64>,
    /// Falcos whose gRPC outputs are subscribed to (Falco up to 0.43).
    pub instances: Vec<FalcoInstance>,
    /// The same for the pods of a DaemonSet.
    pub pods: Option<FalcoPods>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalcoInstance {
    /// As alerts and `GET /v1/sensors` show it.
    pub name: String,
    /// `unix:///run/falco/falco.sock`, or `https://HOST:PORT`; the latter needs the three files.
    pub address: String,
    /// The name in its certificate, where it is not the host in the address.
    pub server_name: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalcoPods {
    /// `falco`, if not given.
    pub namespace: Option<String>,
    /// A label selector; `app.kubernetes.io/name=falco`, if not given.
    pub labels: Option<String>,
    pub port: Option<u16>,
    /// The name in the certificate of every one of them.
    pub server_name: String,
    pub ca_file: PathBuf,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}
