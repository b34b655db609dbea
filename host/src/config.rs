//! The operator's words, typed: a configuration file, the environment, the flags, in this order of precedence from the
//! weakest. Nothing else reads the environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanner_core::{Grant, Isolation, Name};
use serde::Deserialize;

use crate::engine::Apart;
use crate::function::{self, CanarySettings};
use crate::manifest;
use crate::policy;
use crate::runner::Limits;
use crate::source::Source;

mod accounts;
mod bucket;
mod falco;
mod kubernetes;

pub use accounts::{AccountsConfig, RoleRule};
pub use bucket::BucketConfig;
pub use falco::{FalcoConfig, FalcoInstance, FalcoPods, IntakeConfig};
pub use kubernetes::{KubernetesConfig, ObjectsConfig};

/// Everything a host is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub cache_dir: Option<PathBuf>,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub app: Option<PathBuf>,
    pub rules: Option<PathBuf>,
    pub filters: Vec<policy::Configured>,
    /// `folder` and `apart` are the host's to fill in.
    pub policy: policy::Settings,
    /// `folder` and `apart` are the host's to fill in.
    pub functions: function::Settings,
    pub verify: VerifyConfig,
    pub registry: RegistryConfig,
    compile: CompileLimits,
    pub credentials: Vec<Credential>,
    pub isolation: Isolation,
    pub allow_hosts: Vec<String>,
    pub limits: Limits,
    pub queue: usize,
    pub parallel: usize,
    pub keep: usize,
    pub max_age: Duration,
    pub max_body_bytes: u64,
    pub http: HttpLimits,
    pub intake: IntakeConfig,
    pub falco: FalcoConfig,
    /// Scans as Jobs of a cluster, in place of this machine.
    pub kubernetes: Option<KubernetesConfig>,
    /// The environment that package managers are asked in.
    pub env: Vec<(String, String)>,
    pub unwatched: bool,
    pub bench_native: bool,
}

/// Bounds on clients.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    pub connections: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// The longest pause in a body.
    pub body_pause: Duration,
    /// Slowest pace of a body, in bytes a second, measured over its whole length after the first pause.
    pub body_pace: u64,
    pub drain: Duration,
}

/// `lanner.toml`. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where scans and sources are kept.
    pub data_dir: Option<PathBuf>,
    /// Where compiled functions are kept.
    pub cache_dir: Option<PathBuf>,
    /// Where `lanner serve` listens.
    pub listen: Option<SocketAddr>,
    /// Where health and metrics are answered.
    pub admin_listen: Option<SocketAddr>,
    /// A `spin.toml` instead of the built-in functions.
    pub app: Option<PathBuf>,
    /// A Falco rules file instead of the built-in one.
    pub rules: Option<PathBuf>,
    /// Filters beside the built-in one.
    pub filters: Vec<FilterFile>,
    pub policy: PolicyFile,
    pub functions: FunctionsFile,
    /// Of functions and filters.
    pub verify: VerifyConfig,
    pub registry: RegistryConfig,
    pub credentials: Vec<Credential>,
    /// `namespaces` or `container`.
    pub isolation: Option<Isolation>,
    /// Hosts that every scan may reach, beside the registry.
    pub allow_hosts: Vec<String>,
    pub scan: ScanFile,
    pub http: HttpFile,
    pub intake: IntakeConfig,
    pub falco: FalcoConfig,
    /// Scans run as Jobs of a cluster, in place of this machine.
    pub kubernetes: Option<KubernetesConfig>,
}

/// A filter of the operator's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterFile {
    pub name: Name,
    /// Where the component is: a path, `{ url, digest }`, or `{ registry, package, version }`.
    #[serde(alias = "path")]
    pub source: manifest::Source,
    /// Given to the filter as a JSON object.
    pub settings: Option<serde_json::Value>,
    /// Filters are asked in ascending order.
    pub order: Option<i32>,
    pub may_suppress_up_to: Option<Grant>,
    /// `active` or `shadow`.
    #[serde(default)]
    pub start: policy::Start,
}

/// What uploads may take, and what filters may do if nothing else is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFile {
    /// Judge with the built-in filter.
    pub baseline: Option<bool>,
    pub max_mib: Option<u64>,
    /// CPU seconds and memory for compiling one component.
    pub compile_seconds: Option<u64>,
    pub compile_memory_mib: Option<u64>,
    /// Revisions of a filter that are kept to go back to.
    pub keep: Option<usize>,
    /// Stored scans that an upload is tried on.
    pub trial_scans: Option<usize>,
    pub may_suppress_up_to: Option<Grant>,
    /// Seconds between two looks at where `filters` come from; 0: only when asked.
    pub poll: Option<u64>,
}

/// Where functions come from, and what a new revision goes through.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FunctionsFile {
    /// Seconds between two looks at the sources; 0: only when asked.
    pub poll: Option<u64>,
    pub max_mib: Option<u64>,
    /// Revisions of a function that are kept to go back to.
    pub keep: Option<usize>,
    /// Requests in a hundred that a new revision answers before it is active; 0: none.
    pub canary_percent: Option<u8>,
    /// For how long, and with how many requests at least.
    pub canary_seconds: Option<u64>,
    pub canary_requests: Option<u64>,
    /// Where a component comes from, in place of what `spin.toml` says.
    pub source: BTreeMap<Name, manifest::Source>,
}

/// Whose signatures components need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyConfig {
    /// Files of public keys, as `cosign generate-key-pair` writes them.
    pub keys: Vec<PathBuf>,
    pub need: VerifyNeed,
    /// Sources that need one: `registry.example/team/*`, or `*` for all that are not built in.
    #[serde(alias = "required-for")]
    pub required_for: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyNeed {
    #[default]
    AnyOf,
    AllOf,
}

/// How registries are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Docker's `config.json`; that of the user if left out.
    pub docker_config: Option<PathBuf>,
    /// HTTP without TLS, for registries on this machine only.
    pub plain_http: bool,
    /// Certificate authorities beside the system's.
    pub ca_files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct CompileLimits {
    memory_bytes: u64,
    cpu: Duration,
}

/// Limits of one scan and of all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScanFile {
    /// Seconds.
    pub timeout: Option<u64>,
    pub memory_mib: Option<u64>,
    pub disk_mib: Option<u64>,
    pub processes: Option<u32>,
    /// Distinct alerts.
    pub alerts: Option<u32>,
    /// Scans that may wait.
    pub queue: Option<usize>,
    /// Scans at the same time.
    pub parallel: Option<usize>,
    /// Final scans that are kept, and for how many days.
    pub keep: Option<usize>,
    pub keep_days: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpFile {
    pub max_body_mib: Option<u64>,
    pub connections: Option<usize>,
    /// Seconds.
    pub header_timeout: Option<u64>,
    pub body_pause: Option<u64>,
    pub drain: Option<u64>,
}

/// Who may do what; the secret is the content of a file, its line end left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The owner of what is submitted with it; for Basic, the user's name.
    pub name: String,
    pub roles: Vec<Role>,
    pub secret_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Submit,
    Read,
    /// Sees everybody's scans.
    Admin,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {0} cannot be read")]
    Read(String, #[source] std::io::Error),
    #[error("the configuration file {0} is not right")]
    Parse(String, #[source] Box<toml::de::Error>),
    #[error("falco.witness needs a door for its marks: set intake.listen, falco.instances or falco.pods")]
    NoDoor,
    #[error("functions.canary_percent is a number from 0 to 100")]
    Percent,
    #[error("verify.required_for needs verify.keys")]
    NoKeys,
    #[error(
        "kubernetes.sources and kubernetes.pods.source_claim are two ends of one volume: set both or neither"
    )]
    HalfVolume,
    #[error("kubernetes.bucket and kubernetes.sources are two ways for projects: set one of them")]
    BucketAndVolume,
    #[error("kubernetes.bucket.url is not s3://BUCKET/PREFIX: {0}")]
    BucketUrl(String),
    #[error("kubernetes.bucket.endpoint is not https://HOST:PORT")]
    BucketEndpoint,
    #[error(
        "kubernetes.bucket.endpoint is without TLS, so that projects and their signed addresses can be read on the way: \
         use https://, or set kubernetes.bucket.allow_http"
    )]
    BucketHttp,
    #[error("kubernetes.bucket.access_key_file and secret_key_file are one key: set both or neither")]
    HalfKey,
    #[error("kubernetes.pods.namespace is empty: say where scans run as Jobs")]
    NoNamespace,
    #[error("there is no home to keep data in: set HOME, or give --data-dir")]
    NoHome,
}

impl Config {
    /// Who of a cluster is let in, where scans run on one.
    pub fn accounts(&self) -> Option<&AccountsConfig> {
        self.kubernetes.as_ref()?.auth.as_ref()
    }

    /// Where filters are objects of a cluster, if they may be.
    pub fn objects(&self) -> Option<&ObjectsConfig> {
        self.kubernetes.as_ref()?.filters.as_ref()
    }

    /// The file (if one is named) over the defaults; flags are laid over the result by the command line.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            None => File::default(),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(name.clone(), e))?;
                toml::from_str(&text).map_err(|e| ConfigError::Parse(name, Box::new(e)))?
            }
        };
        Self::from_file(file, environment())
    }

    /// How components are compiled apart, by this program.
    pub fn apart(&self, program: PathBuf) -> Apart {
        Apart { program, memory_bytes: self.compile.memory_bytes, cpu: self.compile.cpu }
    }

    fn from_file(file: File, env: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let var =
            |name: &str| env.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| PathBuf::from(v));
        let below_home = |xdg: &str, rest: &str| var(xdg).or_else(|| var("HOME").map(|h| h.join(rest)));
        let data_dir =
            file.data_dir.or_else(|| below_home("XDG_DATA_HOME", ".local/share").map(|d| d.join("lanner")));
        let cache_dir =
            file.cache_dir.or_else(|| below_home("XDG_CACHE_HOME", ".cache").map(|d| d.join("lanner")));
        if file.falco.witness
            && file.intake.listen.is_none()
            && file.falco.instances.is_empty()
            && file.falco.pods.is_none()
        {
            return Err(ConfigError::NoDoor);
        }
        if file.functions.canary_percent.is_some_and(|p| p > 100) {
            return Err(ConfigError::Percent);
        }
        if !file.verify.required_for.is_empty() && file.verify.keys.is_empty() {
            return Err(ConfigError::NoKeys);
        }
        if let Some(kubernetes) = &file.kubernetes {
            kubernetes.check()?;
        }
        let mut registry = file.registry;
        registry.docker_config = registry.docker_config.or_else(|| docker_config(&var));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let grant = file.policy.may_suppress_up_to.unwrap_or_default();
        let seconds = |given: Option<u64>, default| Duration::from_secs(given.unwrap_or(default));
        Ok(Self {
            data_dir: data_dir.ok_or(ConfigError::NoHome)?,
            cache_dir,
            listen: file.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3000))),
            admin_listen: file.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3001))),
            app: file.app,
            rules: file.rules,
            filters: file.filters.into_iter().map(|f| configured(f, grant)).collect(),
            policy: policy::Settings {
                folder: PathBuf::new(),
                apart: nowhere(),
                max_bytes: file.policy.max_mib.unwrap_or(64) << 20,
                keep: file.policy.keep.unwrap_or(10),
                may_suppress_up_to: grant,
                trial_scans: file.policy.trial_scans.unwrap_or(20),
                baseline: file.policy.baseline.unwrap_or(true),
                poll: poll(file.policy.poll),
            },
            verify: file.verify,
            registry,
            functions: functions(file.functions),
            compile: CompileLimits {
                memory_bytes: file.policy.compile_memory_mib.unwrap_or(4096) << 20,
                cpu: seconds(file.policy.compile_seconds, 180),
            },
            credentials: file.credentials,
            isolation: file.isolation.unwrap_or(Isolation::Namespaces),
            allow_hosts: file.allow_hosts,
            limits: limits(&file.scan),
            queue: file.scan.queue.unwrap_or(1000),
            parallel: file.scan.parallel.unwrap_or(cores).max(1),
            keep: file.scan.keep.unwrap_or(1000),
            max_age: Duration::from_secs(file.scan.keep_days.unwrap_or(30).saturating_mul(86_400)),
            max_body_bytes: file.http.max_body_mib.unwrap_or(512) << 20,
            http: HttpLimits {
                connections: file.http.connections.unwrap_or(1024),
                header_timeout: seconds(file.http.header_timeout, 10),
                body_pause: seconds(file.http.body_pause, 20),
                body_pace: 1024,
                drain: seconds(file.http.drain, 20),
            },
            intake: file.intake,
            falco: file.falco,
            kubernetes: file.kubernetes,
            env,
            unwatched: false,
            bench_native: false,
        })
    }
}

fn configured(file: FilterFile, default: Grant) -> policy::Configured {
    let spec = policy::Spec {
        settings: file.settings,
        order: file.order,
        may_suppress_up_to: file.may_suppress_up_to,
        start: file.start,
        ..policy::Spec::default()
    };
    let source = Source::new(&file.source, Path::new(""));
    policy::Configured { name: file.name, source, spec: spec.complete(default) }
}

/// Seconds, or never.
fn poll(seconds: Option<u64>) -> Option<Duration> {
    Some(seconds.unwrap_or(300)).filter(|s| *s > 0).map(Duration::from_secs)
}

fn functions(file: FunctionsFile) -> function::Settings {
    function::Settings {
        folder: PathBuf::new(),
        apart: nowhere(),
        max_bytes: file.max_mib.unwrap_or(64) << 20,
        keep: file.keep.unwrap_or(10),
        poll: poll(file.poll),
        canary: CanarySettings {
            percent: file.canary_percent.unwrap_or(10),
            time: Duration::from_secs(file.canary_seconds.unwrap_or(60)),
            requests: file.canary_requests.unwrap_or(100),
        },
        sources: file.source,
    }
}

/// The host says later where its program is.
fn nowhere() -> Apart {
    Apart { program: PathBuf::new(), memory_bytes: 0, cpu: Duration::ZERO }
}

/// Where docker and its friends keep passwords, if there is such a file.
fn docker_config(var: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let folder = var("DOCKER_CONFIG").or_else(|| var("HOME").map(|home| home.join(".docker")))?;
    Some(folder.join("config.json")).filter(|path| path.is_file())
}

fn limits(file: &ScanFile) -> Limits {
    let default = Limits::default();
    Limits {
        wall: file.timeout.map_or(default.wall, Duration::from_secs),
        cpu: file.timeout.map_or(default.cpu, Duration::from_secs),
        memory_bytes: file.memory_mib.map_or(default.memory_bytes, |m| m << 20),
        disk_bytes: file.disk_mib.map_or(default.disk_bytes, |m| m << 20),
        processes: file.processes.unwrap_or(default.processes),
        alerts: file.alerts.unwrap_or(default.alerts),
        ..default
    }
}

/// What is not text cannot be meant for us.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lanner.toml");
        std::fs::write(&path, "[scan]\nparalel = 3\n").unwrap();
        let error = Config::load(Some(&path)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("unknown field `paralel`"), "{cause}");
    }

    #[test]
    fn keys_of_the_file_and_the_home_are_used() {
        let file: File = toml::from_str("listen = \"127.0.0.1:9\"\n[scan]\nmemory_mib = 7\n").unwrap();
        let config = Config::from_file(file, vec![("HOME".into(), "/home/me".into())]).unwrap();
        assert_eq!(config.data_dir, Path::new("/home/me/.local/share/lanner"));
        assert_eq!((config.listen.port(), config.limits.memory_bytes), (9, 7 << 20));
        let blind: File = toml::from_str("[falco]\nwitness = true\n").unwrap();
        let blind = Config::from_file(blind, vec![("HOME".into(), "/home/me".into())]).unwrap_err();
        assert_eq!(
            blind.to_string(),
            "falco.witness needs a door for its marks: set intake.listen, falco.instances or falco.pods"
        );
        let refused = |text: &str| {
            let file = toml::from_str(text).unwrap();
            Config::from_file(file, vec![("HOME".into(), "/home/me".into())]).unwrap_err().to_string()
        };
        let percent = refused("[functions]\ncanary_percent = 101\n");
        assert_eq!(percent, "functions.canary_percent is a number from 0 to 100");
        let keys = refused("[verify]\nrequired-for = [\"*\"]\n");
        assert_eq!(keys, "verify.required_for needs verify.keys");
        let named: File = toml::from_str(
            "[[filters]]\nname = \"a\"\nsource = { registry = \"r.example\", package = \"t:a\", version = \"1\" }\n\
             [[filters]]\nname = \"b\"\npath = \"b.wasm\"\n",
        )
        .unwrap();
        let named = Config::from_file(named, vec![("HOME".into(), "/home/me".into())]).unwrap();
        let sources: Vec<String> = named.filters.iter().map(|f| f.source.to_string()).collect();
        assert_eq!(sources, ["r.example/t/a:1", "b.wasm"]);
        let homeless = Config::from_file(File::default(), vec![]).unwrap_err();
        assert_eq!(homeless.to_string(), "there is no home to keep data in: set HOME, or give --data-dir");
    }
}
