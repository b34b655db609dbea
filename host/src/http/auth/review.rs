//! Whose a token is: asked of the cluster through a port, a few at once, each within a time, and remembered for a minute at
//! most. It knows no client and no route.
//!
//! Nobody is let in on less than a whole yes: the token is authentic, nothing was wrong with the check, it was made for our
//! audience, and its user is a service account. No answer is no answer, and never a yes from before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use lanner_core::Nanos;
use tokio::sync::Semaphore;

use super::accounts::{Account, RoleMap, shown};
use super::digest;
use super::memory::{Key, Memory};
use crate::config::{AccountsConfig, Role};
use crate::scan::now;

/// Asks whose a token is, for our audience.
pub trait Reviewer: Send + Sync + 'static {
    fn review(&self, token: String) -> BoxFuture<'_, Result<Reviewed, NoAnswer>>;
}

/// What was answered, as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    pub authenticated: bool,
    pub user: String,
    pub groups: Vec<String>,
    /// Those of the token among the ones that were asked for.
    pub audiences: Vec<String>,
    /// What was wrong with the check; empty if nothing was.
    pub error: String,
}

/// It could not be asked, or said nothing that can be understood.
#[derive(Debug, thiserror::Error)]
#[error("whose a token is could not be found out")]
pub struct NoAnswer(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Whose a token is, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody's, or not for us.
    Refused,
    /// Of a user that is no service account.
    Other(String),
    Account(Account, Vec<Role>),
}

/// What looks like a JSON web token. Nothing in it is believed but when it ends, and that only to forget it in time.
pub(super) struct Token<'t> {
    text: &'t str,
    expires: Option<u64>,
}

pub(super) struct Reviews {
    roles: RoleMap,
    audience: String,
    reviewer: Option<Arc<dyn Reviewer>>,
    limit: Duration,
    at_once: Semaphore,
    known: Mutex<Memory<Verdict>>,
    /// Apart, so that a stranger's many tokens push nobody's good one out.
    refused: Mutex<Memory<Verdict>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Why(&'static str);

const MAX_TOKEN: usize = 4096;
const LIMIT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 16;
const MAX_KNOWN: usize = 1024;
const MAX_REFUSED: usize = 256;
const KEEP_KNOWN: Duration = Duration::from_secs(60);
const KEEP_REFUSED: Duration = Duration::from_secs(3);

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [_, claims, _] = *parts.as_slice() else { return None };
        if text.len() > MAX_TOKEN || !parts.iter().all(|part| is_part(part)) {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).ok();
        let claims = claims.and_then(|c| serde_json::from_slice::<serde_json::Value>(&c).ok());
        Some(Self { text, expires: claims.and_then(|c| c.get("exp")?.as_u64()) })
    }

    /// How long a good answer may be remembered: not past the token's end, and not at all if that is unknown.
    fn good_for(&self, now: Nanos) -> Duration {
        let now = Duration::from_nanos(now.unsigned_abs());
        KEEP_KNOWN.min(Duration::from_secs(self.expires.unwrap_or(0)).saturating_sub(now))
    }
}

impl Reviews {
    pub(super) fn new(roles: RoleMap, config: &AccountsConfig) -> Self {
        Self {
            roles,
            audience: config.audience().to_owned(),
            reviewer: None,
            limit: LIMIT,
            at_once: Semaphore::new(AT_ONCE),
            known: Mutex::new(Memory::new(MAX_KNOWN)),
            refused: Mutex::new(Memory::new(MAX_REFUSED)),
        }
    }

    pub(super) fn by(&mut self, reviewer: Arc<dyn Reviewer>) {
        self.reviewer = Some(reviewer);
    }

    pub(super) async fn verdict(&self, token: &Token<'_>) -> Result<Verdict, NoAnswer> {
        let key = digest(token.text.as_bytes());
        if let Some(verdict) = self.remembered(&key) {
            return Ok(verdict);
        }
        match tokio::time::timeout(self.limit, self.ask(token, key)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(NoAnswer(Box::new(Why("the answer took too long")))),
        }
    }

    async fn ask(&self, token: &Token<'_>, key: Key) -> Result<Verdict, NoAnswer> {
        let no_answer = |why| NoAnswer(Box::new(Why(why)));
        let reviewer = self.reviewer.as_ref().ok_or_else(|| no_answer("there is nobody to ask"))?;
        let _place = self.at_once.acquire().await.map_err(|_| no_answer("nobody is asked any more"))?;
        // Others may have come with the same one while this one waited.
        if let Some(verdict) = self.remembered(&key) {
            return Ok(verdict);
        }
        let verdict = self.judge(reviewer.review(token.text.to_owned()).await?);
        let (memory, keep) = match verdict {
            Verdict::Refused => (&self.refused, KEEP_REFUSED),
            _ => (&self.known, token.good_for(now())),
        };
        let now = Instant::now();
        lock(memory).put(key, verdict.clone(), now + keep, now);
        Ok(verdict)
    }

    fn judge(&self, answer: Reviewed) -> Verdict {
        if !answer.authenticated || !answer.error.is_empty() || !answer.audiences.contains(&self.audience) {
            return Verdict::Refused;
        }
        match Account::of_user(&answer.user) {
            Some(account) => {
                let roles = self.roles.roles(&account, &answer.groups);
                Verdict::Account(account, roles)
            }
            None => Verdict::Other(shown(&answer.user)),
        }
    }

    fn remembered(&self, key: &Key) -> Option<Verdict> {
        let now = Instant::now();
        lock(&self.known).get(key, now).or_else(|| lock(&self.refused).get(key, now))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests;
