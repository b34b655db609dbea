//! Who we are to a registry, from docker's `config.json`: passwords in it, or a credential helper that it names.
//!
//! The file is the operator's, but it is read as if it were not: bounded, and a helper's name is a name and no path. The
//! order is docker's: the registry's own helper, then what stands in the file, then the store for all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::settings::Settings;
use crate::text::shown;

mod helper;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Anonymous,
    Password {
        user: String,
        password: Secret,
    },
    /// Exchanged for a token at the registry's token service.
    Identity(Secret),
}

/// Text that no message and no debug output shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

/// Docker's `config.json`, as far as it says who we are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{} is longer than {MAX_CONFIG} bytes", .0.display())]
    Long(PathBuf),
    #[error("docker's config.json cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("docker's config.json: `auth` of {} is no base64 of user:password", shown(.0))]
    Auth(String),
    #[error("docker's config.json: {} is no name of a credential helper", shown(.0))]
    HelperName(String),
    #[error("docker-credential-{0} cannot be started")]
    HelperStart(String, #[source] std::io::Error),
    #[error("docker-credential-{name} did not answer within {} s (`helper`)", .patience.as_secs_f32())]
    HelperTime { name: String, patience: Duration },
    #[error("docker-credential-{0} wrote more than {1} bytes")]
    HelperLong(String, u64),
    #[error("docker-credential-{name} failed: {}", shown(.said))]
    HelperFailed { name: String, said: String },
    #[error("docker-credential-{0} answered with something that is no credential")]
    HelperAnswer(String),
}

const MAX_CONFIG: u64 = 1 << 20;
/// Docker keeps its own hub under this name, whatever the images say.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    #[serde(default)]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    identitytoken: Option<Secret>,
}

/// Where a registry's credential is to be had.
enum Place<'c> {
    Helper(&'c str),
    Here(Credential),
    Nowhere,
}

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The credential for a registry. The file is read each time: `docker login` and helpers change it while a host runs.
pub(crate) async fn find(settings: &Settings, registry: &str) -> Result<Credential, CredentialsError> {
    let Some(file) = settings.docker_config.as_deref() else { return Ok(Credential::Anonymous) };
    let Some(bytes) = read(file).await? else { return Ok(Credential::Anonymous) };
    let config = DockerConfig::parse(&bytes)?;
    match config.place(registry)? {
        Place::Here(credential) => Ok(credential),
        Place::Nowhere => Ok(Credential::Anonymous),
        Place::Helper(name) => {
            let helper = helper::Helper {
                name,
                folder: settings.helper_folder.as_deref(),
                patience: settings.limits.helper,
            };
            helper.get(server(registry)).await
        }
    }
}

/// A file that is not there is as good as an empty one, as it is to docker.
async fn read(file: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    use tokio::io::AsyncReadExt as _;
    let failed = |e| CredentialsError::Read(file.to_owned(), e);
    let opened = match tokio::fs::File::open(file).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    opened.take(MAX_CONFIG + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    match bytes.len() as u64 > MAX_CONFIG {
        true => Err(CredentialsError::Long(file.to_owned())),
        false => Ok(Some(bytes)),
    }
}

impl DockerConfig {
    pub fn parse(bytes: &[u8]) -> Result<Self, CredentialsError> {
        serde_json::from_slice(bytes).map_err(CredentialsError::Json)
    }

    /// Whether the file has, or names a helper that may have, a credential for the registry.
    pub fn knows(&self, registry: &str) -> Result<bool, CredentialsError> {
        Ok(!matches!(self.place(registry)?, Place::Nowhere | Place::Here(Credential::Anonymous)))
    }

    fn place(&self, registry: &str) -> Result<Place<'_>, CredentialsError> {
        let wanted = host(server(registry));
        let own = self.cred_helpers.iter().find(|(key, _)| host(key) == wanted).map(|(_, name)| name);
        if let Some(name) = own {
            return helper_name(name).map(Place::Helper);
        }
        let entries = self.auths.iter().filter(|(key, _)| host(key) == wanted);
        for (key, entry) in entries {
            match entry.credential(key)? {
                // `docker login` with a store leaves an empty entry behind.
                Credential::Anonymous => {}
                found => return Ok(Place::Here(found)),
            }
        }
        match self.creds_store.as_deref() {
            None | Some("") => Ok(Place::Nowhere),
            Some(name) => helper_name(name).map(Place::Helper),
        }
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Credential, CredentialsError> {
        let full = |s: &&Secret| !s.0.is_empty();
        if let Some(token) = self.identitytoken.as_ref().filter(full) {
            return Ok(Credential::Identity(token.clone()));
        }
        if let Some(auth) = self.auth.as_ref().filter(full) {
            let bad = || CredentialsError::Auth(key.to_owned());
            let bytes = STANDARD.decode(auth.0.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, password) = text.split_once(':').ok_or_else(bad)?;
            let password = Secret(password.trim_end_matches('\0').to_owned());
            return Ok(Credential::Password { user: user.to_owned(), password });
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Ok(Credential::Password { user: user.clone(), password: password.clone() })
            }
            _ => Ok(Credential::Anonymous),
        }
    }
}

/// What a registry is called in the file and to helpers.
fn server(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    }
}

/// Keys are hosts, with or without a scheme and a path.
fn host(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key.split('/').next().unwrap_or(key)
}

fn helper_name(name: &str) -> Result<&str, CredentialsError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let good = (1..=64).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('.');
    if good { Ok(name) } else { Err(CredentialsError::HelperName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(config: &str, registry: &str) -> Result<Credential, String> {
        let config = DockerConfig::parse(config.as_bytes()).map_err(|e| e.to_string())?;
        match config.place(registry).map_err(|e| e.to_string())? {
            Place::Here(credential) => Ok(credential),
            Place::Helper(name) => Err(format!("helper {name}")),
            Place::Nowhere => Ok(Credential::Anonymous),
        }
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.to_owned(), password: Secret(password.to_owned()) }
    }

    #[test]
    fn the_forms_of_an_entry() {
        let both = r#"{"auths": {"https://ghcr.io/v1/": {"auth": "YW5uYTpzOmVjcmV0"}, "b.example:5000": {"identitytoken": "t"}}}"#;
        assert_eq!(here(both, "ghcr.io").unwrap(), password("anna", "s:ecret"));
        assert_eq!(here(both, "b.example:5000").unwrap(), Credential::Identity(Secret("t".to_owned())));
        assert_eq!(here(both, "b.example").unwrap(), Credential::Anonymous);
        let plain = r#"{"auths": {"a.example": {"username": "u", "password": "p"}}}"#;
        assert_eq!(here(plain, "a.example").unwrap(), password("u", "p"));
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        assert_eq!(here(hub, "docker.io").unwrap(), password("u", "p"));
    }

    #[test]
    fn a_name_is_matched_whole() {
        let config = r#"{"auths": {"ghcr.io.evil.example": {"auth": "dTpw"}}}"#;
        assert_eq!(here(config, "ghcr.io").unwrap(), Credential::Anonymous);
    }

    #[test]
    fn helpers_come_in_docker_s_order() {
        let config = r#"{"auths": {"a.example": {}, "c.example": {"auth": "dTpw"}}, "credsStore": "store",
            "credHelpers": {"b.example": "own"}}"#;
        assert_eq!(here(config, "a.example").unwrap_err(), "helper store");
        assert_eq!(here(config, "b.example").unwrap_err(), "helper own");
        assert_eq!(here(config, "c.example").unwrap(), password("u", "p"));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_reason() {
        let path = r#"{"credHelpers": {"a.example": "../../bin/sh"}}"#;
        let error = here(path, "a.example").unwrap_err();
        assert_eq!(error, "docker's config.json: \"../../bin/sh\" is no name of a credential helper");
        let auth = r#"{"auths": {"a.example": {"auth": "%"}}}"#;
        let error = here(auth, "a.example").unwrap_err();
        assert_eq!(error, "docker's config.json: `auth` of \"a.example\" is no base64 of user:password");
        assert_eq!(here("[", "a.example").unwrap_err(), "docker's config.json cannot be read");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let config = DockerConfig::parse(br#"{"auths": {"a.example": {"auth": "dTpw"}}}"#).unwrap();
        assert!(!format!("{config:?} {:?}", password("u", "geheim")).contains("geheim"));
        assert!(!format!("{config:?}").contains("dTpw"));
    }
}
