//! One revision of a function that can be asked: linked, with its limits and its own pool of instances.
//!
//! An instance serves one request at a time, and as many after another as its manifest says (`reuse`; else one), so a
//! capability always knows on whose behalf it is called. A function that traps, stalls or takes too much memory gives its
//! own caller a problem document and disturbs nobody else: its instance is gone, the next request meets a fresh one.
//!
//! Which revision is asked it does not know. One that was replaced ends its idle instances at once, and what it still
//! answers at a deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime::component::{Component, GuestTaskId};
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, ProxyHandler, ProxyPre, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p2::bindings::ProxyPre as P2Pre;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::capability::{self, GrantError, State};
use crate::engine::{Engine, Limits};
use crate::http::{Body, BoxError, Caller, Code};
use crate::manifest::Function;
use crate::scan::Scans;

/// An instance without work is kept this long.
const IDLE: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_RESPONSE: usize = 64 << 20;

/// Shared by the requests that it answers: gone when it was replaced and the last of them has ended.
pub(super) struct Handler {
    proxy: ProxyHandler<Factory>,
    digest: String,
    number: u64,
    timeout: Duration,
    /// Replaced: instances that idle are ended.
    retired: CancellationToken,
    /// The deadline of those that it still answered when it was replaced is over.
    ended: CancellationToken,
}

/// A request's own: on whose behalf, and whether it may change something.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) dry: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("the component {name} does not fit this host")]
    Link {
        name: String,
        #[source]
        source: wasmtime::Error,
    },
}

impl Handler {
    pub(super) fn new(
        engine: &Engine,
        scans: &Scans,
        function: &Function,
        component: &Component,
        (number, digest): (u64, String),
    ) -> Result<Self, LinkError> {
        let (name, grants, wasmtime) = (function.name.as_str(), &function.grants, engine.wasmtime());
        capability::check(name, component, &grants.capabilities, wasmtime)?;
        let link = |source| LinkError::Link { name: name.to_owned(), source };
        let pre = capability::linker(wasmtime).and_then(|l| l.instantiate_pre(component)).map_err(link)?;
        let pre = match ServicePre::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_) => ProxyPre::P2(P2Pre::new(pre).map_err(link)?),
        };
        let default = Limits::default();
        let limits =
            Limits { memory_bytes: grants.memory_mib.map_or(default.memory_bytes, |m| m << 20), ..default };
        let timeout = grants.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        let retired = CancellationToken::new();
        let factory = Factory {
            engine: wasmtime.clone(),
            pre,
            name: name.into(),
            scans: scans.clone(),
            limits,
            reuse: grants.reuse.unwrap_or(1),
            timeout,
            retired: retired.clone(),
        };
        let proxy = ProxyHandler::new(factory);
        Ok(Self { proxy, digest, number, timeout, retired, ended: CancellationToken::new() })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// No more requests come; those that it answers may end.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Whatever it still answers is cut.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// The permit lives as long as the answer: one that is still being read still holds its instance.
    pub(super) async fn ask(
        self: Arc<Self>,
        request: Request<Body>,
        asked: Asked,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        let request = request.map(|body| body.map_err(into_wasi).boxed_unsync());
        let answer = tokio::select! {
            answer = self.proxy.handle(asked, request) => answer,
            () = self.ended.cancelled() => {
                return Code::FunctionUnavailable.answer("the function was replaced before it answered");
            }
        };
        match answer {
            Ok(response) => response.map(|body| {
                let ended = Box::pin(self.ended.clone().cancelled_owned());
                Answer { body: Limited::new(body, MAX_RESPONSE), ended, _held: (self, permit) }.boxed_unsync()
            }),
            Err(error) => failed(&self.digest, &error),
        }
    }
}

/// Instances that wait for requests end with the last who could have asked them, and let go of what they hold.
impl Drop for Handler {
    fn drop(&mut self) {
        self.retired.cancel();
    }
}

/// An answer's body; whoever reads it keeps the revision alive, until the deadline.
struct Answer {
    body: Limited<WasiBody>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _held: (Arc<Handler>, Option<OwnedSemaphorePermit>),
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending if self.ended.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Some(Err("the function was replaced before its answer ended".into())))
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
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
    retired: CancellationToken,
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
            expiration: Expiration {
                timeout: self.timeout,
                timer: None,
                retired: Box::pin(self.retired.clone().cancelled_owned()),
            },
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
    type RequestData = Asked;

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
        asked: Asked,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        store.data_mut().begin(asked.caller, asked.dry);
        Box::pin(tokio::time::sleep(self.timeout))
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        if let Err(error) = result {
            let component = &*store.data().component;
            tracing::warn!(component, error = format!("{error:#}"), "an instance of a function ended badly");
        }
    }
}

/// Ends an instance that is idle for long or was replaced, or that outlasts its request's time.
struct Expiration {
    timeout: Duration,
    timer: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    retired: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if status == WorkerStatus::Idle && self.retired.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
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
    if error.downcast_ref::<InstantiationError<Asked>>().is_some() {
        let text = "no instance of the function could be made: try again later";
        return Code::FunctionUnavailable.answer(text);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return Code::FunctionTimeout.answer("the function took too much CPU time");
    }
    Code::FunctionTrapped.answer("the function failed before it answered")
}

fn into_wasi(error: BoxError) -> wasmtime_wasi_http::Error {
    tracing::debug!(error, "a request body broke off");
    wasmtime_wasi_http::Error::ConnectionTerminated
}
