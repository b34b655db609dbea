//! Asks the package manager what it is configured for: `npm config get registry …`.
//!
//! It runs outside the sandbox, so its shape is fixed (core checks that it is the Job's own manager and `config get`),
//! in an empty folder with the user's own configuration: what the project brings (`.npmrc`, a lock file) is hostile
//! and never asked. Its answer decides which host the proxy lets through.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lanner_core::{Probe, ProbeUse};

use super::tools::Tools;
use super::{LocalConfig, LocalError, private_dir};

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) env: Vec<(String, String)>,
    pub(super) files: Vec<PathBuf>,
    pub(super) dirs: Vec<PathBuf>,
    registries: Vec<(String, u16)>,
}

const LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 * 1024;

pub(super) async fn ask(
    probe: &Probe,
    tools: &Tools,
    config: &LocalConfig,
    folder: &Path,
) -> Result<Probed, LocalError> {
    let program = tools.program(&probe.program).ok_or_else(|| LocalError::NoTool(probe.program.clone()))?;
    let empty = folder.join("empty");
    private_dir(&empty).map_err(|e| LocalError::Io("an empty folder cannot be made".into(), e))?;
    #[expect(clippy::disallowed_methods, reason = "runner/local is where processes are started")]
    let mut command = tokio::process::Command::new(program);
    command
        .args(["config", "get"])
        .args(probe.keys.iter().map(|k| &k.key))
        .current_dir(&empty)
        .env_clear()
        .envs(config.env.iter().map(|(n, v)| (n, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| LocalError::Probe(format!("no answer within {} s", LIMIT.as_secs())))?
        .map_err(|e| LocalError::Io(format!("{} cannot be asked", probe.program), e))?;
    if !output.status.success() || output.stdout.len() > MAX_ANSWER {
        return Err(LocalError::Probe(format!("{} config get ended with {}", probe.program, output.status)));
    }
    Probed::read(probe, &String::from_utf8_lossy(&output.stdout))
}

impl Probed {
    /// One key asked: the answer is the value; several: a line `key=value` for each.
    fn read(probe: &Probe, answer: &str) -> Result<Self, LocalError> {
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

    fn apply(&mut self, used_as: &ProbeUse, value: &str) -> Result<(), LocalError> {
        match used_as {
            ProbeUse::Registry { env } => {
                let place = host_and_port(value).ok_or_else(|| {
                    LocalError::Probe(format!("its registry {value:?} is not an http or https URL"))
                })?;
                self.registries.push(place);
                self.env.push((env.clone(), value.to_owned()));
            }
            ProbeUse::CaFile { env } if Path::new(value).is_file() => {
                self.files.push(PathBuf::from(value));
                self.set_once(env, value);
            }
            ProbeUse::Folder { env, marker } if Path::new(value).join(marker).is_file() => {
                if self.set_once(env, value) {
                    self.dirs.push(PathBuf::from(value));
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

    /// What the proxy lets through: the registry's host and port, and what the operator added.
    pub(super) fn allowed(&self, added: &[String]) -> Vec<(String, Option<u16>)> {
        let registries = self.registries.iter().map(|(host, port)| (host.clone(), Some(*port)));
        let added = added.iter().map(|text| match text.rsplit_once(':').map(|(h, p)| (h, p.parse())) {
            Some((host, Ok(port))) => (host.to_ascii_lowercase(), Some(port)),
            _ => (text.to_ascii_lowercase(), None),
        });
        registries.chain(added).collect()
    }
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
        let probed = Probed::read(&probe(&[registry()]), "https://Registry.Example:8443/npm/\n").unwrap();
        assert_eq!(probed.allowed(&[]), [("registry.example".into(), Some(8443))]);
        assert_eq!(probed.env, [("npm_config_registry".into(), "https://Registry.Example:8443/npm/".into())]);
    }

    #[test]
    fn several_keys_are_read_by_name_and_unset_ones_skipped() {
        let folder = |_: ()| ProbeUse::Folder { env: "X".into(), marker: "no/such/file".into() };
        let asked = probe(&[registry(), ("nodedir", folder(())), ("prefix", folder(()))]);
        let probed =
            Probed::read(&asked, "registry=http://127.0.0.1:4873/\nnodedir=undefined\nprefix=/usr\n")
                .unwrap();
        assert_eq!(
            probed.allowed(&["Extra.Example".into(), "other:81".into()]),
            [("127.0.0.1".into(), Some(4873)), ("extra.example".into(), None), ("other".into(), Some(81))]
        );
        assert!(probed.dirs.is_empty());
    }

    #[test]
    fn a_registry_that_is_no_web_address_is_refused() {
        let error = Probed::read(&probe(&[registry()]), "file:///etc").unwrap_err();
        assert!(error.to_string().contains("is not an http or https URL"), "{error}");
    }
}
