//! `lanner function activate`, `rollback` and `refresh`.

use clap::Args;

use super::super::Exit;
use super::super::refresh::RefreshArgs;
use super::super::remote::Remote;

#[derive(Debug, Args)]
pub(in crate::cli) struct MoveArgs {
    name: String,
    /// Which revision; the newest for `activate`, the one before for `rollback` if left out
    #[arg(long)]
    revision: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn move_to(args: &MoveArgs, verb: &str) -> anyhow::Result<Exit> {
    args.remote.move_to("functions", &args.name, args.revision, verb)
}

pub(super) fn refresh(args: &RefreshArgs) -> anyhow::Result<Exit> {
    args.run("functions")
}
