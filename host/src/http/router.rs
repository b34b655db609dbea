//! The one way in for clients: names the request, asks the gate, guards the body, and hands over to a function or to one
//! of the host's own routes. What a scan is it does not know.
//!
//! Whatever happens below, each request gets one answer with its id: a panic is a 500, a body that was cut is a 408 or
//! 413 in place of whatever a function made of half a body.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use lanner_core::ScanId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::auth::{Denied, Gate, is_foreign};
use super::body::{Cut, CutFlag, Guarded};
use super::metrics::Metrics;
use super::policies::{self, Policies};
use super::{
    Body, BoxError, Caller, Code, FunctionHandler, document, events, functions, native, openapi, sensors,
};
use crate::config::Role;
use crate::function::Functions;
use crate::intake::Intake;
use crate::scan::Scans;

pub use super::body::BodyLimits;

pub struct Router {
    pub functions: Arc<dyn FunctionHandler>,
    /// Their life cycle.
    pub revisions: Functions,
    pub scans: Scans,
    pub policies: Policies,
    pub gate: Gate,
    pub metrics: Metrics,
    pub limits: BodyLimits,
    pub stop: CancellationToken,
    /// Who may listen to events at the same time.
    pub listeners: Arc<Semaphore>,
    /// Where Falco's alerts come in, if a door for them is open.
    pub intake: Option<Intake>,
    /// Also answer the status natively, for the benchmark.
    pub bench_native: bool,
}

/// How many event streams a host has at the same time.
pub const LISTENERS: usize = 256;

/// Where a path leads.
enum Target {
    OpenApi,
    Events(String),
    Policies(policies::Route),
    Functions(functions::Route),
    NativeStatus(String),
    Sensors,
    Unmatched,
    Function(String),
    Nowhere,
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPEN_API: &str = "/openapi.json";
const NATIVE: &str = "/bench/native-status/";
const EVENTS: &str = "/v1/scans/:id/events";

impl Router {
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let id = parts.headers.get(&REQUEST_ID).and_then(sane_id).unwrap_or_else(new_id);
        let target = self.target(parts.uri.path());
        let route = target.label().to_owned();
        let answered = AssertUnwindSafe(self.answer_at(target, parts, body, &id)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| {
            tracing::error!(request_id = id, route, "answering a request panicked");
            Code::Failed.answer("the service could not do this; its log says why")
        });
        dress(&mut response, &id);
        let status = response.status();
        tracing::debug!(request_id = id, %method, route, status = status.as_u16(), "answered");
        self.metrics.count(&route, &method, status, began.elapsed());
        response
    }

    async fn answer_at<B>(&self, target: Target, parts: Parts, body: B, id: &str) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if self.gate.is_open() && is_foreign(&parts) {
            let detail =
                "without credentials only this machine's own programs are answered, by the name localhost";
            return Code::ForeignOrigin.answer(detail);
        }
        if matches!(target, Target::OpenApi) {
            return match only_get(&parts.method) {
                None => document("application/json", openapi::document(&self.functions.routes()).to_string()),
                Some(refusal) => refusal,
            };
        }
        let caller = match self.gate.admit(&parts.headers, needed(target.label(), &parts.method)).await {
            Ok(who) => Caller { owner: who.owner, reach: who.reach, request_id: id.to_owned() },
            Err(denied) => return refuse(denied),
        };
        match target {
            Target::Events(scan) => match only_get(&parts.method) {
                None => self.events(&caller, &scan).await,
                Some(refusal) => refusal,
            },
            Target::Sensors | Target::Unmatched if only_get(&parts.method).is_some() => {
                Code::MethodNotAllowed.answer_with("this resource answers to GET", header::ALLOW, "GET")
            }
            Target::Sensors => sensors::sensors(self.intake.as_ref()),
            Target::Unmatched => sensors::unmatched(self.intake.as_ref(), &caller),
            Target::Policies(route) => self.policy(route, parts, body, caller).await,
            Target::Functions(route) => {
                let (body, cut) = Guarded::new(body, self.limits);
                let revisions = &self.revisions;
                overrule(
                    functions::answer(revisions, route, &parts, body.boxed_unsync(), &caller).await,
                    &cut,
                )
            }
            Target::NativeStatus(scan) => native::native_status(&self.scans, &caller, &scan).await,
            Target::Function(_) => self.function(parts, body, caller).await,
            Target::OpenApi | Target::Nowhere => Code::NotFound.answer("nothing answers at this path"),
        }
    }

    async fn function<B>(&self, mut parts: Parts, body: B, caller: Caller) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let max = self.limits.max_bytes;
        if body.size_hint().lower() > max {
            return too_large(max);
        }
        // Functions know the caller from the host; the secret is none of their business.
        parts.headers.remove(header::AUTHORIZATION);
        let (body, cut) = Guarded::new(body, self.limits);
        let request = Request::from_parts(parts, body.boxed_unsync());
        let response = self.functions.handle(request, caller).await;
        overrule(response, &cut)
    }

    async fn policy<B>(&self, route: policies::Route, parts: Parts, body: B, caller: Caller) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (body, cut) = Guarded::new(body, self.limits);
        let response = self.policies.answer(route, parts, body.boxed_unsync(), caller).await;
        overrule(response, &cut)
    }

    async fn events(&self, caller: &Caller, scan: &str) -> Response<Body> {
        let Ok(id) = scan.parse::<ScanId>() else { return Code::NotFound.answer("there is no such scan") };
        let Ok(place) = self.listeners.clone().try_acquire_owned() else {
            let detail = "too many clients listen to events already: ask for the scan's state instead";
            return Code::TooManyListeners.answer_with(detail, header::RETRY_AFTER, "10");
        };
        events::events(&self.scans, caller, &id, place, self.stop.clone()).await
    }

    fn target(&self, path: &str) -> Target {
        match path {
            OPEN_API => return Target::OpenApi,
            sensors::SENSORS => return Target::Sensors,
            sensors::UNMATCHED => return Target::Unmatched,
            _ => {}
        }
        if let Some(route) = policies::Route::of(path) {
            return Target::Policies(route);
        }
        if let Some(route) = functions::Route::of(path) {
            return Target::Functions(route);
        }
        let scan = |rest: &str| Some(rest.to_owned()).filter(|id| !id.is_empty() && !id.contains('/'));
        let below = path.strip_prefix("/v1/scans/").and_then(|rest| rest.strip_suffix("/events"));
        if let Some(id) = below.and_then(scan) {
            return Target::Events(id);
        }
        if let Some(id) = path.strip_prefix(NATIVE).filter(|_| self.bench_native).and_then(scan) {
            return Target::NativeStatus(id);
        }
        self.functions.route(path).map_or(Target::Nowhere, |route| Target::Function(route.to_owned()))
    }
}

impl Target {
    fn label(&self) -> &str {
        match self {
            Self::OpenApi => OPEN_API,
            Self::Events(_) => EVENTS,
            Self::Policies(route) => route.label(),
            Self::Functions(route) => route.label(),
            Self::NativeStatus(_) => NATIVE,
            Self::Sensors => sensors::SENSORS,
            Self::Unmatched => sensors::UNMATCHED,
            Self::Function(route) => route,
            Self::Nowhere => "none",
        }
    }
}

/// Reading is reading, and everything else changes something; filters and functions have rules of their own.
pub(super) fn needed(route: &str, method: &Method) -> Role {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let own = policies::Route::needed(route, method).or_else(|| functions::Route::needed(route, method));
    own.unwrap_or(if reads { Role::Read } else { Role::Submit })
}

fn only_get(method: &Method) -> Option<Response<Body>> {
    let wrong = !matches!(*method, Method::GET | Method::HEAD);
    wrong.then(|| Code::MethodNotAllowed.answer_with("this resource answers to GET", header::ALLOW, "GET"))
}

fn refuse(denied: Denied) -> Response<Body> {
    let challenge = "Bearer realm=\"lanner\", Basic realm=\"lanner\", charset=\"UTF-8\"";
    let detail = match denied {
        Denied::Missing => "send a credential as a Bearer token, or as Basic with its name",
        Denied::Wrong => "this credential is not known",
        Denied::Needs(role) => {
            let detail =
                format!("this needs the role {}, which this credential does not have", role.as_str());
            return Code::Forbidden.answer(&detail);
        }
        Denied::NoRole(name) => {
            let detail =
                format!("{name} has no role here: kubernetes.auth.roles names neither it nor a group of it");
            return Code::Forbidden.answer(&detail);
        }
        Denied::Unknown => {
            let detail = "whose this token is cannot be found out at the moment: come again";
            return Code::AuthUnavailable.answer_with(detail, header::RETRY_AFTER, "5");
        }
    };
    Code::Unauthorized.answer_with(detail, header::WWW_AUTHENTICATE, challenge)
}

/// The answer to a body that was cut is not the function's to give; if it got what it needed before, it stands.
fn overrule(response: Response<Body>, cut: &CutFlag) -> Response<Body> {
    match cut.get() {
        Some(_) if response.status().is_success() => response,
        Some(Cut::TooLarge(max)) => too_large(*max),
        Some(Cut::Slow) => closing(Code::RequestTimeout.answer("the body came too slowly: send it again")),
        None => response,
    }
}

fn too_large(max: u64) -> Response<Body> {
    closing(Code::TooLarge.answer(&format!("the body has more than {max} bytes")))
}

/// The rest of the body will not be read.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn dress(response: &mut Response<Body>, id: &str) {
    let failed = !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.remove(header::SERVER);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if failed || !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// A client's own id, if it cannot spoil a log line.
fn sane_id(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    ((1..=64).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

fn new_id() -> String {
    let mut random = [0; 16];
    // Without randomness the id is dull, and the request is answered all the same.
    let _ = getrandom::fill(&mut random);
    format!("{:032x}", u128::from_be_bytes(random))
}

#[cfg(test)]
mod tests;
