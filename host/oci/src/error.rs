//! Why something was refused or did not come about. Each text names the thing, and the setting to change where one helps.

use std::time::Duration;

use crate::app::AppError;
use crate::credentials::CredentialsError;
use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::sign::SignatureError;
use crate::text::shown;

pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error(
        "{registry}: plain http is for registries on this machine, named localhost or by a loopback address"
    )]
    PlainHttp { registry: String },
    #[error("`ca_certificates`: {why}")]
    Certificates { why: String },
    #[error("the user agent {} cannot stand in a header", shown(.0))]
    UserAgent(String),
    #[error("the certificate authorities of this system cannot be loaded")]
    Roots(#[source] rustls::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{host} cannot be reached")]
    Unreachable {
        host: String,
        #[source]
        source: Source,
    },
    #[error("{host} broke off its answer")]
    Broken {
        host: String,
        #[source]
        source: Source,
    },
    #[error("{host} sent nothing for {} s (`stall`)", .after.as_secs_f32())]
    Stalled { host: String, after: Duration },
    #[error("not done after {} s (`deadline`)", .after.as_secs_f32())]
    Deadline { after: Duration },
    #[error("{host} refuses access to {what}: {why}")]
    Denied { host: String, what: String, why: String },
    #[error("{host} does not have {what}")]
    NotFound { host: String, what: String },
    #[error("{host} is busy and asks us to come back {}", wait(.after))]
    Busy { host: String, after: Option<Duration> },
    #[error("{host} answers {what} with status {status}{}", said(.detail))]
    Status { host: String, what: String, status: u16, detail: String },
    #[error("{host} answers {what} with something that is none: {why}")]
    Answer { host: String, what: String, why: String },
    #[error("{host} sends us elsewhere for {what}: {why}")]
    Redirect { host: String, what: String, why: String },
    #[error("{what} is not what its digest says: expected {expected}, got {found}")]
    DigestMismatch { what: String, expected: Digest, found: Digest },
    #[error("{what} has {found} bytes, not the {declared} that were declared")]
    SizeMismatch { what: String, declared: u64, found: u64 },
    #[error("{what} has more than {limit} bytes{}", setting(.key))]
    TooLarge { what: String, limit: u64, key: &'static str },
    #[error("{0} cannot be written to: it names a digest")]
    PushToDigest(String),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl OciError {
    /// Whether the same call may succeed later without anything being changed: the registry was away, slow or busy. What
    /// is not transient (a wrong digest, a wrong signature, no access) is an answer about the artifact or the settings.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Stalled { .. }
            | Self::Deadline { .. }
            | Self::Busy { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

fn wait(after: &Option<Duration>) -> String {
    match after {
        Some(after) => format!("in {} s, longer than we wait (`retry_after`)", after.as_secs()),
        None => "later, again and again".to_owned(),
    }
}

/// Some bounds are nobody's to set.
fn setting(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" (`{key}`)") }
}

fn said(detail: &str) -> String {
    match detail {
        "" => String::new(),
        text => format!(": {}", shown(text)),
    }
}
