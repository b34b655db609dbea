//! TLS of a listener: certificate, key and the authority of its clients, from PEM files.
//!
//! The files are looked at again when a connection comes, at most once a second, and read anew when one of them has
//! changed; new files that are not right are told in the log, and the old ones serve on. Who a client is beyond "somebody
//! whom that authority has signed" is not looked at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The listener's own, with what leads from it to its authority.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// With it only clients with a certificate of this authority come in.
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} is no readable PEM file of that kind")]
    Pem(String, #[source] rustls_pki_types::pem::Error),
    #[error("{0} has no certificate in it")]
    Empty(String),
    #[error("{0} has a certificate that is none of an authority")]
    Authority(String, #[source] tokio_rustls::rustls::Error),
    #[error("the clients' certificates cannot be checked")]
    Verifier(#[from] tokio_rustls::rustls::server::VerifierBuilderError),
    #[error("certificate and key do not go together")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

pub struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    times: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Tls {
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let times = files.times();
        let config = files.server()?;
        Ok(Self { files, loaded: Mutex::new(Loaded { config, times, looked: Instant::now() }) })
    }

    /// What the next connection is served with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        // What a panic may have left is still a whole configuration.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() < LOOK {
            return loaded.config.clone();
        }
        loaded.looked = Instant::now();
        let times = self.files.times();
        if times != loaded.times {
            loaded.times = times;
            match self.files.server() {
                Ok(config) => {
                    tracing::info!("the listener's certificates were read anew");
                    loaded.config = config;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the new certificates are not right: the old ones stay");
                }
            }
        }
        loaded.config.clone()
    }
}

impl TlsFiles {
    fn times(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate_file), Some(&self.key_file), self.client_ca_file.as_ref()];
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        files.into_iter().flatten().map(time).collect()
    }

    fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authority(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(certificates(&self.certificate_file)?, key(&self.key_file)?)?;
        // One request after the other: with HTTP/2 the order of alerts could not be vouched for.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// For a client: whom to believe, and with what to show who one is.
pub fn client(ca: &Path, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authority(ca)?);
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, secret)) => {
            builder.with_client_auth_cert(certificates(certificate)?, key(secret)?)?
        }
    })
}

/// For a client that speaks plain HTTP only, in the form of one that could do more.
pub fn trusting_nobody() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn authority(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| TlsError::Authority(path.display().to_string(), e))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |e| TlsError::Pem(path.display().to_string(), e);
    let all: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() { Err(TlsError::Empty(path.display().to_string())) } else { Ok(all) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::Pem(path.display().to_string(), e))
}
