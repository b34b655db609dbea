//! `lanner policy`: the desk of those who write alert filters, one file a verb.
//!
//! Writing and building know the world `alert-filter` and the tools of each language, and nothing of how a filter is judged.

use clap::Subcommand;

use super::Exit;

mod build;
mod language;
mod new;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Write a small project: a filter that does one thing, its test, and the interface files
    New(new::NewArgs),
    /// Build a project into a component that can be uploaded
    Build(build::BuildArgs),
}

pub(super) fn run(command: &PolicyCommand) -> anyhow::Result<Exit> {
    match command {
        PolicyCommand::New(args) => new::run(args),
        PolicyCommand::Build(args) => build::run(args),
    }
}
