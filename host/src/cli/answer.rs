//! What a host answered about names and their revisions, read for a terminal: fields that are not there are empty, and
//! somebody else's words are escaped.

use anyhow::{Context, anyhow};
use clap::Args;
use http_body_util::{BodyExt, Limited};
use lanner_core::text::escaped;
use serde_json::Value;

use super::remote::Remote;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    pub(in crate::cli) remote: Remote,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    pub(in crate::cli) name: String,
    /// The whole document
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) remote: Remote,
}

/// The longest answer that is read; more would be no answer of ours.
pub(in crate::cli) const MAX_ANSWER: usize = 64 << 20;

/// Status and document of an answer, whoever gave it: `who` names it where it cannot be read.
pub(in crate::cli) async fn read<B>(
    response: http::Response<B>,
    who: &str,
) -> anyhow::Result<(http::StatusCode, Value)>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let bytes = body.collect().await.map_err(|e| anyhow!("{who} broke off: {e}"))?.to_bytes();
    let document = serde_json::from_slice(&bytes).with_context(|| format!("{who} is not JSON"))?;
    Ok((status, document))
}

pub(in crate::cli) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(in crate::cli) fn text(value: &Value, key: &str) -> String {
    escaped(value.get(key).and_then(Value::as_str).unwrap_or_default())
}

pub(in crate::cli) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// As much of a digest as tells revisions apart.
pub(in crate::cli) fn short(value: &Value, key: &str) -> String {
    text(value, key).chars().take(19).collect()
}
