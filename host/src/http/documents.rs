//! Documents of the host's own routes, in and out: bounded, checked, and each mistake told as a problem.

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use lanner_core::Name;
use lanner_core::text::{bounded, escaped};
use serde_json::Value;

use super::{Body, Code, document};

pub(super) const JSON: &str = "application/json";

/// An answer that is a problem, or one that is not.
pub(super) type Answer = Result<Response<Body>, Problem>;

/// A problem on its way out, in a box: it is large, and the rarer end.
pub(super) struct Problem(Box<Response<Body>>);

impl From<Response<Body>> for Problem {
    fn from(response: Response<Body>) -> Self {
        Self(Box::new(response))
    }
}

pub(super) fn told(answer: Answer) -> Response<Body> {
    answer.unwrap_or_else(|problem| *problem.0)
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = document(JSON, value.to_string());
    *response.status_mut() = status;
    response
}

pub(super) fn named(name: &str) -> Result<Name, Problem> {
    name.parse().map_err(|e: lanner_core::revision::BadName| Code::BadRequest.answer(&e.to_string()).into())
}

pub(super) fn query<T: serde::de::DeserializeOwned>(parts: &Parts) -> Result<T, Problem> {
    let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
    query.map(|q| q.0).map_err(|e| {
        let text = escaped(&bounded(&e.body_text(), 200));
        Code::BadRequest.answer(&text.to_lowercase()).into()
    })
}

pub(super) fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        let text = escaped(&bounded(&e.to_string(), 200));
        Code::BadRequest.answer(&format!("the document is not right: {text}")).into()
    })
}

/// Which of the revisions of a name; the natural one if none is named.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    pub(super) revision: Option<u64>,
}

/// The revision that a body names, if there is one.
pub(super) async fn which(body: Body, most: usize) -> Result<Option<u64>, Problem> {
    let bytes = limited(body, most, "document").await?;
    if bytes.is_empty() { Ok(None) } else { Ok(parsed::<Which>(&bytes)?.revision) }
}

/// With an error of one type: what is generic over boxed ones cannot be sent between threads here.
pub(super) fn plain(
    body: Body,
) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static {
    body.map_err(|error| std::io::Error::other(error.to_string()))
}

/// A whole body; `what` it is, for whoever sent too much.
pub(super) async fn limited(body: Body, most: usize, what: &str) -> Result<Bytes, Problem> {
    match Limited::new(plain(body), most).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Code::TooLarge.answer(&format!("the {what} has more than {most} bytes")).into())
        }
        Err(_) => Err(Code::BadRequest.answer("the body ended before it was complete").into()),
    }
}
