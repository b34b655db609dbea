//! A host somewhere else, asked over HTTP: where it is, with which credential, and what its problems say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::answer::MAX_ANSWER;

#[derive(Debug, Args)]
pub(in crate::cli) struct Remote {
    /// The host's address
    #[arg(long, value_name = "URL", env = "LANNER_URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// A file with the credential's secret; changing filters or functions needs the role admin
    #[arg(long, value_name = "FILE", env = "LANNER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

pub(in crate::cli) const JSON: &str = "application/json";
/// A trial may compile for minutes.
const TIMEOUT: Duration = Duration::from_secs(900);

impl Remote {
    pub(in crate::cli) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, "", &[])
    }

    pub(in crate::cli) fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<Value> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base()));
        if let Some(file) = &self.token_file {
            request = request.header("authorization", format!("Bearer {}", secret_in(file)?));
        }
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(body).context("the request cannot be made")?;
        let unreached = || format!("{} cannot be reached: give the host's address with --url", self.url);
        let mut response = agent().run(request).with_context(unreached)?;
        let read = response.body_mut().with_config().limit(MAX_ANSWER as u64).read_to_vec();
        let bytes = read.context("the answer broke off")?;
        let document: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if response.status().is_success() {
            return Ok(document);
        }
        bail!("{}", problem(response.status(), &document))
    }

    /// Makes a revision the active one: `verb` is `activate` or `rollback`, `kind` the last part of `/v1/…`.
    pub(in crate::cli) fn move_to(
        &self,
        kind: &str,
        name: &str,
        revision: Option<u64>,
        verb: &str,
    ) -> anyhow::Result<Exit> {
        let body = revision.map_or_else(|| json!({}), |r| json!({ "revision": r })).to_string();
        let answer = self.ask("POST", &format!("/v1/{kind}/{name}/{verb}"), JSON, body.as_bytes())?;
        let number = answer.pointer("/revision/number").and_then(Value::as_u64).unwrap_or_default();
        println!("{name}: revision {number} is active");
        Ok(Exit::Clean)
    }

    fn base(&self) -> &str {
        self.url.trim_end_matches('/')
    }
}

/// A credential's, of its file.
pub(in crate::cli) fn secret_in(file: &Path) -> anyhow::Result<String> {
    let secret = std::fs::read_to_string(file);
    let secret = secret.with_context(|| format!("the token file {} cannot be read", file.display()))?;
    Ok(secret.trim_end().to_owned())
}

fn agent() -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .tls_config(tls)
        .build()
        .new_agent()
}

pub(in crate::cli) fn problem(status: http::StatusCode, document: &Value) -> String {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    match (text("code"), text("detail")) {
        (Some(code), Some(detail)) => format!("{detail} ({code})"),
        _ => format!("the host answered {status}"),
    }
}
