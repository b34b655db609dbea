//! HTTP: what comes in, who asks, which function answers. Routes translate; what a scan is they leave to `scan`.
//!
//! `router` is the one way in for clients, `admin` for operators' machines; neither knows of sockets (`net` does). Every
//! answer that is not a success is a problem document of `problem`.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use lanner_core::Owner;

use crate::scan::Reach;

pub mod admin;
pub mod auth;
mod body;
mod documents;
mod events;
pub mod functions;
pub mod metrics;
mod native;
pub mod openapi;
pub mod policies;
mod problem;
mod refresh;
pub mod router;
mod sensors;

pub use native::native_status;
pub use problem::Code;

/// A body on its way in or out: streamed, never whole.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// On whose behalf a function runs: set by the host after authentication, never by a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub owner: Owner,
    pub reach: Reach,
    pub request_id: String,
}

/// Where the router's routes lead that are not the host's own.
pub trait FunctionHandler: Send + Sync + 'static {
    /// The pattern that a path meets: one of a closed set, fit for a metric's label.
    fn route(&self, path: &str) -> Option<&str>;
    /// All patterns, as in `spin.toml`.
    fn routes(&self) -> Vec<String>;
    fn handle(&self, request: Request<Body>, caller: Caller) -> BoxFuture<'_, Response<Body>>;
}

/// A whole text as a body.
pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    use http_body_util::{BodyExt, Full};
    Full::from(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// 200 with a document.
pub(crate) fn document(kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
