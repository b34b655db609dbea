//! A Falco with gRPC outputs, played as the real one behaves: it empties its one queue when a request arrives, to whoever
//! asked; what it has handed to a connection is lost with it; fed by the recordings.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use lanner::intake::grpc::{Address, Instance, follow};
use lanner::tasks::{OnStop, Supervisor, TaskKind};
use lanner_core::evidence::GapKind;
use lanner_core::{ScanState, falco};
use lanner_proto::falco::outputs::service_server::{Service, ServiceServer};
use lanner_proto::falco::outputs::{FieldEntry, Request, Response};
use lanner_proto::falco::version;
use prost::Message;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Status, Streaming};

use crate::stage::{Cue, Setting, Stage, TASK};

const CONTAINER: &str = "842477b01e66";

type Queue = Arc<Mutex<VecDeque<Response>>>;

/// Falco's state: what is queued outlives connections, and is gone with the process.
#[derive(Clone, Default)]
struct Falco {
    queue: Queue,
    stop: tokio_util::sync::CancellationToken,
}

#[tonic::async_trait]
impl Service for Falco {
    type subStream = Pin<Box<dyn Stream<Item = Result<Response, Status>> + Send>>;
    type getStream = Self::subStream;

    async fn sub(
        &self,
        request: tonic::Request<Streaming<Request>>,
    ) -> Result<tonic::Response<Self::subStream>, Status> {
        let queue = self.queue.clone();
        let drained =
            request.into_inner().take_while(|r| std::future::ready(r.is_ok())).flat_map(move |_| {
                let waiting: Vec<_> = queue.lock().unwrap().drain(..).map(Ok).collect();
                futures::stream::iter(waiting)
            });
        let stopped = Box::pin(self.stop.clone().cancelled_owned());
        Ok(tonic::Response::new(Box::pin(drained.take_until(stopped))))
    }

    async fn get(&self, _: tonic::Request<Request>) -> Result<tonic::Response<Self::getStream>, Status> {
        let waiting: Vec<_> = self.queue.lock().unwrap().drain(..).map(Ok).collect();
        Ok(tonic::Response::new(Box::pin(futures::stream::iter(waiting))))
    }
}

struct Version {
    minor: u32,
}

#[tonic::async_trait]
impl version::service_server::Service for Version {
    async fn version(
        &self,
        _: tonic::Request<version::Request>,
    ) -> Result<tonic::Response<version::Response>, Status> {
        let minor = self.minor;
        Ok(tonic::Response::new(version::Response { minor, patch: 1, ..version::Response::default() }))
    }
}

impl Falco {
    /// Serves at a socket until the tasks are stopped, connections and all.
    fn serve(&self, socket: &Path, minor: u32) -> Supervisor {
        let _ = std::fs::remove_file(socket);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let tasks = Supervisor::new();
        let this = Self { queue: self.queue.clone(), stop: tasks.stop().clone() };
        let server = tonic::transport::Server::builder()
            .add_service(ServiceServer::new(this))
            .add_service(version::service_server::ServiceServer::new(Version { minor }));
        let stop = tasks.stop().clone();
        tasks.spawn(TASK, async move {
            server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
        });
        tasks
    }

    fn fire(&self, rule: &str, fields: &[(&str, &str)], time: i64) {
        let entry = |(key, value): &(&str, &str)| FieldEntry { key: (*key).into(), value: (*value).into() };
        let mut output_fields: Vec<_> = fields.iter().map(entry).collect();
        output_fields.push(entry(&("container.id", CONTAINER)));
        self.queue.lock().unwrap().push_back(Response {
            time: Some(prost_types::Timestamp { seconds: time, nanos: 0 }),
            priority: 4,
            rule: rule.into(),
            output: format!("{time}: \u{fffd} {rule}").into_bytes(),
            output_fields,
            source: b"syscall".to_vec(),
            ..Response::default()
        });
    }

    fn mark(&self, nonce: &str, time: i64) {
        self.fire(falco::MARK_RULE, &[("proc.args", &format!("mark {nonce}"))], time);
    }
}

fn subscribe(stage: &Stage, socket: PathBuf) -> Supervisor {
    let tasks = Supervisor::new();
    let kind = TaskKind { on_stop: OnStop::Abort, ..TASK };
    let instance = Instance { name: "node-1".into(), address: Address::Unix(socket) };
    tasks.spawn(kind, follow(instance, stage.intake.clone()));
    tasks
}

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
    let falco = Falco::default();
    // Fired while nobody was connected: delivered once, later.
    let recordings = ["stock", "typed", "text", "badutf8-text", "internal"].map(recorded).concat();
    let internal = recorded("internal").len();
    let count = recordings.len();
    falco.queue.lock().unwrap().extend(recordings);
    let server = falco.serve(&socket, 43);
    let client = subscribe(&stage, socket);
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
    let falco = Falco::default();
    let server = falco.serve(&socket, 43);
    let client = subscribe(&stage, socket.clone());
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
    let client = subscribe(&stage, socket.clone());
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
    let server = Falco::default().serve(&socket, 23);
    said("Falco 0.23 has no outputs that can be subscribed to").await;
    client.stop().cancel();
    server.stop().cancel();
    stage.close().await;
}
