//! Each way in, as its users meet it.

use std::sync::Arc;
use std::time::Duration;

use lanner::intake::Bounds;
use lanner::relay::{RelayConfig, Source};
use lanner::scan::Reach;
use lanner::tasks::{OnStop, Supervisor, TaskKind};
use lanner_core::evidence::GapKind;
use lanner_core::{Priority, ScanState, Verdict};

use crate::stage::{Cue, HttpOutput, Setting, Stage, TASK, event, mark};

const CONTAINER: &str = "842477b01e66";

/// Runs one scan to its end, with `between` while the package runs; Falco speaks through `falco`.
async fn scan_with(
    stage: &Stage,
    falco: &mut HttpOutput,
    between: impl AsyncFnOnce(&mut HttpOutput),
) -> lanner_core::Scan {
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    falco.post(mark(&start, CONTAINER, 1).to_string().as_bytes()).await;
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    between(falco).await;
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    falco.post(mark(&end, CONTAINER, i64::MAX).to_string().as_bytes()).await;
    stage.settled(&id).await
}

#[tokio::test]
async fn http_output_adds_its_alerts_and_vouches_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path(), Setting::default()).await;
    let mut falco = HttpOutput::new(stage.address);
    // Fired before the mark has told whose the container is: it waits.
    falco.post(event("Early", CONTAINER, "/etc/hosts", 0).to_string().as_bytes()).await;
    let scan = scan_with(&stage, &mut falco, async |falco| {
        for time in [10, 11, 11] {
            let body = event("Read shadow", CONTAINER, "/etc/shadow", time).to_string();
            assert_eq!(falco.post(body.as_bytes()).await, Some(200));
        }
        falco.post(event("Elsewhere", "bbbbbbbbbbbb", "/x", 12).to_string().as_bytes()).await;
    })
    .await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Finished, ""));
    let (early, read) =
        (("Early".into(), "/etc/hosts".into(), 1), ("Read shadow".into(), "/etc/shadow".into(), 2));
    assert_eq!(stage.alerts(&scan.id).await, [early, read]);
    let names: Vec<_> =
        scan.evidence.sensors.iter().map(|s| (s.name.as_str(), s.start_mark, s.end_mark)).collect();
    assert_eq!(names, [("falco", true, true), ("builtin", true, true)]);
    let worst = stage.scans.worst(&Reach::All, &scan.id).await.unwrap();
    assert_eq!(scan.verdict(worst, Priority::Notice), Verdict::Alerts);
    let sensors = stage.intake.sensors();
    assert_eq!((sensors[0].name.as_str(), sensors[0].connected, sensors[0].alerts), ("127.0.0.1", true, 7));
    stage.close().await;
}

#[tokio::test]
async fn a_connection_that_changed_between_the_marks_is_a_silenced_sensor() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path(), Setting::default()).await;
    let mut falco = HttpOutput::new(stage.address);
    let scan = scan_with(&stage, &mut falco, async |falco| falco.hang_up()).await;
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::SensorLost));
    assert_eq!(scan.reason, "a sensor was lost while the scan ran: 127.0.0.1: its connection closed");
    let alerts = stage.scans.alerts(&Reach::All, &scan.id).await.unwrap();
    let silenced = &alerts[0].alert;
    assert_eq!(
        (silenced.rule.as_str(), silenced.priority),
        ("Sensor silenced during scan", Priority::Critical)
    );
    stage.close().await;
}

#[tokio::test]
async fn without_the_start_mark_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path(), Setting::default()).await;
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    // Falcosidekick adds alerts and vouches for nothing; a mark that nobody gave out is no mark.
    let mut sidekick = HttpOutput::new(stage.address);
    let body = mark(&start, CONTAINER, 1).to_string();
    assert_eq!(sidekick.post_as("Falcosidekick", "/intake/falco", body.as_bytes()).await, Some(200));
    let forged = mark("00000000000000000000000000000000", CONTAINER, 2).to_string();
    assert_eq!(HttpOutput::new(stage.address).post(forged.as_bytes()).await, Some(200));
    assert!(matches!(stage.cue().await, Cue::Unwitnessed));
    let scan = stage.settled(&id).await;
    assert_eq!(scan.state, ScanState::Incomplete);
    assert!(scan.evidence.gaps.iter().any(|g| g.kind == GapKind::NoStartMark && g.detail == "falco"));
    // The forged mark is an alert of its container.
    assert_eq!(stage.alerts(&id).await, [("Lanner mark".into(), String::new(), 1)]);
    stage.close().await;
}

#[tokio::test]
async fn neither_a_forged_nor_a_replayed_mark_ends_a_scan_and_drops_are_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting { end: Duration::from_millis(500), ..Setting::default() };
    let stage = Stage::open(folder.path(), setting).await;
    let mut falco = HttpOutput::new(stage.address);
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    falco.post(mark(&start, CONTAINER, 1).to_string().as_bytes()).await;
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    for nonce in [start.as_str(), "ffffffffffffffffffffffffffffffff"] {
        falco.post(mark(nonce, CONTAINER, 2).to_string().as_bytes()).await;
    }
    end.send(()).unwrap();
    let Cue::End(_) = stage.cue().await else { panic!("no end") };
    let scan = stage.settled(&id).await;
    assert_eq!(scan.reason, "a sensor did not report the end mark: falco");

    let drops = serde_json::json!({
        "rule": "Falco internal: syscall event drop", "source": "internal", "priority": "Debug",
        "output": "Falco internal: syscall event drop. 1 system calls dropped in last second.",
    });
    let drops = drops.to_string();
    let scan = scan_with(&stage, &mut falco, async |falco| {
        falco.post(drops.as_bytes()).await;
    })
    .await;
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::SensorLost));
    stage.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_or_kept_or_matched_is_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = Bounds { alerts: 0, bytes: 1 << 20 };
    let stage = Stage::open(folder.path(), Setting { bounds, ..Setting::default() }).await;
    let mut falco = HttpOutput::new(stage.address);
    let text = b"07:51:48.576550015: Warning Sensitive file opened".as_slice();
    assert_eq!(falco.post(text).await, Some(422));
    let error = stage.intake.sensors()[0].last_error.clone().unwrap();
    assert_eq!(error, "this is Falco's text output: set json_output: true in falco.yaml");
    // Not on Falco's connection: a body that nobody reads ends it.
    let mut stranger = HttpOutput::new(stage.address);
    assert_eq!(stranger.post_as("x", "/intake/falco/secret", b"{}").await, Some(404));
    // No place for any alert: the scan whose it was hears of it, and marks come through.
    let scan = scan_with(&stage, &mut falco, async |falco| {
        falco.post(event("Lost", CONTAINER, "/x", 3).to_string().as_bytes()).await;
    })
    .await;
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::Limit));
    stage.close().await;

    let stage = Stage::open(folder.path(), Setting::default()).await;
    let mut falco = HttpOutput::new(stage.address);
    falco.post(event("Nobody's", "host", "/x", 3).to_string().as_bytes()).await;
    for _ in 0..200 {
        if stage.intake.unmatched().0 == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (total, samples) = stage.intake.unmatched();
    assert_eq!(
        (total, samples[0].rule.as_str(), samples[0].sensor.as_str()),
        (1, "Nobody's", "falco:127.0.0.1")
    );
    stage.close().await;
}

/// A relay that tails a file of the folder until it is told to stop.
pub(crate) fn relay(address: std::net::SocketAddr, folder: &std::path::Path) -> Arc<Supervisor> {
    start_relay(relay_config(&format!("http://{address}"), folder))
}

pub(crate) fn relay_config(to: &str, folder: &std::path::Path) -> RelayConfig {
    RelayConfig {
        source: Source::File(folder.join("events.jsonl")),
        to: to.to_owned(),
        tls: None,
        secret: None,
        spool: folder.join("spool"),
        spool_bytes: 1 << 30,
        name: "node-1".into(),
    }
}

pub(crate) fn start_relay(config: RelayConfig) -> Arc<Supervisor> {
    let tasks = Arc::new(Supervisor::new());
    let kind = TaskKind { on_stop: OnStop::Abort, ..TASK };
    tasks.spawn(kind, lanner::relay::run(config, (*tasks).clone()));
    tasks
}

pub(crate) fn append(folder: &std::path::Path, line: &serde_json::Value) {
    use std::io::Write;
    let path = folder.join("events.jsonl");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

#[tokio::test]
async fn a_relay_vouches_and_a_host_that_starts_anew_gets_every_alert_once() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("node");
    std::fs::create_dir(&there).unwrap();
    let stage = Stage::open(&folder.path().join("data"), Setting::default()).await;
    let port = stage.address.port();
    let relay = relay(stage.address, &there);
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    append(&there, &mark(&start, CONTAINER, 1));
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    for n in 0..2500 {
        append(&there, &event("Read", CONTAINER, &format!("/f{n}"), 10 + n));
    }
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    append(&there, &mark(&end, CONTAINER, 9999));
    let scan = stage.settled(&id).await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Finished, ""));
    assert_eq!(stage.alerts(&id).await.len(), 2500);

    // The next one is cut short by the host's end; its alerts come when the host is back.
    let cut = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    append(&there, &mark(&start, "cccccccccccc", 20_000));
    let Cue::Running(_end) = stage.cue().await else { panic!("not run") };
    let named = |file: &str, time: i64| {
        let mut event = event("Read", "cccccccccccc", file, time);
        event["output_fields"]["container.name"] = serde_json::json!(format!("lanner-{cut}"));
        event
    };
    append(&there, &named("/before", 20_001));
    while stage.scans.alerts(&Reach::All, &cut).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.close().await;
    append(&there, &named("/while away", 20_002));
    let stage = Stage::open(&folder.path().join("data"), Setting { port, ..Setting::default() }).await;
    append(&there, &named("/after", 20_003));
    let expected: Vec<(String, String, u64)> =
        ["/after", "/before", "/while away"].map(|f| ("Read".into(), f.into(), 1)).into();
    for _ in 0..600 {
        if stage.settled(&cut).await.counts.kept >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(stage.alerts(&cut).await, expected);
    let scan = stage.settled(&cut).await;
    assert_eq!((scan.state, scan.counts.kept), (ScanState::Incomplete, 3));
    relay.stop().cancel();
    stage.close().await;
}
