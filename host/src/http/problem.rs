//! Problem documents (RFC 9457). A code is part of the contract and therefore one of a few; its detail is for people
//! and may change. What went wrong inside stays in the log.

use http::{HeaderValue, Response, StatusCode, header};

use super::{Body, full};

/// The host's own problems; functions have more of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Unauthorized,
    Forbidden,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    TooManyListeners,
    Failed,
    NotReady,
}

impl Code {
    pub const ALL: [Self; 10] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::TooLarge,
        Self::TooManyListeners,
        Self::Failed,
        Self::NotReady,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ForeignOrigin => "foreign-origin",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::TooLarge => "too-large",
            Self::TooManyListeners => "too-many-listeners",
            Self::Failed => "failed",
            Self::NotReady => "not-ready",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyListeners | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn answer(self, detail: &str) -> Response<Body> {
        problem(self.status(), self.as_str(), detail)
    }

    pub(crate) fn answer_with(
        self,
        detail: &str,
        name: header::HeaderName,
        value: &'static str,
    ) -> Response<Body> {
        let mut response = self.answer(detail);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

/// `code` is part of the contract, `detail` is for people.
pub(crate) fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("error").to_lowercase();
    let document = serde_json::json!({
        "type": format!("urn:lanner:problem:{code}"), "title": title, "status": status.as_u16(), "code": code,
        "detail": detail,
    });
    let mut response = Response::new(full(document.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
