//! `lanner relay`: carries Falco's alert lines to a host so that none is lost while the host is away.
//!
//! A reader (`source`) puts lines into a spool on disk (`spool`), a sender (`send`) takes them from there in order and
//! forgets what the host has acknowledged. A line is never looked into here: what an alert is, only the host knows.

use std::path::PathBuf;

mod send;
mod source;
mod spool;

pub use source::Source;
pub use spool::SpoolError;

/// Everything a relay is told.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    pub source: Source,
    /// `http://HOST:PORT` or `https://HOST:PORT` of the host's intake.
    pub to: String,
    /// Needed for HTTPS.
    pub tls: Option<ClientFiles>,
    /// The last part of the path, where the intake has one.
    pub secret: Option<String>,
    pub spool: PathBuf,
    /// Bytes on disk; when they are used up, reading waits.
    pub spool_bytes: u64,
    /// The sensor's name in alerts.
    pub name: String,
}

/// PEM files for HTTPS; read again after each failure to send.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// The authority that signed the host's certificate.
    pub ca: PathBuf,
    /// Certificate and key, where the host asks for them.
    pub own: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the spool cannot be used")]
    Spool(#[from] SpoolError),
    #[error("{0} is no address of an intake: it is written http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    #[error("for https:// the authority of the host's certificate is needed: give --ca-file")]
    NoAuthority,
    #[error("the relay's certificates are not right")]
    Tls(#[from] crate::net::tls::TlsError),
    #[error(
        "the name {0:?} is not one: use letters, digits, dots, colons, hyphens and underscores, at most 100"
    )]
    Name(String),
    #[error("the source cannot be read")]
    Source(#[source] std::io::Error),
}

/// Carries until the source has ended and all of it is acknowledged; a tailed file never ends.
pub async fn run(config: RelayConfig, supervisor: crate::tasks::Supervisor) -> Result<(), RelayError> {
    let spool = std::sync::Arc::new(spool::Spool::open(&config.spool, config.spool_bytes)?);
    let sender = send::Sender::new(&config, spool.clone(), supervisor)?;
    // Dropped where it waits, the relay still tells its reader to stop.
    let _closing = Closing(spool.clone());
    let (source, reading) = (config.source.clone(), spool.clone());
    // A thread of its own: reading waits for disks and for Falco.
    let reader = tokio::task::spawn_blocking(move || {
        let read = source.read(&reading);
        reading.end();
        read
    });
    sender.run().await;
    match reader.await {
        Ok(read) => Ok(read?),
        Err(panic) => Err(RelayError::Source(std::io::Error::other(panic))),
    }
}

struct Closing(std::sync::Arc<spool::Spool>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
