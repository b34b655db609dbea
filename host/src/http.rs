//! HTTP: what comes in, who asks, which function answers. Routes translate; what a scan is they leave to `scan`.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use lanner_core::Owner;

use crate::scan::Reach;

pub mod trigger;

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

/// RFC 9457: `code` is part of the contract, `detail` is for people.
pub(crate) fn problem(status: http::StatusCode, code: &str, detail: &str) -> http::Response<Body> {
    use http_body_util::{BodyExt, Full};
    let title = status.canonical_reason().unwrap_or("error").to_lowercase();
    let document = serde_json::json!({
        "type": format!("urn:lanner:problem:{code}"), "title": title, "status": status.as_u16(), "code": code,
        "detail": detail,
    });
    let body = Full::from(document.to_string()).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
