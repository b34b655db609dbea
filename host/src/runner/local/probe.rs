//! Asks the package manager what it is configured for: `npm config get registry …`.
//!
//! It runs outside the sandbox, so its shape is fixed (core checks that it is the Job's own manager and `config get`),
//! in an empty folder with the user's own configuration: what the project brings (`.npmrc`, a lock file) is hostile
//! and never asked. Its answer decides which host the proxy lets through.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lanner_core::{Probe, ProbeUse};

use super::private_dir;
use super::tools::{self, Tools};
use crate::runner::RunError;
use crate::runner::start::Found;

/// Variables that name the machine's certificates: passed on, with the files that they name.
const CERTIFICATE_VARS: [&str; 5] =
    ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"];

const LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 * 1024;

/// Everything that is to be known before a package comes: the programs, the manager's own configuration, certificates.
/// `folder` is private and empty.
pub(in crate::runner) async fn find(
    tools: &[String],
    probe: Option<&Probe>,
    env: &[(String, String)],
    folder: &Path,
) -> Result<Found, RunError> {
    let tools = tools::find(tools, env)?;
    let mut found = match probe {
        Some(probe) => ask(probe, &tools, env, folder).await?,
        None => Found::default(),
    };
    found.path.clone_from(&tools.path);
    found.dirs.extend(tools.dirs.iter().map(|dir| text(dir)));
    for (name, value) in env {
        if CERTIFICATE_VARS.contains(&name.as_str()) && Path::new(value).is_file() {
            found.files.push(value.clone());
            found.env.push((name.clone(), value.clone()));
        }
    }
    Ok(found)
}

async fn ask(
    probe: &Probe,
    tools: &Tools,
    env: &[(String, String)],
    folder: &Path,
) -> Result<Found, RunError> {
    let program = tools.program(&probe.program).ok_or_else(|| RunError::NoTool(probe.program.clone()))?;
    let empty = folder.join("empty");
    private_dir(&empty).map_err(|e| RunError::Io("an empty folder cannot be made".into(), e))?;
    #[expect(clippy::disallowed_methods, reason = "runner/local is where processes are started")]
    let mut command = tokio::process::Command::new(program);
    command
        .args(["config", "get"])
        .args(probe.keys.iter().map(|k| &k.key))
        .current_dir(&empty)
        .env_clear()
        .envs(env.iter().map(|(n, v)| (n, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| RunError::Probe(format!("no answer within {} s", LIMIT.as_secs())))?
        .map_err(|e| RunError::Io(format!("{} cannot be asked", probe.program), e))?;
    if !output.status.success() || output.stdout.len() > MAX_ANSWER {
        return Err(RunError::Probe(format!("{} config get ended with {}", probe.program, output.status)));
    }
    Found::read(probe, &String::from_utf8_lossy(&output.stdout))
}

impl Found {
    /// One key asked: the answer is the value; several: a line `key=value` for each.
    fn read(probe: &Probe, answer: &str) -> Result<Self, RunError> {
        let mut probed = Self::default();
        for key in &probe.keys {
            let value = if probe.keys.len() == 1 {
                Some(answer.trim())
            } else {
                answer
                    .lines()
                    .find_map(|line| line.trim().split_once('=').filter(|(k, _)| k.trim() == key.key))
                    .map(|(_, value)| value.trim())
            };
            let unset = |v: &&str| !matches!(*v, "" | "undefined" | "null");
            if let Some(value) = value.filter(unset) {
                probed.apply(&key.used_as, value)?;
            }
        }
        Ok(probed)
    }

    fn apply(&mut self, used_as: &ProbeUse, value: &str) -> Result<(), RunError> {
        match used_as {
            ProbeUse::Registry { env } => {
                let place = host_and_port(value).ok_or_else(|| {
                    RunError::Probe(format!("its registry {value:?} is not an http or https URL"))
                })?;
                self.registries.push(place);
                self.env.push((env.clone(), value.to_owned()));
            }
            ProbeUse::CaFile { env } if Path::new(value).is_file() => {
                self.files.push(value.to_owned());
                self.set_once(env, value);
            }
            ProbeUse::Folder { env, marker } if Path::new(value).join(marker).is_file() => {
                if self.set_once(env, value) {
                    self.dirs.push(value.to_owned());
                }
            }
            ProbeUse::CaFile { .. } | ProbeUse::Folder { .. } => {}
        }
        Ok(())
    }

    fn set_once(&mut self, name: &str, value: &str) -> bool {
        let new = self.env.iter().all(|(n, _)| n != name);
        if new {
            self.env.push((name.to_owned(), value.to_owned()));
        }
        new
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let default = match uri.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    Some((host, uri.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use lanner_core::ProbeKey;

    use super::*;

    fn probe(keys: &[(&str, ProbeUse)]) -> Probe {
        let keys = keys.iter().map(|(k, u)| ProbeKey { key: (*k).into(), used_as: u.clone() }).collect();
        Probe { program: "npm".into(), keys }
    }

    fn registry() -> (&'static str, ProbeUse) {
        ("registry", ProbeUse::Registry { env: "npm_config_registry".into() })
    }

    #[test]
    fn a_registry_becomes_an_allowed_host_and_a_variable() {
        let probed = Found::read(&probe(&[registry()]), "https://Registry.Example:8443/npm/\n").unwrap();
        assert_eq!(probed.allowed(&[]), [("registry.example".into(), Some(8443))]);
        assert_eq!(probed.env, [("npm_config_registry".into(), "https://Registry.Example:8443/npm/".into())]);
    }

    #[test]
    fn several_keys_are_read_by_name_and_unset_ones_skipped() {
        let folder = |_: ()| ProbeUse::Folder { env: "X".into(), marker: "no/such/file".into() };
        let asked = probe(&[registry(), ("nodedir", folder(())), ("prefix", folder(()))]);
        let probed =
            Found::read(&asked, "registry=http://127.0.0.1:4873/\nnodedir=undefined\nprefix=/usr\n").unwrap();
        assert_eq!(
            probed.allowed(&["Extra.Example".into(), "other:81".into()]),
            [("127.0.0.1".into(), Some(4873)), ("extra.example".into(), None), ("other".into(), Some(81))]
        );
        assert!(probed.dirs.is_empty());
    }

    #[test]
    fn a_registry_that_is_no_web_address_is_refused() {
        let error = Found::read(&probe(&[registry()]), "file:///etc").unwrap_err();
        assert!(error.to_string().contains("is not an http or https URL"), "{error}");
    }
}
