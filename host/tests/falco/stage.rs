//! The stage: a host with a runner that waits for the test, and Falco's side of each door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner::blob::FileBlob;
use lanner::intake::webhook::{Lock, Webhook};
use lanner::intake::{Bounds, Intake};
use lanner::net;
use lanner::net::tls::{Tls, TlsFiles};
use lanner::scan::ports::{About, Filter, Job, Judge, Judged, Left, Report, ReportSender, Runner};
use lanner::scan::witness::{Edge, WitnessPatience};
use lanner::scan::{Ports, Reach, Scans, Settings, Submission};
use lanner::store::SqliteStore;
use lanner::tasks::{OnError, OnStop, Supervisor, TaskKind};
use lanner_core::{
    Alert, FilterRef, Grant, Isolation, JobSpec, JudgedAlert, Owner, PhaseResult, PhaseSpec, Scan, ScanId,
    Subject,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) const TASK: TaskKind = TaskKind { name: "test", on_error: OnError::Log, on_stop: OnStop::Finish };
/// Nothing here takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the runner tells the test, in this order, once a scan.
pub(crate) enum Cue {
    /// The start mark is executed.
    Start(String),
    /// The package runs; answer when it shall have ended.
    Running(oneshot::Sender<()>),
    /// Nothing was run: the witness did not come.
    Unwitnessed,
    /// The end mark is executed.
    End(String),
}

/// Plays one phase for each scan, in step with the test.
struct Actor {
    cues: mpsc::Sender<Cue>,
}

impl Runner for Actor {
    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let cues = self.cues.clone();
        let act = async move { act(&job, &reports, &cues).await };
        async move { cancel.run_until_cancelled(act).await.unwrap_or_default() }.boxed()
    }

    fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

async fn act(job: &Job, reports: &ReportSender, cues: &mpsc::Sender<Cue>) {
    let tell = async |report| drop(reports.send(report).await);
    let builtin = || "builtin".to_owned();
    let (start, end) = (nonce(job, 1), nonce(job, 2));
    job.fence.expect(Edge::Start, &start);
    tell(Report::Started { isolation: Isolation::Namespaces }).await;
    let _ = cues.send(Cue::Start(hex(&start))).await;
    tell(Report::StartMark { sensor: builtin() }).await;
    if !job.fence.start_seen().await {
        let _ = cues.send(Cue::Unwitnessed).await;
        return;
    }
    tell(Report::PhaseStarted { name: "install".into(), time: 1 }).await;
    let (ended, end_of_phase) = oneshot::channel();
    let _ = cues.send(Cue::Running(ended)).await;
    let _ = end_of_phase.await;
    tell(Report::PhaseEnded(PhaseResult {
        name: "install".into(),
        started: 1,
        ended: Some(2),
        exit_code: Some(0),
        signal: None,
        output_tail: String::new(),
    }))
    .await;
    tell(Report::Quiet { sensor: builtin(), events: 1, processes: 1 }).await;
    job.fence.expect(Edge::End, &end);
    let _ = cues.send(Cue::End(hex(&end))).await;
    tell(Report::EndMark { sensor: builtin() }).await;
}

/// Of this scan and edge alone; a test need not be unguessable.
fn nonce(job: &Job, edge: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        job.scan.id.as_str().as_bytes().rchunks(2).take(15).map(|c| c[0] ^ c[1]).collect();
    bytes.push(edge);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

struct KeepAll;

impl Filter for KeepAll {
    fn session(&self, _: About) -> Box<dyn Judge> {
        Box::new(Self)
    }
}

impl Judge for KeepAll {
    fn judge(&mut self, alerts: Vec<Alert>) -> BoxFuture<'_, Judged> {
        let alerts = alerts.into_iter().map(JudgedAlert::unjudged).collect();
        std::future::ready(Judged { alerts, failures: vec![] }).boxed()
    }

    fn filters(&self) -> Vec<FilterRef> {
        vec![]
    }

    fn grants(&self) -> BTreeMap<String, Grant> {
        BTreeMap::new()
    }
}

pub(crate) struct Stage {
    pub(crate) scans: Scans,
    pub(crate) intake: Intake,
    pub(crate) address: SocketAddr,
    pub(crate) cues: Mutex<mpsc::Receiver<Cue>>,
    pub(crate) supervisor: Supervisor,
}

/// How a stage is set up; the rest is what `lanner serve` has.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) witness: bool,
    pub(crate) bounds: Bounds,
    pub(crate) port: u16,
    pub(crate) end: Duration,
    pub(crate) tls: Option<TlsFiles>,
    /// Every alert is kept without one.
    pub(crate) filter: Option<Arc<dyn Filter>>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            witness: true,
            bounds: Bounds::default(),
            port: 0,
            end: Duration::from_secs(5),
            tls: None,
            filter: None,
        }
    }
}

impl Stage {
    pub(crate) async fn open(folder: &Path, setting: Setting) -> Self {
        let (cues, heard) = mpsc::channel(64);
        let limits = lanner_archive::Limits::default();
        let ports = Ports {
            store: Arc::new(SqliteStore::open(folder).unwrap()),
            blob: Arc::new(FileBlob::open(folder.join("sources"), limits, 1 << 20).unwrap()),
            runner: Arc::new(Actor { cues }),
            filter: setting.filter.unwrap_or_else(|| Arc::new(KeepAll)),
        };
        let patience = WitnessPatience { start: Duration::from_secs(3), end: setting.end };
        let settings = Settings {
            queue: 100,
            parallel: 4,
            patience: lanner::scan::Patience::default(),
            keep: 10_000,
            max_age: Duration::from_secs(3600),
            witness: setting.witness.then_some(patience),
        };
        let scans = Scans::new(ports, settings);
        scans.recover().await.unwrap();
        let supervisor = Supervisor::new();
        let stop = supervisor.stop().clone();
        let running = scans.clone().run(stop.clone());
        supervisor.spawn(TASK, async move {
            running.await;
            Ok::<_, std::convert::Infallible>(())
        });
        let intake = Intake::new(setting.bounds);
        supervisor.spawn(TASK, intake.clone().run(scans.clone(), stop));
        let listener = bind(setting.port).await;
        let address = listener.local_addr().unwrap();
        let webhook =
            Arc::new(Webhook::new(intake.clone(), Lock::load(None, vec![], false, address).unwrap()));
        let answer = move |request| {
            let webhook = webhook.clone();
            async move { webhook.answer(request).await }
        };
        let pause = Duration::from_secs(3600);
        let bounds = net::Bounds { connections: 64, head: pause, pause: Duration::from_secs(20) };
        supervisor.spawn(
            TASK,
            net::serve(
                listener,
                setting.tls.clone().map(|files| Arc::new(Tls::load(files).unwrap())),
                bounds,
                supervisor.clone(),
                answer,
            ),
        );
        Self { scans, intake, address, cues: Mutex::new(heard), supervisor }
    }

    /// Alerts that were thrown away because too many waited, as `/metrics` has it.
    pub(crate) fn overflowed(&self) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.intake.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|l| l.starts_with("lanner_intake_alerts_overflowed_total{"));
        lines.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) async fn close(self) {
        self.supervisor.stop().cancel();
        assert!(self.supervisor.finish(PATIENCE).await, "hung at the end");
    }

    pub(crate) async fn submit(&self) -> ScanId {
        let spec = JobSpec {
            manager: "npm".into(),
            subject: Subject::Project { name: None },
            tools: vec!["npm".into()],
            probe: None,
            phases: vec![PhaseSpec { name: "install".into(), argv: vec!["npm".into(), "ci".into()] }],
            env: vec![],
            proxy_env: vec![],
            package_roots: vec![],
            manifests: vec![],
            files: vec![],
        };
        let submission = Submission { owner: Owner("me".into()), spec, source: None, key: None };
        self.scans.submit(submission).await.unwrap()
    }

    pub(crate) async fn cue(&self) -> Cue {
        let heard = async { self.cues.lock().await.recv().await.unwrap() };
        tokio::time::timeout(PATIENCE, heard).await.expect("no cue: hung")
    }

    pub(crate) async fn settled(&self, id: &ScanId) -> Scan {
        let settled = async {
            loop {
                let scan = self.scans.get(&Reach::All, id).await.unwrap();
                if scan.state.is_final() {
                    return scan;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("the scan hung")
    }

    /// Rule and file of each kept alert, with how often it was seen; sorted.
    pub(crate) async fn alerts(&self, id: &ScanId) -> Vec<(String, String, u64)> {
        let alerts = self.scans.alerts(&Reach::All, id).await.unwrap();
        let file =
            |a: &Alert| a.output_fields.get("fd.name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut alerts: Vec<_> =
            alerts.iter().map(|a| (a.alert.rule.clone(), file(&a.alert), a.alert.count)).collect();
        alerts.sort();
        alerts
    }
}

async fn bind(port: u16) -> TcpListener {
    // A port that was just let go may need a moment.
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("port {port} is taken")
}

/// Falco's JSON for one event in one container.
pub(crate) fn event(rule: &str, container: &str, file: &str, time: i64) -> Value {
    json!({
        "hostname": "node-1", "rule": rule, "priority": "Warning", "source": "syscall", "tags": ["t"],
        "output": format!("{time}: {rule} | file={file}"), "time": "2026-11-24T07:55:35.060658807Z",
        "output_fields": {
            "container.id": container, "container.name": null, "evt.time": time, "fd.name": file,
            "k8s.pod.name": null, "proc.name": "node",
        },
    })
}

pub(crate) fn mark(nonce: &str, container: &str, time: i64) -> Value {
    let mut mark = event("Lanner mark", container, "", time);
    mark["output_fields"]["proc.args"] = json!(format!("mark {nonce}"));
    mark
}

/// Falco's `http_output`: one connection, one POST after the other.
pub(crate) struct HttpOutput {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl HttpOutput {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Posts once; the status, or `None` if the connection failed (Falco does not try again).
    pub(crate) async fn post(&mut self, body: &[u8]) -> Option<u16> {
        self.post_as("falcosecurity/falco", "/intake/falco", body).await
    }

    pub(crate) async fn post_as(&mut self, agent: &str, path: &str, body: &[u8]) -> Option<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.ok()?;
                stream.set_nodelay(true).ok()?;
                stream
            }
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body).await.ok()?;
        let status = answer(&mut stream).await?;
        self.stream = Some(stream);
        Some(status)
    }

    /// Sends the first half of a request and hangs up.
    pub(crate) async fn cut(&mut self, body: &[u8]) {
        if self.stream.is_none() {
            self.stream = TcpStream::connect(self.address).await.ok();
        }
        if let Some(mut stream) = self.stream.take() {
            let head = format!(
                "POST /intake/falco HTTP/1.1\r\nHost: h\r\nUser-Agent: falcosecurity/falco\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body[..body.len() / 2]).await;
        }
    }

    pub(crate) fn hang_up(&mut self) {
        self.stream = None;
    }
}

async fn answer(stream: &mut TcpStream) -> Option<u16> {
    let mut text = Vec::new();
    let mut byte = [0; 1024];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.ok()?.ok()?;
        if read == 0 {
            return None;
        }
        text.extend_from_slice(&byte[..read]);
        let text = String::from_utf8_lossy(&text);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            return head.split(' ').nth(1)?.parse().ok();
        }
    }
}
