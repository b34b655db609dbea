//! How registries are spoken to: whom to trust, how much to take, how long to wait. Plain values; where they come from
//! (a file, a flag) is the caller's business, and no environment variable is read here.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Docker's `config.json`: passwords and the names of credential helpers. Without one, access is anonymous.
    pub docker_config: Option<PathBuf>,
    /// Where the credential helpers lie that the file names. Without it, they are looked for in the `PATH`.
    pub helper_folder: Option<PathBuf>,
    /// HTTP without TLS, for registries on this machine only.
    pub plain_http: bool,
    /// Certificate authorities beside the system's, each a PEM text.
    pub ca_certificates: Vec<String>,
    pub blob_redirects: BlobRedirects,
    pub limits: Limits,
    pub user_agent: String,
}

/// Whether a registry may send us elsewhere for a blob, as those do that keep blobs with a cloud provider. A blob is
/// checked by its digest wherever it comes from; credentials are not sent along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlobRedirects {
    /// To https, and not to an address of this machine or a private network unless the registry has one itself.
    #[default]
    Https,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub manifest_bytes: u64,
    pub component_bytes: u64,
    /// Of an app, all its components together.
    pub app_bytes: u64,
    /// Of an app.
    pub components: usize,
    /// Of a whole pull or push, waiting included.
    pub deadline: Duration,
    /// Without a byte.
    pub stall: Duration,
    /// How long a registry may ask us to wait (429 with `Retry-After`) and still be waited for.
    pub retry_after: Duration,
    /// Of a credential helper.
    pub helper: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            docker_config: None,
            helper_folder: None,
            plain_http: false,
            ca_certificates: Vec::new(),
            blob_redirects: BlobRedirects::default(),
            limits: Limits::default(),
            user_agent: concat!("lanner/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            component_bytes: 64 << 20,
            app_bytes: 256 << 20,
            components: 64,
            deadline: Duration::from_secs(120),
            stall: Duration::from_secs(15),
            retry_after: Duration::from_secs(30),
            helper: Duration::from_secs(10),
        }
    }
}
