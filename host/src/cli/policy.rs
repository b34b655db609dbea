//! `lanner policy`: the desk of those who write alert filters, one file a verb.
//!
//! Writing and building know the world `alert-filter` and the tools of each language, and nothing of how a filter is judged.

use anyhow::Context;
use clap::Subcommand;

use super::Exit;
use super::answer::{ListArgs, ShowArgs};
use super::refresh::RefreshArgs;

mod build;
mod change;
mod language;
mod new;
mod push;
mod show;
mod test;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Write a small project: a filter that does one thing, its test, and the interface files
    New(new::NewArgs),
    /// Build a project into a component that can be uploaded
    Build(build::BuildArgs),
    /// Try a component on known alerts, and on past scans
    Test(Box<test::TestArgs>),
    /// Upload a component to a host, or name one in a registry
    Push(Box<push::PushArgs>),
    /// The filters of a host
    List(ListArgs),
    /// One filter's revisions
    Show(ShowArgs),
    /// What a shadow would have decided otherwise
    Diff(show::DiffArgs),
    /// Make a revision active
    Activate(change::MoveArgs),
    /// Go back to the revision before
    Rollback(change::MoveArgs),
    /// Let a filter judge no more
    Retire(change::RetireArgs),
    /// Let a host look now where its filters come from, and wait for what comes of it
    Refresh(RefreshArgs),
    /// Judge stored alerts again with the filters of now
    Rejudge(change::RejudgeArgs),
}

pub(super) fn run(command: &PolicyCommand) -> anyhow::Result<Exit> {
    match command {
        PolicyCommand::New(args) => new::run(args),
        PolicyCommand::Build(args) => build::run(args),
        PolicyCommand::Test(args) => test::run(args),
        PolicyCommand::Push(args) => push::run(args),
        PolicyCommand::List(args) => show::list(args),
        PolicyCommand::Show(args) => show::show(args),
        PolicyCommand::Diff(args) => show::diff(args),
        PolicyCommand::Activate(args) => change::move_to(args, "activate"),
        PolicyCommand::Rollback(args) => change::move_to(args, "rollback"),
        PolicyCommand::Retire(args) => change::retire(args),
        PolicyCommand::Refresh(args) => args.run("policies"),
        PolicyCommand::Rejudge(args) => change::rejudge(args),
    }
}

/// A file of settings.
fn settings(path: &std::path::Path) -> anyhow::Result<serde_json::Value> {
    let text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}
