//! Falco's gRPC outputs, fed by the recordings.

use std::time::Duration;

use lanner_core::ScanState;
use lanner_core::evidence::GapKind;
use lanner_proto::falco::outputs::Response;
use prost::Message;

use crate::stage::{Cue, Setting, Stage};

mod falco;

pub(crate) use falco::{Falco, subscribe, subscribe_at};

const CONTAINER: &str = "842477b01e66";

/// The messages of a recording.
fn recorded(name: &str) -> Vec<Response> {
    let path = format!("{}/core/testdata/falco/{name}.grpc.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut all) = (bytes.as_slice(), Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (message, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        all.push(Response::decode(message).unwrap());
        rest = tail;
    }
    all
}

#[tokio::test]
async fn an_unbroken_stream_vouches_and_every_recorded_alert_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(&folder.path().join("data"), Setting::default()).await;
    let socket = folder.path().join("falco.sock");
    let falco = Falco::new(CONTAINER);
    // Fired while nobody was connected: delivered once, later.
    let recordings = ["stock", "typed", "text", "badutf8-text", "internal"].map(recorded).concat();
    let internal = recorded("internal").len();
    let count = recordings.len();
    falco.queue.lock().unwrap().extend(recordings);
    let server = falco.serve(&socket, 43);
    let client = subscribe(&stage, "node-1", socket);
    let arrived = async {
        while stage.intake.sensors().first().is_none_or(|s| s.alerts < count as u64) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::stage::PATIENCE, arrived).await.unwrap();
    let sensor = stage.intake.sensors().remove(0);
    assert_eq!((sensor.version.as_deref(), sensor.refused, sensor.vouches), (Some("0.43.1"), 0, true));

    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    falco.mark(&start, 1);
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    falco.fire("Read", &[("fd.name", "/etc/shadow")], 2);
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    falco.mark(&end, 3);
    let scan = stage.settled(&id).await;
    assert_eq!((scan.state, scan.reason.as_str()), (ScanState::Finished, ""));
    let alerts = stage.alerts(&id).await;
    assert!(alerts.contains(&("Read".into(), "/etc/shadow".into(), 1)), "{alerts:?}");
    // The recorded ones of the same container waited for the mark to tell whose it is.
    assert!(alerts.len() > 5, "{alerts:?}");
    assert!(count > internal + alerts.len(), "those of the machine itself are nobody's");
    client.stop().cancel();
    server.stop().cancel();
    stage.close().await;
}

#[tokio::test]
async fn a_falco_that_goes_away_is_a_silenced_sensor_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(&folder.path().join("data"), Setting::default()).await;
    let socket = folder.path().join("falco.sock");
    let falco = Falco::new(CONTAINER);
    let server = falco.serve(&socket, 43);
    let client = subscribe(&stage, "node-1", socket.clone());
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    falco.mark(&start, 1);
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    falco.fire("Read", &[("fd.name", "/x")], 2);
    while stage.alerts(&id).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().cancel();
    drop(server);
    while stage.alerts(&id).await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let server = falco.serve(&socket, 43);
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    falco.mark(&end, 3);
    let scan = stage.settled(&id).await;
    assert_eq!((scan.state, scan.evidence.gaps[0].kind), (ScanState::Incomplete, GapKind::SensorLost));
    let names: Vec<_> = stage.alerts(&id).await.into_iter().map(|a| a.0).collect();
    assert_eq!(names, ["Read", "Sensor silenced during scan"]);

    // The next scan has its witness again.
    let id = stage.submit().await;
    let Cue::Start(start) = stage.cue().await else { panic!("no start") };
    falco.mark(&start, 4);
    let Cue::Running(end) = stage.cue().await else { panic!("not run") };
    end.send(()).unwrap();
    let Cue::End(end) = stage.cue().await else { panic!("no end") };
    falco.mark(&end, 5);
    assert_eq!(stage.settled(&id).await.state, ScanState::Finished);
    client.stop().cancel();
    server.stop().cancel();
    stage.close().await;
}

#[tokio::test]
async fn a_falco_that_is_too_old_or_away_is_shown_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(&folder.path().join("data"), Setting::default()).await;
    let socket = folder.path().join("falco.sock");
    let client = subscribe(&stage, "node-1", socket.clone());
    let said = async |words: &str| {
        for _ in 0..600 {
            let error = stage.intake.sensors().first().and_then(|s| s.last_error.clone()).unwrap_or_default();
            if error.contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", stage.intake.sensors());
    };
    said("it cannot be connected to").await;
    let server = Falco::new(CONTAINER).serve(&socket, 23);
    said("Falco 0.23 has no outputs that can be subscribed to").await;
    client.stop().cancel();
    server.stop().cancel();
    stage.close().await;
}
