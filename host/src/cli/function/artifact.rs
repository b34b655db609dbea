//! `lanner function push` and `pull`: one component as an artifact.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use lanner_oci::{Component, Reference};

use super::super::Exit;
use super::{RegistryArgs, block_on, pinned};

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Where to: REGISTRY/REPOSITORY:TAG
    to: Reference,
    /// The component
    file: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// Where from: REGISTRY/REPOSITORY:TAG or …@sha256:…
    from: Reference,
    /// Where it is written
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn push(args: &PushArgs) -> anyhow::Result<Exit> {
    let unread = || format!("{} cannot be read", args.file.display());
    let bytes = std::fs::read(&args.file).with_context(unread)?;
    // The file's own time, so that the same file is the same artifact each time.
    let written = std::fs::metadata(&args.file).and_then(|m| m.modified()).with_context(unread)?;
    let created = jiff::Timestamp::try_from(written).context("the file's time is out of range")?;
    let created =
        jiff::Timestamp::from_second(created.as_second()).context("the file's time is out of range")?;
    let component = Component { bytes: bytes.into(), annotations: Default::default(), created };
    let (registry, _) = args.registry.open()?;
    let digest = block_on(async { Ok(registry.push(&args.to, &component).await?) })?;
    println!("{}", args.to.at(digest));
    Ok(Exit::Clean)
}

pub(super) fn pull(args: &PullArgs) -> anyhow::Result<Exit> {
    let (registry, _) = args.registry.open()?;
    let (at, artifact) = block_on(async {
        let at = pinned(&registry, &args.from).await?;
        let artifact = registry.pull(&at).await?;
        Ok((at, artifact))
    })?;
    let unwritten = || format!("{} cannot be written", args.output.display());
    std::fs::write(&args.output, &artifact.bytes).with_context(unwritten)?;
    println!("{at}");
    println!("{}: {} bytes, {}", args.output.display(), artifact.bytes.len(), artifact.component);
    Ok(Exit::Clean)
}
