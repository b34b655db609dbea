//! The doors behind TLS: who has no certificate of the right authority does not come in, and new certificates are taken up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lanner::intake::grpc::Address;
use lanner::net::tls::TlsFiles;
use lanner::relay::{ClientFiles, RelayConfig};
use lanner_core::ScanState;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::doors::{append, relay_config, start_relay};
use crate::grpc::{Falco, subscribe_at};
use crate::stage::{Cue, PATIENCE, Setting, Stage, event, mark};

const CONTAINER: &str = "842477b01e66";

/// An authority, and the folder where it puts what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Signs a certificate for this name; where it and its key are.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

fn relaying(
    stage: &Stage,
    folder: &Path,
    spool: &str,
    ca: PathBuf,
    own: Option<(PathBuf, PathBuf)>,
) -> RelayConfig {
    let config = relay_config(&format!("https://{}", stage.address), folder);
    RelayConfig {
        tls: Some(ClientFiles { ca, own }),
        spool: folder.join(spool),
        name: spool.into(),
        ..config
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_relay_with_a_certificate_vouches_and_strangers_stay_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let (certificate_file, key_file) = ours.sign("host");
    let tls = TlsFiles { certificate_file, key_file, client_ca_file: Some(ours.ca()) };
    let stage =
        Stage::open(&folder.path().join("data"), Setting { tls: Some(tls), ..Setting::default() }).await;
    let node = folder.path();
    append(node, &event("Read", "bbbbbbbbbbbb", "/x", 1));
    // No certificate, one of a stranger's, and one who does not believe the host.
    let strangers = [
        start_relay(relaying(&stage, node, "none", ours.ca(), None)),
        start_relay(relaying(&stage, node, "stranger", ours.ca(), Some(theirs.sign("node")))),
        start_relay(relaying(&stage, node, "unbelieving", theirs.ca(), Some(ours.sign("other")))),
    ];
    let ours = start_relay(relaying(&stage, node, "node-1", ours.ca(), Some(ours.sign("node"))));
    until("our relay comes in", || stage.intake.sensors().iter().any(|s| s.name == "node-1")).await;
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    append(node, &mark(&start, CONTAINER, 1));
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    append(node, &event("Read", CONTAINER, "/etc/shadow", 2));
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    append(node, &mark(&end, CONTAINER, 3));
    assert_eq!(stage.settled(&id).await.state, ScanState::Finished);
    assert_eq!(stage.alerts(&id).await, [("Read".into(), "/etc/shadow".into(), 1)]);
    let names: Vec<String> = stage.intake.sensors().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["node-1"]);
    for relay in strangers.iter().chain([&ours]) {
        relay.stop().cancel();
    }
    stage.close().await;
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_wrong_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
    let (certificate_file, key_file) = old.sign("host");
    let tls = TlsFiles {
        certificate_file: certificate_file.clone(),
        key_file: key_file.clone(),
        client_ca_file: None,
    };
    let stage =
        Stage::open(&folder.path().join("data"), Setting { tls: Some(tls), ..Setting::default() }).await;
    let node = folder.path();
    append(node, &event("Read", "bbbbbbbbbbbb", "/x", 1));
    std::fs::write(&certificate_file, "no certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let first = start_relay(relaying(&stage, node, "first", old.ca(), None));
    until("the old one serves on", || stage.intake.sensors().iter().any(|s| s.name == "first")).await;
    let (fresh, fresh_key) = new.sign("host");
    std::fs::copy(fresh_key, &key_file).unwrap();
    std::fs::copy(fresh, &certificate_file).unwrap();
    // It believes the new one alone, and comes in as soon as that is served.
    let second = start_relay(relaying(&stage, node, "second", new.ca(), None));
    until("the new one is served", || stage.intake.sensors().iter().any(|s| s.name == "second")).await;
    first.stop().cancel();
    second.stop().cancel();
    stage.close().await;
}

#[tokio::test]
async fn grpc_over_tcp_asks_for_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let stage = Stage::open(&folder.path().join("data"), Setting::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (certificate, key) = ours.sign("falco");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&certificate), read(&key)))
        .client_ca_root(Certificate::from_pem(read(&ours.ca())));
    let falco = Falco::new(CONTAINER);
    let server =
        falco.serve_on(Server::builder().tls_config(tls).unwrap(), TcpListenerStream::new(listener), 43);
    let address = |authority: &Authority, signer: &Authority| {
        let (certificate, key) = signer.sign("client");
        Address::Tcp { url: url.clone(), server_name: None, ca: authority.ca(), certificate, key }
    };
    let refused = subscribe_at(&stage, "stranger", address(&ours, &theirs));
    let unbelieving = subscribe_at(&stage, "unbelieving", address(&theirs, &ours));
    let client = subscribe_at(&stage, "node-1", address(&ours, &ours));
    falco.fire("Read", &[("fd.name", "/x")], 1);
    let sensor = |name: &str| stage.intake.sensors().into_iter().find(|s| s.name == name);
    until("an alert comes", || sensor("node-1").is_some_and(|s| s.alerts == 1)).await;
    for name in ["stranger", "unbelieving"] {
        until(name, || sensor(name).is_some_and(|s| !s.connected && s.last_error.is_some())).await;
    }
    for tasks in [refused, unbelieving, client, server] {
        tasks.stop().cancel();
    }
    stage.close().await;
}
