//! Speaks to registries: one call with whatever it takes (a password, a token, patience, a way round), bounded in each.
//!
//! It knows no manifest and no Wasm; `fetch` and `store` are built on it. Its only state is the tokens that it was given.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use crate::auth::{Action, Asking, Authorization, challenge, refused};
use crate::credentials::{self, Credential};
use crate::error::OciError;
use crate::place::{base, follow, name, path, same_origin};
use crate::reference::Reference;
use crate::settings::{BlobRedirects, Settings};
use crate::transport::{Limit, Reach, Transport, came_from_public};

/// The one way to registries. Cheap to share behind an `Arc`; settings that change need a new one.
pub struct Registry {
    pub(crate) settings: Settings,
    pub(crate) transport: Transport,
    tokens: Mutex<HashMap<(String, String, Action), Authorization>>,
}

/// One request to a registry, in its own terms.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) action: Action,
    /// For messages: "the manifest of …".
    pub(crate) what: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) is_blob: bool,
}

pub(crate) struct Answer {
    pub(crate) host: String,
    pub(crate) response: Response<Incoming>,
}

/// What is left of our patience in one call.
struct Patience {
    challenged: bool,
    waits: u32,
    hops: u32,
}

const MAX_WAITS: u32 = 3;
const MAX_HOPS: u32 = 3;
/// How long we wait for a busy registry that does not say.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// Tokens are few: one a repository. More than this, and all are asked for anew.
const MAX_TOKENS: usize = 1000;
/// Of what a registry says about an error.
const MAX_DETAIL: u64 = 16 << 10;

impl Registry {
    /// Fails if the certificates cannot be read or the user agent is no header.
    pub fn new(settings: Settings) -> Result<Self, OciError> {
        let transport = Transport::new(&settings)?;
        Ok(Self { settings, transport, tokens: Mutex::default() })
    }

    /// A verb within the deadline.
    pub(crate) async fn within<T>(
        &self,
        verb: impl Future<Output = Result<T, OciError>>,
    ) -> Result<T, OciError> {
        let after = self.settings.limits.deadline;
        tokio::time::timeout(after, verb).await.unwrap_or(Err(OciError::Deadline { after }))
    }

    pub(crate) fn own(&self, at: &Reference) -> Result<Url, OciError> {
        base(at, self.settings.plain_http)
    }

    pub(crate) fn url(&self, at: &Reference, rest: &str) -> Result<Url, OciError> {
        Ok(path(&self.own(at)?, at.repository(), rest))
    }

    /// Sends until there is an answer that is neither a challenge, nor a request to wait, nor a way elsewhere.
    pub(crate) async fn call(&self, at: &Reference, call: Call<'_>) -> Result<Answer, OciError> {
        let own = self.own(at)?;
        let mut patience = Patience { challenged: false, waits: 0, hops: 0 };
        let (mut url, mut reach) = (call.url.clone(), Reach::Near);
        loop {
            let is_home = same_origin(&url, &own);
            let host = name(&url);
            let request = self.request(at, &call, &url, is_home)?;
            let response = self.transport.send(reach, &host, request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if is_home && !patience.challenged => {
                    patience.challenged = true;
                    self.authorize(at, &own, &call, &response).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(self.denied(at, &call, host).await?);
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    self.wait(&mut patience, &host, &response, Some(SHORT_WAIT)).await?;
                }
                StatusCode::SERVICE_UNAVAILABLE if response.headers().contains_key(RETRY_AFTER) => {
                    self.wait(&mut patience, &host, &response, None).await?;
                }
                status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                    (url, reach) = self.elsewhere(&own, &url, &call, &mut patience, &response)?;
                }
                _ => return Ok(Answer { host, response }),
            }
        }
    }

    fn request(
        &self,
        at: &Reference,
        call: &Call<'_>,
        url: &Url,
        is_home: bool,
    ) -> Result<Request<Bytes>, OciError> {
        let built = Request::builder().method(call.method.clone()).uri(url.as_str()).body(call.body.clone());
        let mut request = built.map_err(|e| OciError::Answer {
            host: at.registry().to_owned(),
            what: call.what.to_owned(),
            why: e.to_string(),
        })?;
        // Elsewhere gets to know what kind of answer we read, and nothing else.
        for name in [ACCEPT, CONTENT_TYPE, IF_NONE_MATCH] {
            if let Some(value) = call.headers.get(&name).filter(|_| is_home || name == ACCEPT) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        if is_home && let Some(known) = self.known(at, call.action) {
            request.headers_mut().insert(AUTHORIZATION, known.header);
        }
        Ok(request)
    }

    async fn authorize(
        &self,
        at: &Reference,
        own: &Url,
        call: &Call<'_>,
        response: &Response<Incoming>,
    ) -> Result<(), OciError> {
        let credential = self.credential(at).await?;
        let denied =
            |why| OciError::Denied { host: at.registry().to_owned(), what: call.what.to_owned(), why };
        let challenge = challenge(response.headers())
            .ok_or_else(|| denied("it asks for neither a Basic nor a Bearer authorization".to_owned()))?;
        let asking = Asking {
            transport: &self.transport,
            own,
            own_is_public: came_from_public(response),
            repository: at.repository(),
            action: call.action,
        };
        let met = asking.meet(challenge, &credential).await?;
        let authorization = met.ok_or_else(|| denied(refused(&credential)))?;
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(key(at, call.action), authorization);
        Ok(())
    }

    async fn denied(&self, at: &Reference, call: &Call<'_>, host: String) -> Result<OciError, OciError> {
        // What was refused is not tried again: the next call begins without it.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(at, call.action));
        let why = refused(&self.credential(at).await?);
        Ok(OciError::Denied { host, what: call.what.to_owned(), why })
    }

    async fn credential(&self, at: &Reference) -> Result<Credential, OciError> {
        Ok(credentials::find(&self.settings, at.registry()).await?)
    }

    fn known(&self, at: &Reference, action: Action) -> Option<Authorization> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&key(at, action)).filter(|known| known.is_good()).cloned()
    }

    async fn wait(
        &self,
        patience: &mut Patience,
        host: &str,
        response: &Response<Incoming>,
        otherwise: Option<Duration>,
    ) -> Result<(), OciError> {
        let busy = |after| OciError::Busy { host: host.to_owned(), after };
        let asked = response.headers().get(RETRY_AFTER).and_then(|v| retry_after(v.to_str().ok()?));
        let after = asked.or(otherwise).ok_or_else(|| busy(None))?;
        if after > self.settings.limits.retry_after {
            return Err(busy(Some(after)));
        }
        patience.waits += 1;
        if patience.waits > MAX_WAITS {
            return Err(busy(None));
        }
        tracing::debug!(host, seconds = after.as_secs(), "the registry asks us to wait");
        tokio::time::sleep(after).await;
        Ok(())
    }

    fn elsewhere(
        &self,
        own: &Url,
        from: &Url,
        call: &Call<'_>,
        patience: &mut Patience,
        response: &Response<Incoming>,
    ) -> Result<(Url, Reach), OciError> {
        let host = name(from);
        let refuse = |why: String| OciError::Redirect { host, what: call.what.to_owned(), why };
        patience.hops += 1;
        if patience.hops > MAX_HOPS {
            return Err(refuse(format!("more than {MAX_HOPS} times")));
        }
        if call.method != Method::GET && call.method != Method::HEAD {
            return Err(refuse("and nothing is written elsewhere".to_owned()));
        }
        let Some(to) = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()) else {
            return Err(refuse("without saying where".to_owned()));
        };
        let may = call.is_blob && self.settings.blob_redirects == BlobRedirects::Https;
        follow(own, from, to, may, came_from_public(response)).map_err(refuse)
    }

    /// The error for an answer that is none of those expected, with what the registry says about it.
    pub(crate) async fn unexpected(&self, answer: Answer, what: &str) -> OciError {
        let Answer { host, response } = answer;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return OciError::NotFound { host, what: what.to_owned() };
        }
        let limit = Limit { what, bytes: MAX_DETAIL, key: "" };
        let said = self.transport.read(&host, response, limit).await.unwrap_or_default();
        let detail = detail(&said);
        OciError::Status { host, what: what.to_owned(), status: status.as_u16(), detail }
    }
}

fn key(at: &Reference, action: Action) -> (String, String, Action) {
    (at.registry().to_owned(), at.repository().to_owned(), action)
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(then.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
}

/// The first message of a registry's error document.
fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        message: String,
    }
    let errors = serde_json::from_slice::<Errors>(body).map(|e| e.errors).unwrap_or_default();
    errors.into_iter().next().map(|one| one.message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "long ago");
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn verbs_can_run_on_any_thread() {
        fn on_any_thread<T: Send>(_: T) {}
        let registry = Registry::new(Settings::default()).unwrap();
        let at: Reference = "registry.invalid/a:1".parse().unwrap();
        let pinned = at.at(crate::Digest::of(b""));
        on_any_thread(registry.resolve(&at, None));
        on_any_thread(registry.pull(&pinned));
        on_any_thread(registry.pull_app(&pinned));
    }
}
