//! Problem documents (RFC 9457). A code is part of the contract and therefore one of a few; its detail is for people
//! and may change. What went wrong inside stays in the log.

use http::{HeaderValue, Response, StatusCode, header};

use super::{Body, full};

/// The host's own problems; functions have more of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Unauthorized,
    /// Whose a token is cannot be asked at the moment.
    AuthUnavailable,
    Forbidden,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    TooManyListeners,
    Failed,
    NotReady,
    /// Too many requests are with functions already.
    Overloaded,
    FunctionUnavailable,
    FunctionTimeout,
    FunctionTrapped,
    /// A revision that failed before fails still.
    FunctionRefused,
    /// A query, a document or a name is not right.
    BadRequest,
    UnsupportedMediaType,
    Conflict,
    DiskFull,
    /// Where a filter is said to be cannot be asked at the moment.
    SourceUnavailable,
    /// An uploaded filter is refused, by the step that refused it.
    FilterPull,
    FilterSignature,
    FilterFormat,
    FilterImport,
    FilterWorld,
    FilterVersion,
    FilterCompile,
    FilterDescribe,
    FilterSettings,
    FilterTrial,
}

impl Code {
    pub const ALL: [Self; 31] = [
        Self::Unauthorized,
        Self::AuthUnavailable,
        Self::Forbidden,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::TooLarge,
        Self::TooManyListeners,
        Self::Failed,
        Self::NotReady,
        Self::Overloaded,
        Self::FunctionUnavailable,
        Self::FunctionTimeout,
        Self::FunctionTrapped,
        Self::FunctionRefused,
        Self::BadRequest,
        Self::UnsupportedMediaType,
        Self::Conflict,
        Self::DiskFull,
        Self::SourceUnavailable,
        Self::FilterPull,
        Self::FilterSignature,
        Self::FilterFormat,
        Self::FilterImport,
        Self::FilterWorld,
        Self::FilterVersion,
        Self::FilterCompile,
        Self::FilterDescribe,
        Self::FilterSettings,
        Self::FilterTrial,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::AuthUnavailable => "auth-unavailable",
            Self::Forbidden => "forbidden",
            Self::ForeignOrigin => "foreign-origin",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::TooLarge => "too-large",
            Self::TooManyListeners => "too-many-listeners",
            Self::Failed => "failed",
            Self::NotReady => "not-ready",
            Self::Overloaded => "overloaded",
            Self::FunctionUnavailable => "function-unavailable",
            Self::FunctionTimeout => "function-timeout",
            Self::FunctionTrapped => "function-trapped",
            Self::FunctionRefused => "function-refused",
            Self::BadRequest => "bad-request",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Conflict => "conflict",
            Self::DiskFull => "disk-full",
            Self::SourceUnavailable => "source-unavailable",
            Self::FilterPull => "filter-pull",
            Self::FilterSignature => "filter-signature",
            Self::FilterFormat => "filter-format",
            Self::FilterImport => "filter-import",
            Self::FilterWorld => "filter-world",
            Self::FilterVersion => "filter-version",
            Self::FilterCompile => "filter-compile",
            Self::FilterDescribe => "filter-describe",
            Self::FilterSettings => "filter-settings",
            Self::FilterTrial => "filter-trial",
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
            Self::AuthUnavailable
            | Self::TooManyListeners
            | Self::NotReady
            | Self::Overloaded
            | Self::FunctionUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::FunctionTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed | Self::FunctionTrapped => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Conflict => StatusCode::CONFLICT,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::SourceUnavailable => StatusCode::BAD_GATEWAY,
            Self::FunctionRefused
            | Self::FilterPull
            | Self::FilterSignature
            | Self::FilterFormat
            | Self::FilterImport
            | Self::FilterWorld
            | Self::FilterVersion
            | Self::FilterCompile
            | Self::FilterDescribe
            | Self::FilterSettings
            | Self::FilterTrial => StatusCode::UNPROCESSABLE_ENTITY,
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

fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_and_none_is_a_success() {
        let names: std::collections::BTreeSet<_> = Code::ALL.map(Code::as_str).into();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| c.status().is_client_error() || c.status().is_server_error()));
    }
}
