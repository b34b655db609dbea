//! Functions and filters from OCI registries: the glue between `lanner-oci`, which speaks to registries, and the port of `source`.
//!
//! What the operator's file says about registries and keys becomes settings here; which error passes by itself and which is
//! an answer about the artifact, the crate knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::text::chain;
use lanner_oci::{
    Digest, Limits, Need, OciError, Pinned, PublicKey, Reference, ReferenceError, Registry, Settings,
    SignatureError, Verify,
};

use crate::config::{RegistryConfig, VerifyConfig, VerifyNeed};
use crate::engine::Wasm;
use crate::source::local::wants;
use crate::source::{Origin, OriginError, Source};

pub struct Registries {
    registry: Registry,
    verify: Option<Verify>,
    need: Need,
    required_for: Vec<String>,
    /// What each tag named last: so a registry need not say it all again.
    known: Mutex<HashMap<String, Digest>>,
}

/// How the keys that signed stand in a revision.
const SIGNED_BY: &str = "signed by ";

#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the key {0} cannot be used")]
    Key(PathBuf, #[source] SignatureError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Registries {
    pub fn open(
        registry: &RegistryConfig,
        verify: &VerifyConfig,
        max_bytes: u64,
    ) -> Result<Self, SetUpError> {
        let need = match verify.need {
            VerifyNeed::AnyOf => Need::AnyOf,
            VerifyNeed::AllOf => Need::AllOf,
        };
        let keys = verify.keys.iter().map(|path| public_key(path)).collect::<Result<Vec<_>, _>>()?;
        let keys = (!keys.is_empty()).then(|| Verify::new(keys, need)).transpose()?;
        Ok(Self {
            registry: self::registry(registry, max_bytes)?,
            verify: keys,
            need,
            required_for: verify.required_for.clone(),
            known: Mutex::default(),
        })
    }

    async fn resolved(&self, source: &Source) -> Result<String, OriginError> {
        let (reference, name) = (reference(source)?, source.to_string());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        let digest = self.registry.resolve(&reference, known.as_ref()).await.map_err(of_oci)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, digest);
        Ok(digest.to_string())
    }

    async fn verified(&self, source: &Source, resolved: &str) -> Result<Option<String>, OriginError> {
        if !wants(&self.required_for, &source.to_string()) {
            return Ok(None);
        }
        // The configuration does not pass without keys.
        let verify = self.verify.as_ref().ok_or_else(|| of_oci(SignatureError::NoKeys.into()))?;
        let verified = self.registry.verify(&pinned(source, resolved)?, verify).await.map_err(of_oci)?;
        let ids: Vec<&str> = verified.keys.iter().map(|id| id.as_str()).collect();
        Ok(Some(format!("{SIGNED_BY}{}", ids.join(", "))))
    }
}

impl Origin for Registries {
    fn resolve(&self, source: Source) -> BoxFuture<'_, Result<String, OriginError>> {
        async move { self.resolved(&source).await }.boxed()
    }

    fn pull(&self, source: Source, resolved: String) -> BoxFuture<'_, Result<Wasm, OriginError>> {
        async move {
            let artifact = self.registry.pull(&pinned(&source, &resolved)?).await.map_err(of_oci)?;
            Ok(Wasm::new(artifact.bytes))
        }
        .boxed()
    }

    fn verify(&self, source: Source, resolved: String) -> BoxFuture<'_, Result<Option<String>, OriginError>> {
        async move { self.verified(&source, &resolved).await }.boxed()
    }

    fn trusts(&self, source: &Source, found: Option<&str>) -> bool {
        if !wants(&self.required_for, &source.to_string()) {
            return true;
        }
        let signed = found.and_then(|f| f.strip_prefix(SIGNED_BY));
        let (Some(signed), Some(verify)) = (signed, &self.verify) else { return false };
        let has = |key: &PublicKey| signed.split(", ").any(|id| id == key.id().as_str());
        match self.need {
            Need::AnyOf => verify.keys().iter().any(has),
            Need::AllOf => verify.keys().iter().all(has),
        }
    }
}

/// Whoever speaks to registries.
pub fn registry(config: &RegistryConfig, max_bytes: u64) -> Result<Registry, SetUpError> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| SetUpError::Read(path.clone(), e));
    Ok(Registry::new(Settings {
        docker_config: config.docker_config.clone(),
        plain_http: config.plain_http,
        ca_certificates: config.ca_files.iter().map(read).collect::<Result<_, _>>()?,
        limits: Limits { component_bytes: max_bytes, ..Limits::default() },
        ..Settings::default()
    })?)
}

pub fn public_key(path: &Path) -> Result<PublicKey, SetUpError> {
    let pem = std::fs::read_to_string(path).map_err(|e| SetUpError::Read(path.to_owned(), e))?;
    PublicKey::from_pem(&pem).map_err(|e| SetUpError::Key(path.to_owned(), e))
}

fn reference(source: &Source) -> Result<Reference, OriginError> {
    source.to_string().parse().map_err(|e: ReferenceError| bad(e.to_string(), None))
}

fn pinned(source: &Source, resolved: &str) -> Result<Pinned, OriginError> {
    let digest: Digest = resolved.parse().map_err(|_| bad(format!("{resolved} is no digest"), None))?;
    Ok(reference(source)?.at(digest))
}

fn of_oci(error: OciError) -> OriginError {
    let (what, transient) = (error.to_string(), error.is_transient());
    // The first text stands in `what`; the chain goes on below it.
    let source = std::error::Error::source(&error).map(|cause| Chain(chain(cause)).into());
    if transient { OriginError::Away { what, source } } else { bad(what, source) }
}

fn bad(what: String, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> OriginError {
    OriginError::Bad { what, source }
}

/// The texts of what was below an error, as one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Chain(String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RegistrySource;

    fn source(registry: &str, package: &str, version: &str) -> Source {
        let (registry, package, version) = (registry.into(), package.into(), version.into());
        Source::Registry(RegistrySource { registry, package, version })
    }

    #[test]
    fn a_package_is_a_repository_and_its_version_a_tag() {
        let good = reference(&source("localhost:5000", "lanner:submit", "1.2.0")).unwrap();
        assert_eq!(good.to_string(), "localhost:5000/lanner/submit:1.2.0");
        for (registry, package, version) in [
            ("r.example", "../../x", "1"),
            ("r.example", "a", "1/2"),
            ("r.example/..", "a", "1"),
            ("", "a", "1"),
        ] {
            let error = reference(&source(registry, package, version)).unwrap_err();
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[test]
    fn keys_and_certificates_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        let verify = VerifyConfig { keys: vec![path.clone()], ..VerifyConfig::default() };
        let open =
            |verify: &VerifyConfig| Registries::open(&RegistryConfig::default(), verify, 1).err().unwrap();
        assert!(open(&verify).to_string().ends_with("key.pub cannot be read"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(open(&verify).to_string().ends_with("key.pub cannot be used"));
        let config = RegistryConfig { ca_files: vec![path], ..RegistryConfig::default() };
        assert!(Registries::open(&config, &VerifyConfig::default(), 1).is_err());
    }

    #[test]
    fn what_was_signed_is_trusted_as_long_as_its_key_is() {
        // An Ed25519 key that nobody has the other half of.
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        std::fs::write(&path, KEY).unwrap();
        let verify = VerifyConfig {
            keys: vec![path],
            required_for: vec!["r.example/*".into()],
            ..VerifyConfig::default()
        };
        let registries = Registries::open(&RegistryConfig::default(), &verify, 1).unwrap();
        let id = registries.verify.as_ref().unwrap().keys()[0].id().to_string();
        let at = source("r.example", "a", "1");
        assert!(registries.trusts(&at, Some(&format!("{SIGNED_BY}0, {id}"))));
        for found in [None, Some("none is asked for"), Some("signed by 0123456789abcdef"), Some(id.as_str())]
        {
            assert!(!registries.trusts(&at, found), "{found:?}");
        }
        assert!(registries.trusts(&source("other.example", "a", "1"), None));
    }

    #[tokio::test]
    async fn a_registry_that_is_not_there_is_away_and_plain_http_elsewhere_is_wrong() {
        let config = RegistryConfig { plain_http: true, ..RegistryConfig::default() };
        let registries = Registries::open(&config, &VerifyConfig::default(), 1).unwrap();
        // Nobody listens on the port of an address that was just given back.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let away = registries.resolve(source(&free.to_string(), "a", "1")).await.unwrap_err();
        assert!(away.is_transient(), "{away}");
        let wrong = registries.resolve(source("r.example", "a", "1")).await.unwrap_err();
        assert!(!wrong.is_transient() && wrong.to_string().contains("plain http"), "{wrong}");
        assert_eq!(registries.verify(source("r.example", "a", "1"), String::new()).await.unwrap(), None);
    }
}
