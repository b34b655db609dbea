//! The function trigger: finds the component that a route names, and lets one of its instances answer.
//!
//! An instance serves one request at a time, and as many after another as its manifest says (`reuse`; else one), so a
//! capability always knows on whose behalf it is called. A semaphore bounds the requests in flight; whoever waits too
//! long for a place is told 503. A function that traps, stalls or takes too much memory gives its own caller a problem
//! document and disturbs nobody else: its instance is gone, the next request meets a fresh one.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, ProxyHandler, ProxyPre, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p2::bindings::ProxyPre as P2Pre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::{Body, Caller, Code, FunctionHandler};
use crate::capability::{self, GrantError, State};
use crate::engine::{Engine, EngineError, Limits, Wasm};
use crate::manifest::{self, Function, Manifest, ManifestError, Route};
use crate::scan::Scans;

/// Requests in flight over all functions; each holds at most one instance.
const IN_FLIGHT: usize = 256;
/// How long a request may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// An instance without work is kept this long.
const IDLE: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_RESPONSE: usize = 64 << 20;

/// The functions of an app, ready to answer.
pub struct Functions {
    routes: Vec<Route>,
    handlers: BTreeMap<String, Handler>,
    in_flight: Arc<Semaphore>,
}

struct Handler {
    proxy: ProxyHandler<Factory>,
    digest: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("the component {name} cannot be read from {path}")]
    Source {
        name: String,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the component {name} does not fit this host")]
    Link {
        name: String,
        #[source]
        source: wasmtime::Error,
    },
}

const MANIFEST: &str = include_str!("../../../spin.toml");
const EMBEDDED: [(&str, &[u8]); 3] = [
    ("submit", include_bytes!(concat!(env!("OUT_DIR"), "/submit.wasm"))),
    ("status", include_bytes!(concat!(env!("OUT_DIR"), "/status.wasm"))),
    ("alerts", include_bytes!(concat!(env!("OUT_DIR"), "/alerts.wasm"))),
];

impl Functions {
    /// The built-in app, or the one at `DIR/spin.toml`.
    pub fn load(engine: &Engine, scans: &Scans, app: Option<&Path>) -> Result<Self, AppError> {
        let (manifest, folder) = match app {
            Some(path) => (Manifest::read(path)?, path.parent()),
            None => (Manifest::parse("the built-in spin.toml", MANIFEST)?, None),
        };
        let mut handlers = BTreeMap::new();
        for function in manifest.functions() {
            let wasm = match folder {
                Some(folder) => read(&function, folder)?,
                None => embedded(&function)?,
            };
            handlers.insert(function.name.clone(), Handler::new(engine, scans, &function, wasm)?);
        }
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        Ok(Self { routes: manifest.routes().to_vec(), handlers, in_flight })
    }

    /// The route that a path meets, for metrics: from the manifest, so a closed set.
    pub fn route(&self, path: &str) -> Option<&str> {
        self.matching(path).map(|r| r.route.as_str())
    }

    /// Component and digest of each function.
    pub fn digests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.handlers.iter().map(|(name, handler)| (name.as_str(), handler.digest.as_str()))
    }

    pub async fn handle(&self, request: Request<Body>, caller: Caller) -> Response<Body> {
        let Some(handler) = self.matching(request.uri().path()).and_then(|r| self.handlers.get(&r.component))
        else {
            return Code::NotFound.answer("nothing answers at this path");
        };
        let turn = tokio::time::timeout(TURN, self.in_flight.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = turn else {
            return Code::Overloaded.answer("too many requests are in flight: try again later");
        };
        let request = request.map(|body| body.map_err(into_wasi).boxed_unsync());
        match handler.proxy.handle(caller, request).await {
            Ok(response) => response.map(|body| {
                // The permit lives as long as the body: an answer that is still being read still holds its instance.
                let body = Limited::new(body, MAX_RESPONSE);
                body.map_frame(move |frame| {
                    let _held = &permit;
                    frame
                })
                .boxed_unsync()
            }),
            Err(error) => failed(&handler.digest, &error),
        }
    }

    fn matching(&self, path: &str) -> Option<&Route> {
        let fitting = self.routes.iter().filter_map(|r| Some((manifest::fit(&r.route, path)?, r)));
        fitting.max_by_key(|(score, _)| *score).map(|(_, route)| route)
    }
}

impl FunctionHandler for Functions {
    fn route(&self, path: &str) -> Option<&str> {
        Self::route(self, path)
    }

    fn routes(&self) -> Vec<String> {
        self.routes.iter().map(|r| r.route.clone()).collect()
    }

    fn handle(&self, request: Request<Body>, caller: Caller) -> BoxFuture<'_, Response<Body>> {
        Box::pin(Self::handle(self, request, caller))
    }
}

fn read(function: &Function, folder: &Path) -> Result<Vec<u8>, AppError> {
    let path = folder.join(&function.source);
    std::fs::read(&path).map_err(|source| AppError::Source {
        name: function.name.clone(),
        path: path.display().to_string(),
        source,
    })
}

fn embedded(function: &Function) -> Result<Vec<u8>, AppError> {
    let found = EMBEDDED.iter().find(|(name, _)| *name == function.name).map(|(_, wasm)| wasm.to_vec());
    found.ok_or_else(|| AppError::Source {
        name: function.name.clone(),
        path: "this program".into(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

impl Handler {
    fn new(engine: &Engine, scans: &Scans, function: &Function, wasm: Vec<u8>) -> Result<Self, AppError> {
        let wasm = Wasm::new(wasm);
        let component = engine.load(&function.name, &wasm)?;
        let wasmtime = engine.wasmtime();
        capability::check(&function.name, &component, &function.grants.capabilities, wasmtime)?;
        let link = |source| AppError::Link { name: function.name.clone(), source };
        let pre = capability::linker(wasmtime).and_then(|l| l.instantiate_pre(&component)).map_err(link)?;
        let pre = match ServicePre::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_) => ProxyPre::P2(P2Pre::new(pre).map_err(link)?),
        };
        let default = Limits::default();
        let limits = Limits {
            memory_bytes: function.grants.memory_mib.map_or(default.memory_bytes, |m| m << 20),
            ..default
        };
        let factory = Factory {
            engine: wasmtime.clone(),
            pre,
            name: function.name.as_str().into(),
            scans: scans.clone(),
            limits,
            reuse: function.grants.reuse.unwrap_or(1),
            timeout: function.grants.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis),
        };
        Ok(Self { proxy: ProxyHandler::new(factory), digest: wasm.digest().to_owned() })
    }
}

/// Makes instances of one function.
struct Factory {
    engine: wasmtime::Engine,
    pre: ProxyPre<State>,
    name: Arc<str>,
    scans: Scans,
    limits: Limits,
    reuse: usize,
    timeout: Duration,
}

impl HandlerState for Factory {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Worker>> {
        let state = State::new(self.name.clone(), self.scans.clone(), self.limits.store());
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        let most = self.limits.epochs;
        // Called in each epoch in which the guest runs, and never while it waits: so this counts CPU time. Yielding lets
        // timers and other requests have their turn.
        store.epoch_deadline_callback(move |mut store| {
            let state = store.data_mut();
            state.epochs_run += 1;
            if state.epochs_run > most { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        store.set_epoch_deadline(1);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: |state| state.http(),
            expiration: Expiration { timeout: self.timeout, timer: None },
            state: Worker { reuse: self.reuse, timeout: self.timeout },
        })
    }
}

/// One instance's rules: one request at a time, so many in all.
struct Worker {
    reuse: usize,
    timeout: Duration,
}

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = Caller;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse {
            ShouldAccept::Never
        } else if concurrent > 0 {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, State>,
        caller: Caller,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        store.data_mut().begin(caller);
        Box::pin(tokio::time::sleep(self.timeout))
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        if let Err(error) = result {
            let component = &*store.data().component;
            tracing::warn!(component, error = format!("{error:#}"), "an instance of a function ended badly");
        }
    }
}

/// Ends an instance that is idle for long, or that outlasts its request's time.
struct Expiration {
    timeout: Duration,
    timer: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let limit = match status {
            WorkerStatus::Idle => IDLE,
            // A little later than the request's own timer, which answers its caller.
            WorkerStatus::Requests => self.timeout + Duration::from_secs(1),
            WorkerStatus::PostReturn => self.timeout,
        };
        let end = start + limit;
        if self.timer.as_ref().is_none_or(|(at, _)| *at != end) {
            self.timer = Some((end, Box::pin(tokio::time::sleep_until(end.into()))));
        }
        match self.timer.as_mut() {
            Some((_, timer)) => timer.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// What the caller of a failed function is told; the log has the rest.
fn failed(digest: &str, error: &wasmtime::Error) -> Response<Body> {
    if error.downcast_ref::<ExpirationError>().is_some() {
        return Code::FunctionTimeout.answer("the function did not answer in time");
    }
    tracing::warn!(digest, error = format!("{error:#}"), "a function failed");
    if error.downcast_ref::<InstantiationError<Caller>>().is_some() {
        let text = "no instance of the function could be made: try again later";
        return Code::FunctionUnavailable.answer(text);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return Code::FunctionTimeout.answer("the function took too much CPU time");
    }
    Code::FunctionTrapped.answer("the function failed before it answered")
}

fn into_wasi(error: super::BoxError) -> wasmtime_wasi_http::Error {
    tracing::debug!(error, "a request body broke off");
    wasmtime_wasi_http::Error::ConnectionTerminated
}
