//! The command line: what was typed becomes what is meant, and what came out becomes an exit code.
//!
//! It decides nothing about a scan: `lanner scan` sends itself the same HTTP request that a client would send, through
//! the same functions, without a socket.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lanner_core::{Isolation, Priority};

use crate::config::Config;

mod answer;
mod app_artifact;
mod cluster;
mod doctor;
mod function;
mod pod;
mod policy;
mod refresh;
mod relay;
mod remote;
mod render;
mod rules;
mod scan;
mod serve;
mod target;

/// Is it safe to install this? Installs a package in a sandbox, watches it, and answers.
#[derive(Debug, Parser)]
#[command(name = "lanner", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scan a project folder, a gzipped tar of one, or a published package
    Scan(ScanArgs),
    /// Take submissions over HTTP
    Serve(ServeArgs),
    /// Carry Falco's alerts to a host, through a spool on disk, so that none is lost while the host is away
    Relay(RelayArgs),
    /// Check what this machine has and lacks for scanning, and how to mend it
    Doctor(DoctorArgs),
    /// Work with Falco rules files
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Write and build alert filters
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Functions: in registries, and on a host
    #[command(subcommand)]
    Function(function::FunctionCommand),
    /// What a scan's Job runs on Kubernetes
    #[command(subcommand, hide = true)]
    Pod(pod::PodCommand),
    /// Whole apps in registries
    #[command(subcommand)]
    App(app_artifact::AppCommand),
}

#[derive(Debug, Args)]
struct ScanArgs {
    /// A folder, a .tgz file, or MANAGER:NAME[@VERSION] such as npm:left-pad@1.3.0
    target: String,
    /// The package manager; guessed from the project's files otherwise
    #[arg(long, value_name = "NAME")]
    manager: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Exit 1 when an alert at or above this priority is kept
    #[arg(long, value_name = "PRIORITY", default_value = "notice")]
    fail_on: Priority,
    /// Scan somewhere else; what stands between the package and a machine is then that host's own configuration
    #[arg(long, value_enum, conflicts_with_all = ["config", "app", "rules", "isolation", "allow_hosts", "timeout", "unwatched"])]
    on: Option<cluster::On>,
    #[command(flatten)]
    cluster: cluster::ClusterArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Look at the cluster of the current kubeconfig instead of this machine
    #[arg(long, value_enum)]
    on: Option<cluster::On>,
    #[command(flatten)]
    cluster: cluster::ClusterArgs,
    /// The namespace that scans run in
    #[arg(long, value_name = "NAME", default_value = "lanner-scans", requires = "on")]
    scans_namespace: String,
    /// Also try with two pods whether the cluster's network enforces policies
    #[arg(long, requires = "on")]
    probe: bool,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Address and port to listen on; anything but loopback needs credentials
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<std::net::SocketAddr>,
    /// Where scans and sources are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Also answer GET /bench/native-status natively: the baseline of `make bench`
    #[arg(long, hide = true)]
    bench_native: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct RelayArgs {
    /// The host's intake
    #[arg(long, value_name = "URL")]
    to: String,
    /// The authority of the host's certificate, in PEM; for https://
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The relay's own certificate, where the host asks for one (intake.tls.client_ca_file)
    #[arg(long, value_name = "FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// The file of Falco's file_output; standard input (Falco's program_output) otherwise
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where lines wait until the host has acknowledged them
    #[arg(long, value_name = "DIR")]
    spool: PathBuf,
    /// The most that may wait; beyond it, reading waits
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    spool_mib: u64,
    /// The sensor's name in alerts: the node's, say
    #[arg(long, value_name = "NAME", default_value = "falco")]
    name: String,
    /// The secret of the host's intake.secret_file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// What both ways of scanning have in common; each overrides its key in the configuration file.
#[derive(Debug, Default, Args)]
struct Common {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LANNER_CONFIG")]
    config: Option<PathBuf>,
    /// Functions from DIR/spin.toml instead of the built-in ones
    #[arg(long, value_name = "DIR/spin.toml")]
    app: Option<PathBuf>,
    /// Falco rules file instead of the built-in one
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// What stands between the package and this machine
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// Let the installation reach this host too, beside the registry
    #[arg(long = "allow-host", value_name = "HOST[:PORT]")]
    allow_hosts: Vec<String>,
    /// Longest time that an installation may take, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Do not watch: for measuring what watching costs. The scan is never clean
    #[arg(long, hide = true)]
    unwatched: bool,
}

impl Common {
    /// The configuration with these flags laid over it.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        config.app = self.app.clone().or(config.app);
        config.rules = self.rules.clone().or(config.rules);
        config.isolation = match self.isolation {
            Some(IsolationArg::Namespaces) => Isolation::Namespaces,
            Some(IsolationArg::Container) => Isolation::Container,
            None => config.isolation,
        };
        config.allow_hosts.extend(self.allow_hosts.iter().cloned());
        if let Some(seconds) = self.timeout {
            config.limits.wall = Duration::from_secs(seconds);
        }
        config.unwatched = self.unwatched;
        Ok(config)
    }
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Check rules files: every mistake with its file and line
    Check { files: Vec<PathBuf> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IsolationArg {
    /// Namespaces of our own: nothing of this machine but /usr and the toolchain can be seen
    Namespaces,
    /// The container around us, with Landlock, limits and the system call filter
    Container,
}

/// The exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean,
    /// Kept alerts at or above the threshold, whatever the state.
    Alerts,
    /// Bad usage or input.
    Usage,
    /// Incomplete or failed: no answer.
    NoAnswer,
    /// Of `lanner pod reach` alone.
    Reached,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Clean => 0,
            Exit::Alerts => 1,
            Exit::Usage => 2,
            Exit::NoAnswer => 3,
            Exit::Reached => pod::REACHED,
        })
    }
}

pub fn main() -> ExitCode {
    // clap itself exits with 2 on bad usage and 0 on --help.
    let result = match Cli::parse().command {
        Command::Scan(args) => scan::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Relay(args) => relay::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Rules(RulesCommand::Check { files }) => rules::check(&files),
        Command::Policy(command) => policy::run(&command),
        Command::Function(command) => function::run(&command),
        Command::Pod(command) => pod::run(&command),
        Command::App(command) => app_artifact::run(&command),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", lanner_core::text::escaped(&format!("{error:#}")));
            Exit::Usage.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
