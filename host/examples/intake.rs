//! How many of Falco's alerts come through each door a second: taken in, matched to their scan, judged by the built-in
//! filter, stored, and there for whoever asks. Sender and receiver share the machine's cores.
//!
//! Prints `bench intake_grpc …`, `bench intake_http …` and `bench intake_relay …`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot run says so and stops"
)]
#![expect(clippy::cast_precision_loss, reason = "rates are no exact numbers")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use lanner::app::Host;
use lanner::config::Config;
use lanner::relay::{RelayConfig, Source};
use lanner::tasks::{OnStop, Supervisor, TaskKind};
use lanner_core::ScanId;
use tokio::sync::oneshot;

#[path = "../tests/falco/grpc/falco.rs"]
#[expect(dead_code, reason = "what the tests need of it too")]
mod falco;
#[path = "../tests/falco/stage.rs"]
#[expect(dead_code, reason = "what the tests need of it too")]
mod stage;

use falco::{Falco, subscribe};
use stage::{Cue, HttpOutput, Setting, Stage, TASK, event};

/// At the same time; as many as a stage runs.
const SCANS: usize = 4;
const ALERTS_PER_SCAN: usize = 12_500;
const CONNECTIONS: usize = 8;
const TOO_LONG: Duration = Duration::from_secs(120);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = Config::load(None).unwrap();
        config.cache_dir = Some(folder.path().join("cache"));
        let host = Host::open(&config, &folder.path().join("data")).await.unwrap();
        for door in ["grpc", "http", "relay"] {
            let run = Run::open(&folder.path().join(door), &host).await;
            run.measure(door).await;
        }
    });
}

struct Run {
    stage: Stage,
    folder: std::path::PathBuf,
    scans: Vec<ScanId>,
    ends: Vec<oneshot::Sender<()>>,
}

impl Run {
    /// With its scans running.
    async fn open(folder: &Path, host: &Host) -> Self {
        let filter = Arc::new(host.policy.clone());
        let setting = Setting { witness: false, filter: Some(filter), ..Setting::default() };
        let stage = Stage::open(&folder.join("data"), setting).await;
        let (mut scans, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..SCANS {
            scans.push(stage.submit().await);
            let Cue::Start(_) = stage.cue().await else { panic!("no start") };
            let Cue::Running(end) = stage.cue().await else { panic!("not run") };
            ends.push(end);
        }
        Self { stage, folder: folder.to_owned(), scans, ends }
    }

    async fn measure(self, door: &str) {
        let alerts = self.alerts();
        let total = alerts.len();
        let sent = match door {
            "grpc" => self.grpc(&alerts).await,
            "http" => self.http(&alerts).await,
            _ => self.relay(&alerts).await,
        };
        let seconds = sent.elapsed().as_secs_f64();
        println!(
            "bench intake_{door} alerts_s={:.0} alerts={total} overflowed={} peak_rss_mib={}",
            total as f64 / seconds,
            self.stage.overflowed(),
            peak_rss_mib(),
        );
        drop(self.ends);
        self.stage.close().await;
    }

    /// One after the other for each scan in turn, every one of another file.
    fn alerts(&self) -> Vec<serde_json::Value> {
        let one = |n: usize| {
            let scan = self.scans.get(n % SCANS).unwrap();
            let mut event = event("Read", "842477b01e66", &format!("/home/nina/.cache/f{n}"), n as i64 + 1);
            let fields = &mut event["output_fields"];
            fields["container.name"] = format!("lanner-{scan}").into();
            fields["proc.cmdline"] =
                format!("node /home/nina/project/node_modules/addon/install.js --part {n}").into();
            fields["proc.pname"] = "sh".into();
            fields["proc.pid"] = n.into();
            event
        };
        (0..SCANS * ALERTS_PER_SCAN).map(one).collect()
    }

    /// Falco has them all in its queue when we come.
    async fn grpc(&self, alerts: &[serde_json::Value]) -> Instant {
        let falco = Falco::new("842477b01e66");
        for alert in alerts {
            let fields = alert["output_fields"].as_object().unwrap();
            let fields: Vec<(&str, String)> = fields
                .iter()
                .map(|(name, value)| {
                    (name.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                })
                .collect();
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
            falco.fire("Read", &fields, alert["output_fields"]["evt.time"].as_i64().unwrap());
        }
        let socket = self.folder.join("falco.sock");
        let server = falco.serve(&socket, 43);
        let begun = Instant::now();
        let client = subscribe(&self.stage, "node-1", socket);
        self.stored(alerts.len()).await;
        client.stop().cancel();
        server.stop().cancel();
        begun
    }

    /// As many Falcos as connections, each posting one alert after the other.
    async fn http(&self, alerts: &[serde_json::Value]) -> Instant {
        let bodies: Vec<String> = alerts.iter().map(ToString::to_string).collect();
        let begun = Instant::now();
        let address = self.stage.address;
        let posting = bodies.chunks(bodies.len().div_ceil(CONNECTIONS)).map(|bodies| async move {
            let mut falco = HttpOutput::new(address);
            for body in bodies {
                assert_eq!(falco.post(body.as_bytes()).await, Some(200));
            }
            falco
        });
        // Their connections stay open until all is stored, as Falco's do.
        let _open = join_all(posting).await;
        self.stored(alerts.len()).await;
        begun
    }

    /// Falco's file, as it lies there when the relay starts.
    async fn relay(&self, alerts: &[serde_json::Value]) -> Instant {
        let file = self.folder.join("events.jsonl");
        let lines: String = alerts.iter().map(|a| format!("{a}\n")).collect();
        std::fs::write(&file, lines).unwrap();
        let config = RelayConfig {
            source: Source::File(file),
            to: format!("http://{}", self.stage.address),
            tls: None,
            secret: None,
            spool: self.folder.join("spool"),
            spool_bytes: 1 << 30,
            name: "node-1".into(),
        };
        let begun = Instant::now();
        let tasks = Supervisor::new();
        let kind = TaskKind { on_stop: OnStop::Abort, ..TASK };
        tasks.spawn(kind, lanner::relay::run(config, tasks.clone()));
        self.stored(alerts.len()).await;
        tasks.stop().cancel();
        begun
    }

    /// Waits until so many can be asked for.
    async fn stored(&self, wanted: usize) {
        let database = rusqlite::Connection::open(self.folder.join("data/lanner.db")).unwrap();
        let begun = Instant::now();
        loop {
            let count: i64 = database.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0)).unwrap();
            if usize::try_from(count).unwrap() >= wanted {
                return;
            }
            assert!(
                begun.elapsed() < TOO_LONG,
                "{count} of {wanted} stored, {} overflowed",
                self.stage.overflowed()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn peak_rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
}
