//! Asks a credential helper: `docker-credential-NAME get`, the server on its standard input, JSON on its output.
//!
//! The helper is a program of the operator's own. It is bounded all the same: in time, because it may open a dialogue
//! that nobody answers, and in output.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::{Credential, CredentialsError, Secret};

const MAX_OUTPUT: u64 = 64 << 10;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say when they have nothing, and mean no failure by it.
const NOTHING: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Secret,
}

/// A helper and where to look for it.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    pub(super) folder: Option<&'a Path>,
    pub(super) patience: Duration,
}

impl Helper<'_> {
    pub(super) async fn get(&self, server: &str) -> Result<Credential, CredentialsError> {
        let name = || self.name.to_owned();
        let child = self.start().map_err(|e| CredentialsError::HelperStart(name(), e))?;
        // Past the patience the child is dropped, and killed with that.
        let asked = tokio::time::timeout(self.patience, ask(child, server)).await;
        let asked =
            asked.map_err(|_| CredentialsError::HelperTime { name: name(), patience: self.patience })?;
        let (status, output) = asked.map_err(|e| CredentialsError::HelperStart(name(), e))?;
        if output.len() as u64 > MAX_OUTPUT {
            return Err(CredentialsError::HelperLong(name(), MAX_OUTPUT));
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&output);
            return match said.contains(NOTHING) {
                true => Ok(Credential::Anonymous),
                false => Err(CredentialsError::HelperFailed { name: name(), said: said.trim().to_owned() }),
            };
        }
        // The parser's own words could quote the secret, so they are left out.
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|_| CredentialsError::HelperAnswer(name()))?;
        Ok(match answer.username.as_str() {
            TOKEN_USER => Credential::Identity(answer.secret),
            "" => Credential::Anonymous,
            _ => Credential::Password { user: answer.username, password: answer.secret },
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a credential helper is a program, by docker's definition")]
    fn start(&self) -> std::io::Result<Child> {
        let program = PathBuf::from(format!("docker-credential-{}", self.name));
        tokio::process::Command::new(self.folder.map_or(program.clone(), |folder| folder.join(&program)))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

async fn ask(mut child: Child, server: &str) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input is judged by its answer.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let output = read(child.stdout.take()).await?;
    if output.len() as u64 > MAX_OUTPUT {
        child.kill().await?;
    }
    Ok((child.wait().await?, output))
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(from) = from {
        from.take(MAX_OUTPUT + 1).read_to_end(&mut output).await?;
    }
    Ok(output)
}
