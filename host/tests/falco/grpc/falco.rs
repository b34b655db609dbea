//! A Falco with gRPC outputs, played as the real one behaves: it empties its one queue when a request arrives, to whoever
//! asked; what it has handed to a connection is lost with it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use lanner::intake::grpc::{Address, Instance, follow};
use lanner::tasks::{OnStop, Supervisor, TaskKind};
use lanner_core::falco;
use lanner_proto::falco::outputs::service_server::{Service, ServiceServer};
use lanner_proto::falco::outputs::{FieldEntry, Request, Response};
use lanner_proto::falco::version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Status, Streaming};

use crate::stage::{Stage, TASK};

pub(crate) type Queue = Arc<Mutex<VecDeque<Response>>>;

/// Falco's state: what is queued outlives connections, and is gone with the process.
#[derive(Clone)]
pub(crate) struct Falco {
    pub(crate) queue: Queue,
    container: String,
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
    pub(crate) fn new(container: &str) -> Self {
        Self { queue: Queue::default(), container: container.to_owned(), stop: Default::default() }
    }

    /// Serves at a socket until the tasks are stopped, connections and all.
    pub(crate) fn serve(&self, socket: &Path, minor: u32) -> Supervisor {
        let _ = std::fs::remove_file(socket);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        self.serve_on(Server::builder(), incoming, minor)
    }

    pub(crate) fn serve_on<I, S>(&self, mut server: Server, incoming: I, minor: u32) -> Supervisor
    where
        I: Stream<Item = std::io::Result<S>> + Send + 'static,
        S: Connected + AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tasks = Supervisor::new();
        let this = Self { stop: tasks.stop().clone(), ..self.clone() };
        let server = server
            .add_service(ServiceServer::new(this))
            .add_service(version::service_server::ServiceServer::new(Version { minor }));
        let stop = tasks.stop().clone();
        tasks.spawn(TASK, async move {
            server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
        });
        tasks
    }

    pub(crate) fn fire(&self, rule: &str, fields: &[(&str, &str)], time: i64) {
        let entry = |(key, value): &(&str, &str)| FieldEntry { key: (*key).into(), value: (*value).into() };
        let mut output_fields: Vec<_> = fields.iter().map(entry).collect();
        output_fields.push(entry(&("container.id", &self.container)));
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

    pub(crate) fn mark(&self, nonce: &str, time: i64) {
        self.fire(falco::MARK_RULE, &[("proc.args", &format!("mark {nonce}"))], time);
    }
}

pub(crate) fn subscribe(stage: &Stage, name: &str, socket: PathBuf) -> Supervisor {
    subscribe_at(stage, name, Address::Unix(socket))
}

pub(crate) fn subscribe_at(stage: &Stage, name: &str, address: Address) -> Supervisor {
    let tasks = Supervisor::new();
    let kind = TaskKind { on_stop: OnStop::Abort, ..TASK };
    let instance = Instance { name: name.into(), address };
    tasks.spawn(kind, follow(instance, stage.intake.clone()));
    tasks
}
