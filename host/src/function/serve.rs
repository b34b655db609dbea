//! The function trigger: finds the component that a route names, and lets the revision that serves answer.
//!
//! A semaphore bounds the requests in flight; whoever waits too long for a place is told 503. During a canary the new
//! revision answers its share; where it fails a request that can be asked again, the active one answers that, too.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::Functions;
use super::instance::Asked;
use super::recent::repeatable;
use super::slot::{Canary, Serving, Slot};
use crate::http::{Body, Caller, Code, FunctionHandler};
use crate::manifest::{self, Route};

/// How long a request may wait for its turn.
const TURN: Duration = Duration::from_secs(10);

impl Functions {
    pub async fn handle(&self, request: Request<Body>, caller: Caller) -> Response<Body> {
        let slot = self.matching(request.uri().path()).and_then(|route| self.slot_of(route));
        let Some(slot) = slot else { return Code::NotFound.answer("nothing answers at this path") };
        let turn = tokio::time::timeout(TURN, self.inner.in_flight.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = turn else {
            return Code::Overloaded.answer("too many requests are in flight: try again later");
        };
        let serving = slot.serving();
        let path = repeatable(&request).then(|| request.uri().path_and_query().cloned()).flatten();
        let asked = Asked { caller: caller.clone(), dry: false };
        let response = match &serving.canary {
            None => serving.active.clone().ask(request, asked, Some(permit)).await,
            Some(canary) => compared(&serving, canary, request, asked, permit).await,
        };
        slot.recent.note(path.as_ref(), &caller, response.status());
        response
    }

    fn slot_of(&self, route: &Route) -> Option<&Slot> {
        self.inner.slots.iter().find(|(name, _)| name.as_str() == route.component).map(|(_, slot)| slot)
    }

    fn matching(&self, path: &str) -> Option<&Route> {
        let fitting = self.inner.routes.iter().filter_map(|r| Some((manifest::fit(&r.route, path)?, r)));
        fitting.max_by_key(|(score, _)| *score).map(|(_, route)| route)
    }
}

async fn compared(
    serving: &Serving,
    canary: &Canary,
    request: Request<Body>,
    asked: Asked,
    permit: OwnedSemaphorePermit,
) -> Response<Body> {
    let began = Instant::now();
    if !canary.takes_next() {
        let response = serving.active.clone().ask(request, asked, Some(permit)).await;
        canary.old.note(began.elapsed(), response.status().is_server_error());
        return response;
    }
    let again = repeatable(&request).then(|| copy(&request));
    let response = canary.handler.clone().ask(request, asked.clone(), Some(permit)).await;
    let failed = response.status().is_server_error();
    canary.new.note(began.elapsed(), failed);
    match again {
        // Its place went with the failed answer; one more, for a moment, is within what the engine holds.
        Some(request) if failed => serving.active.clone().ask(request, asked, None).await,
        _ => response,
    }
}

/// The same request, where there is no body.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copied = Request::new(Body::default());
    *copied.method_mut() = request.method().clone();
    *copied.uri_mut() = request.uri().clone();
    *copied.headers_mut() = request.headers().clone();
    *copied.version_mut() = request.version();
    copied
}

impl FunctionHandler for Functions {
    fn route(&self, path: &str) -> Option<&str> {
        self.matching(path).map(|r| r.route.as_str())
    }

    fn routes(&self) -> Vec<String> {
        self.inner.routes.iter().map(|r| r.route.clone()).collect()
    }

    fn handle(&self, request: Request<Body>, caller: Caller) -> BoxFuture<'_, Response<Body>> {
        Box::pin(Self::handle(self, request, caller))
    }
}
