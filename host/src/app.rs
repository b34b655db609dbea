//! The composition root: makes everything, gives each part only what it needs, and is the only module that sees all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::blob::FileBlob;
use crate::config::Config;
use crate::engine::Engine;
use crate::function::{self, Functions};
use crate::oci::Registries;
use crate::policy::{self, Policy};
use crate::rules_file;
use crate::runner::Terms;
use crate::runner::local::{LocalConfig, LocalRunner};
use crate::scan::ports::Runner;
use crate::scan::witness::WitnessPatience;
use crate::scan::{Patience, Ports, Scans, Settings};
use crate::source::{Local, Origins};
use crate::store::SqliteStore;

mod accounts;
mod cluster;
mod falco;
mod filters;
mod serve;

use cluster::Cluster;
pub use serve::serve;

/// Everything that answers, on one data directory.
pub struct Host {
    pub scans: Scans,
    pub functions: Functions,
    pub policy: Policy,
}

impl Host {
    pub async fn open(config: &Config, data_dir: &Path) -> anyhow::Result<Self> {
        Self::open_on(config, data_dir, None).await
    }

    /// With scans on a cluster, where there is one.
    async fn open_on(config: &Config, data_dir: &Path, cluster: Option<&Cluster>) -> anyhow::Result<Self> {
        let rules = rules_file::read(config.rules.as_deref()).context("the rules file cannot be read")?;
        if let Err(mistakes) = rules_file::compile(&rules) {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            anyhow::bail!("the rules have {} mistakes, the first: {first}", mistakes.len());
        }
        let store = Arc::new(SqliteStore::open(data_dir)?);
        let blob = sources(config, data_dir)?;
        let engine = Engine::new(config.cache_dir.as_deref().map(|d| d.join("compiled")).as_deref())?;
        let origins = origins(config)?;
        let policy = Policy::open(
            &engine,
            policy::Settings {
                folder: data_dir.join("components"),
                apart: config.apart(program()?),
                ..config.policy.clone()
            },
            store.clone(),
            store.clone(),
            origins.clone(),
            &config.filters,
        )
        .await?;
        let terms =
            Terms { isolation: config.isolation, limits: config.limits, rules, unwatched: config.unwatched };
        let runner: Arc<dyn Runner> = match cluster {
            Some(cluster) => Arc::new(cluster.runner(terms, config.allow_hosts.clone())?),
            None => Arc::new(local(config, data_dir, terms)?),
        };
        let ports =
            Ports { store: store.clone(), blob: Arc::new(blob), runner, filter: Arc::new(policy.clone()) };
        let settings = Settings {
            queue: config.queue,
            parallel: config.parallel,
            keep: config.keep,
            max_age: config.max_age,
            patience: Patience::default(),
            witness: config.falco.witness.then(|| WitnessPatience {
                start: Duration::from_secs(config.falco.start_deadline.unwrap_or(30)),
                end: Duration::from_secs(config.falco.end_deadline.unwrap_or(30)),
            }),
        };
        let scans = Scans::new(ports, settings);
        scans.recover().await?;
        let functions = Functions::open(
            &engine,
            &scans,
            config.app.as_deref(),
            function::Settings {
                folder: data_dir.join("functions"),
                apart: config.apart(program()?),
                ..config.functions.clone()
            },
            store,
            origins,
        )
        .await?;
        Ok(Self { scans, functions, policy })
    }
}

/// Where projects are kept: with the rest, or on a volume that scan pods see, too.
fn sources(config: &Config, data_dir: &Path) -> anyhow::Result<FileBlob> {
    let shared = config.kubernetes.as_ref().and_then(|kubernetes| kubernetes.sources.clone());
    let is_shared = shared.is_some();
    let folder = shared.unwrap_or_else(|| data_dir.join("sources"));
    let blob = FileBlob::open(folder, lanner_archive::Limits::default(), config.max_body_bytes);
    let blob = blob.context("the source store cannot be opened")?;
    Ok(if is_shared { blob.shared() } else { blob })
}

fn local(config: &Config, data_dir: &Path, terms: Terms) -> anyhow::Result<LocalRunner> {
    let settings = LocalConfig {
        terms,
        allow_hosts: config.allow_hosts.clone(),
        work_dir: data_dir.join("run"),
        program: program()?,
        env: config.env.clone(),
    };
    LocalRunner::new(settings).context("the runner's folder cannot be made")
}

fn origins(config: &Config) -> anyhow::Result<Origins> {
    // Who asks for a component has a bound of its own, too.
    let max_bytes = config.functions.max_bytes.max(config.policy.max_bytes);
    let local = Local { max_bytes, signed_only: config.verify.required_for.clone() };
    let registry = Registries::open(&config.registry, &config.verify, max_bytes)
        .context("registries cannot be spoken to as registry and verify say")?;
    Ok(Origins { local: Arc::new(local), registry: Arc::new(registry) })
}

/// A host for one scan at the desk: on a private folder that is gone with it.
pub struct Desk {
    pub scans: Scans,
    pub functions: Functions,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Desk {
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        if config.falco.witness {
            anyhow::bail!("falco.witness is for lanner serve: nothing listens for Falco's marks at the desk");
        }
        let folder = tempfile::Builder::new()
            .prefix("lanner-")
            .tempdir()
            .context("no temporary folder can be made")?;
        let host = Host::open(config, folder.path()).await?;
        Ok(Self { scans: host.scans, functions: host.functions, folder, stop: CancellationToken::new() })
    }

    /// Runs scans until [`close`](Self::close).
    pub async fn run(&self) {
        self.scans.clone().run(self.stop.clone()).await;
    }

    pub async fn close(self) {
        self.stop.cancel();
        // What still runs (after a Ctrl-C) is ended in order before its folder goes.
        self.scans.clone().run(self.stop.clone()).await;
        drop(self.scans);
        drop(self.functions);
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the temporary folder could not be removed");
        }
    }
}

/// This program, by a path that stays true when it is replaced on disk while the host runs.
fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own path is unknown")
}
