//! Turns a registry's 401 into an `Authorization` header: the password itself (Basic), or a token that its token service
//! gives for it (Bearer).
//!
//! The registry names the token service, and gets to see no more by that than the password that it may ask for anyway.
//! The scope is ours, not the one that it asks for. A token goes to that registry and repository only.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request};
use serde::Deserialize;
use url::Url;

use crate::credentials::{Credential, Secret};
use crate::error::OciError;
use crate::place::{follow, name};
use crate::text::shown;
use crate::transport::{Limit, Transport};

/// What a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Pull,
    Push,
}

/// What was shown to a registry, and how long it is good for.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    until: Option<Instant>,
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

pub(crate) struct Asking<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) own: &'a Url,
    /// Whether the registry answered from a public address.
    pub(crate) own_is_public: bool,
    pub(crate) repository: &'a str,
    pub(crate) action: Action,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    access_token: Option<Secret>,
    #[serde(default)]
    expires_in: Option<u64>,
}

const MAX_TOKEN: u64 = 256 << 10;
/// What a token is good for where its service does not say, by the specification.
const TOKEN_LIFE: u64 = 60;
const MAX_CHALLENGE: usize = 8 << 10;

impl Authorization {
    pub(crate) fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// The first challenge that we can meet; Bearer before Basic, because it shows less.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Some(text) = value.to_str().ok().filter(|t| t.len() <= MAX_CHALLENGE) else { continue };
        let Ok(challenges) = http_auth::parse_challenges(text) else { continue };
        for challenge in challenges {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let Some(realm) = parameter("realm") else { continue };
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

impl Asking<'_> {
    /// Meets the challenge. Nothing, where it asks for a password and there is none.
    pub(crate) async fn meet(
        &self,
        challenge: Challenge,
        credential: &Credential,
    ) -> Result<Option<Authorization>, OciError> {
        match (challenge, credential) {
            (Challenge::Basic, Credential::Password { user, password }) => {
                let header = self.header(&basic(user, password))?;
                Ok(Some(Authorization { header, until: None }))
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { realm, service }, _) => {
                self.token(&realm, service.as_deref(), credential).await.map(Some)
            }
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        credential: &Credential,
    ) -> Result<Authorization, OciError> {
        let what = "a token service";
        let elsewhere = |why| OciError::Redirect { host: self.host(), what: what.to_owned(), why };
        let (url, reach) = follow(self.own, self.own, realm, true, self.own_is_public).map_err(elsewhere)?;
        let at = name(&url);
        let request = self.question(url, service, credential)?;
        let response = self.transport.send(reach, &at, request).await?;
        let status = response.status();
        if status == http::StatusCode::UNAUTHORIZED || status == http::StatusCode::FORBIDDEN {
            return Err(OciError::Denied {
                host: at,
                what: self.repository.to_owned(),
                why: refused(credential),
            });
        }
        if !status.is_success() {
            return Err(OciError::Status {
                host: at,
                what: "the request for a token".to_owned(),
                status: status.as_u16(),
                detail: String::new(),
            });
        }
        let limit = Limit { what: "the token", bytes: MAX_TOKEN, key: "" };
        let bytes = self.transport.read(&at, response, limit).await?;
        let answer = |why: &str| OciError::Answer {
            host: at.clone(),
            what: "the request for a token".to_owned(),
            why: why.to_owned(),
        };
        // The parser's own words could quote the token, so they are left out.
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| answer("it cannot be read"))?;
        let life = token.expires_in.unwrap_or(TOKEN_LIFE).clamp(1, 3600);
        let secret = token.token.or(token.access_token).filter(|t| !t.expose().is_empty());
        let secret = secret.ok_or_else(|| answer("there is no token in it"))?;
        let header = self.header(&format!("Bearer {}", secret.expose()))?;
        Ok(Authorization { header, until: Some(Instant::now() + Duration::from_secs(life)) })
    }

    /// A GET with the password, or, for an identity token, OAuth 2's POST.
    fn question(
        &self,
        mut url: Url,
        service: Option<&str>,
        credential: &Credential,
    ) -> Result<Request<Bytes>, OciError> {
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.repository);
        let builder = Request::builder().header(ACCEPT, "application/json");
        let built = |request: Result<Request<Bytes>, http::Error>| {
            request.map_err(|e| OciError::Answer {
                host: self.host(),
                what: "the request for a token".to_owned(),
                why: e.to_string(),
            })
        };
        if let Credential::Identity(token) = credential {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose());
            form.append_pair("service", service.unwrap_or_default()).append_pair("scope", &scope);
            form.append_pair("client_id", "lanner");
            let builder = builder.method(Method::POST).uri(url.as_str());
            let builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            return built(builder.body(form.finish().into()));
        }
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", &scope);
        let mut builder = builder.method(Method::GET).uri(url.as_str());
        if let Credential::Password { user, password } = credential {
            builder = builder.header(AUTHORIZATION, self.header(&basic(user, password))?);
        }
        built(builder.body(Bytes::new()))
    }

    fn header(&self, text: &str) -> Result<HeaderValue, OciError> {
        let mut header = HeaderValue::from_str(text).map_err(|_| OciError::Answer {
            host: self.host(),
            what: "the request for a token".to_owned(),
            why: "the token cannot stand in a header".to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn host(&self) -> String {
        name(self.own)
    }
}

pub(crate) fn refused(credential: &Credential) -> String {
    match credential {
        Credential::Anonymous => "docker's config.json has no credential for it".to_owned(),
        Credential::Password { user, .. } => {
            format!("the password of the user {} is wrong, or the user may not do this", shown(user))
        }
        Credential::Identity(_) => "the identity token is not accepted".to_owned(),
    }
}

fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenge(&headers)
    }

    #[test]
    fn bearer_goes_before_basic_and_nonsense_is_passed_over() {
        let bearer = "Bearer realm=\"https://t.example/token\",service=\"s\",scope=\"repository:other:*\"";
        let expected =
            Challenge::Bearer { realm: "https://t.example/token".to_owned(), service: Some("s".to_owned()) };
        assert_eq!(met(&["Basic realm=\"x\"", bearer]), Some(expected));
        assert_eq!(met(&["Digest realm=\"x\"", "basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(met(&["Bearer service=\"s\"", "!", "Negotiate"]), None);
        assert_eq!(met(&[]), None);
    }
}
