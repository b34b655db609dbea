//! Who asks, and what they may. Credentials come from files; a request brings one as a Bearer token or as Basic
//! `name:secret`. A Bearer token that is none of them may be that of a service account: then the cluster is asked whose it
//! is (`review`), and a map says what they may (`accounts`). It knows nothing of routes and scans.
//!
//! Secrets are kept and compared as SHA-256 digests, every one of them each time, in constant time. Without
//! credentials and such a map there is one caller, the machine's own user: then only loopback may be listened on, and a
//! request that a web page could have sent is refused.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use lanner_core::Owner;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::{AccountsConfig, Credential, Role};
use crate::scan::Reach;

mod accounts;
mod memory;
mod review;

pub use accounts::AccountsError;
use accounts::RoleMap;
pub use review::{NoAnswer, Reviewed, Reviewer};
use review::{Reviews, Token, Verdict};

/// The credentials and accounts that are let in; none means that whoever reaches us is our own user.
pub struct Gate {
    entries: Vec<Entry>,
    reviews: Option<Reviews>,
}

struct Entry {
    owner: Owner,
    roles: Vec<Role>,
    name: [u8; 32],
    secret: [u8; 32],
}

/// Who asks, once the gate has let them in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub owner: Owner,
    pub reach: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No credential, or one that cannot be read.
    Missing,
    Wrong,
    /// Known, but without this role.
    Needs(Role),
    /// Of the cluster, by this name, and in no role here.
    NoRole(String),
    /// Whose it is cannot be found out at the moment.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(
        "the secret of credential {name} cannot be read from {path}: name a readable file in secret_file"
    )]
    Read {
        name: String,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the secret of credential {0} is shorter than {MIN_SECRET} bytes: write a longer one to its secret_file"
    )]
    Short(String),
    #[error("credential {0} has no roles: give it some of submit, read, admin")]
    NoRoles(String),
    #[error("a credential's name has 1 to 64 letters, digits, dots, hyphens or underscores; {0:?} has not")]
    Name(String),
    #[error("the credentials {0} and {1} have the same secret: give each its own")]
    SameSecret(String, String),
    #[error(
        "{0} can be reached from other machines and no credentials are configured: add [[credentials]] to lanner.toml, \
         or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

const MIN_SECRET: usize = 16;
const MAX_SECRET_FILE: u64 = 4096;
/// Longer ones cannot be ours.
const MAX_HEADER: usize = 8192;

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl Gate {
    /// Reads every secret; a host with a broken credential does not start.
    pub fn load(
        credentials: &[Credential],
        accounts: Option<&AccountsConfig>,
    ) -> Result<Self, CredentialError> {
        let mut entries: Vec<Entry> = Vec::new();
        for credential in credentials {
            let entry = Entry::load(credential)?;
            if let Some(same) = entries.iter().find(|e| e.secret == entry.secret) {
                return Err(CredentialError::SameSecret(same.owner.0.clone(), credential.name.clone()));
            }
            entries.push(entry);
        }
        let reviews = accounts.map(|a| Ok::<_, AccountsError>(Reviews::new(RoleMap::new(a)?, a)));
        Ok(Self { entries, reviews: reviews.transpose()? })
    }

    /// Who is asked whose a token is; without anybody no token of an account is let in.
    pub fn ask(&mut self, reviewer: Arc<dyn Reviewer>) {
        if let Some(reviews) = &mut self.reviews {
            reviews.by(reviewer);
        }
    }

    /// Without credentials every user of the network would be ours.
    pub fn may_listen(&self, address: SocketAddr) -> Result<(), CredentialError> {
        if self.is_open() && !address.ip().is_loopback() {
            Err(CredentialError::Open(address))
        } else {
            Ok(())
        }
    }

    pub fn is_open(&self) -> bool {
        self.entries.is_empty() && self.reviews.is_none()
    }

    pub async fn admit(&self, headers: &HeaderMap, need: Role) -> Result<Identity, Denied> {
        let (known, reviews) = (self.known(headers, need), self.reviews.as_ref());
        let value = headers.get(header::AUTHORIZATION);
        match (reviews, value.and_then(bearer).and_then(Token::parse)) {
            (Some(reviews), Some(token)) if known == Err(Denied::Wrong) => {
                let verdict = reviews.verdict(&token).await.map_err(|error| {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a caller could not be answered"
                    );
                    Denied::Unknown
                })?;
                of_account(verdict, need)
            }
            _ => known,
        }
    }

    /// By the credentials alone.
    fn known(&self, headers: &HeaderMap, need: Role) -> Result<Identity, Denied> {
        if self.is_open() {
            return Ok(Identity { owner: Owner::local(), reach: Reach::All });
        }
        let offered = headers.get(header::AUTHORIZATION).and_then(Offered::parse).ok_or(Denied::Missing)?;
        let mut found = None;
        for entry in &self.entries {
            if bool::from(entry.is(&offered)) {
                found = Some(entry);
            }
        }
        let entry = found.ok_or(Denied::Wrong)?;
        identity(&entry.owner, &entry.roles, need)
    }
}

fn of_account(verdict: Verdict, need: Role) -> Result<Identity, Denied> {
    match verdict {
        Verdict::Refused => Err(Denied::Wrong),
        Verdict::Other(name) => Err(Denied::NoRole(name)),
        Verdict::Account(account, roles) if roles.is_empty() => Err(Denied::NoRole(account.to_string())),
        Verdict::Account(account, roles) => identity(&account.owner(), &roles, need),
    }
}

/// Who has the role that is needed; an admin has each.
fn identity(owner: &Owner, roles: &[Role], need: Role) -> Result<Identity, Denied> {
    let admin = roles.contains(&Role::Admin);
    if !admin && !roles.contains(&need) {
        return Err(Denied::Needs(need));
    }
    let reach = if admin { Reach::All } else { Reach::Own(owner.clone()) };
    Ok(Identity { owner: owner.clone(), reach })
}

impl Entry {
    fn load(credential: &Credential) -> Result<Self, CredentialError> {
        let name = credential.name.clone();
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(good) {
            return Err(CredentialError::Name(name));
        }
        if credential.roles.is_empty() {
            return Err(CredentialError::NoRoles(name));
        }
        let bytes = read(&credential.secret_file).map_err(|source| CredentialError::Read {
            name: name.clone(),
            path: credential.secret_file.display().to_string(),
            source,
        })?;
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < MIN_SECRET {
            return Err(CredentialError::Short(name));
        }
        let roles = credential.roles.clone();
        Ok(Self { name: digest(name.as_bytes()), secret: digest(secret), owner: Owner(name), roles })
    }

    fn is(&self, offered: &Offered) -> Choice {
        let name = offered.name.map_or(Choice::from(1), |name| self.name.ct_eq(&name));
        self.secret.ct_eq(&offered.secret) & name
    }
}

fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_SECRET_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a request brought, as digests.
struct Offered {
    name: Option<[u8; 32]>,
    secret: [u8; 32],
}

impl Offered {
    fn parse(value: &HeaderValue) -> Option<Self> {
        if let Some(secret) = bearer(value) {
            return Some(Self { name: None, secret: digest(secret.as_bytes()) });
        }
        let (scheme, rest) = parts(value)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = STANDARD.decode(rest).ok()?;
        let colon = pair.iter().position(|b| *b == b':')?;
        let (name, secret) = pair.split_at_checked(colon)?;
        Some(Self { name: Some(digest(name)), secret: digest(secret.get(1..)?) })
    }
}

/// Scheme and the rest.
fn parts(value: &HeaderValue) -> Option<(&str, &str)> {
    let text = value.to_str().ok().filter(|t| t.len() <= MAX_HEADER)?;
    text.split_once(' ').map(|(scheme, rest)| (scheme, rest.trim()))
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    parts(value).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, rest)| rest)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether a web page in a browser of this machine may have sent it: another site's script (`Origin`), or one that made
/// a name of its own point to loopback (`Host`).
pub(super) fn is_foreign(request: &http::request::Parts) -> bool {
    let text = |name: header::HeaderName| request.headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let host = request.uri.authority().map(http::uri::Authority::as_str).or_else(|| text(header::HOST));
    let origin = text(header::ORIGIN).map(|o| o.split_once("://").map_or(o, |(_, rest)| rest));
    [host, origin].into_iter().flatten().any(|authority| !is_loopback(authority))
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
