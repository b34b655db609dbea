//! `lanner function`: components in registries (push, pull, sign, verify), and the functions of a host.
//!
//! What lies in a registry is asked there, what a host runs is asked over HTTP; the two meet in the host alone.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use lanner_oci::{Pinned, Reference, Registry};

use super::Exit;
use super::answer::{ListArgs, ShowArgs};
use super::refresh::RefreshArgs;
use crate::config::{Config, RegistryConfig};
use crate::oci;

mod artifact;
mod change;
mod show;
mod sign;

#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    /// Push a component to a registry
    Push(artifact::PushArgs),
    /// Pull a component from a registry
    Pull(artifact::PullArgs),
    /// Sign an artifact, as `cosign sign --key` does
    Sign(sign::SignArgs),
    /// Check an artifact's signatures, as `cosign verify --key` does
    Verify(sign::VerifyArgs),
    /// The functions of a host
    List(ListArgs),
    /// One function's revisions
    Show(ShowArgs),
    /// Make a kept revision active
    Activate(change::MoveArgs),
    /// Go back to the revision before, at once
    Rollback(change::MoveArgs),
    /// Let a host look at its sources now, and wait for what comes of it
    Refresh(RefreshArgs),
}

/// How a registry is spoken to; what the configuration file says counts where nothing is given.
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    /// HTTP without TLS, for a registry on this machine
    #[arg(long)]
    plain_http: bool,
    /// A certificate authority beside the system's
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LANNER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &FunctionCommand) -> anyhow::Result<Exit> {
    match command {
        FunctionCommand::Push(args) => artifact::push(args),
        FunctionCommand::Pull(args) => artifact::pull(args),
        FunctionCommand::Sign(args) => sign::sign(args),
        FunctionCommand::Verify(args) => sign::verify(args),
        FunctionCommand::List(args) => show::list(args),
        FunctionCommand::Show(args) => show::show(args),
        FunctionCommand::Activate(args) => change::move_to(args, "activate"),
        FunctionCommand::Rollback(args) => change::move_to(args, "rollback"),
        FunctionCommand::Refresh(args) => change::refresh(args),
    }
}

impl RegistryArgs {
    /// The registry, and the environment that goes with it.
    pub(super) fn open(&self) -> anyhow::Result<(Registry, Config)> {
        let config = Config::load(self.config.as_deref())?;
        let registry = RegistryConfig {
            docker_config: config.registry.docker_config.clone(),
            plain_http: config.registry.plain_http || self.plain_http,
            ca_files: config.registry.ca_files.iter().chain(&self.ca_files).cloned().collect(),
        };
        Ok((oci::registry(&registry, config.functions.max_bytes)?, config))
    }
}

/// The artifact that a reference names now.
pub(super) async fn pinned(registry: &Registry, at: &Reference) -> anyhow::Result<Pinned> {
    Ok(at.at(registry.resolve(at, None).await?))
}

pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
