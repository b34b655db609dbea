//! `lanner app push` and `pull`: a `spin.toml` and all its components as one artifact, as `spin registry push` writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use lanner_oci::{App, AppSource, Reference};

use super::Exit;
use super::function::{RegistryArgs, block_on, pinned};
use crate::manifest::{Manifest, Source};

#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// Push an app to a registry
    Push(PushArgs),
    /// Pull an app into a folder, ready for `--app`
    Pull(PullArgs),
}

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// Where to: REGISTRY/REPOSITORY:TAG
    to: Reference,
    /// The app's manifest; its components are files beside it
    #[arg(value_name = "DIR/spin.toml")]
    manifest: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Where from: REGISTRY/REPOSITORY:TAG or …@sha256:…
    from: Reference,
    /// A folder that is not there yet
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn run(command: &AppCommand) -> anyhow::Result<Exit> {
    match command {
        AppCommand::Push(args) => push(args),
        AppCommand::Pull(args) => pull(args),
    }
}

fn push(args: &PushArgs) -> anyhow::Result<Exit> {
    let unread = |path: &Path| format!("{} cannot be read", path.display());
    let text = std::fs::read_to_string(&args.manifest).with_context(|| unread(&args.manifest))?;
    let folder = args.manifest.parent().unwrap_or(Path::new(""));
    let mut components = BTreeMap::new();
    for function in Manifest::parse(&args.manifest.display().to_string(), &text)?.functions() {
        let Source::Path(path) = &function.source else {
            bail!("component {}: what is pushed with an app is a file: name it in `source`", function.name);
        };
        let path = folder.join(path);
        let bytes = std::fs::read(&path).with_context(|| unread(&path))?;
        components.insert(function.name.to_string(), Bytes::from(bytes));
    }
    let app = AppSource { manifest: text, components, annotations: Default::default() };
    let (registry, _) = args.registry.open()?;
    let digest = block_on(async { Ok(registry.push_app(&args.to, &app).await?) })?;
    println!("{}", args.to.at(digest));
    Ok(Exit::Clean)
}

fn pull(args: &PullArgs) -> anyhow::Result<Exit> {
    let (registry, _) = args.registry.open()?;
    let (at, app) = block_on(async {
        let at = pinned(&registry, &args.from).await?;
        let app = registry.pull_app(&at).await?;
        Ok((at, app))
    })?;
    std::fs::create_dir(&args.folder)
        .with_context(|| format!("the folder {} cannot be made", args.folder.display()))?;
    write(&app, &args.folder)?;
    println!("{at}");
    println!("{}: {} components", args.folder.join("spin.toml").display(), app.components.len());
    Ok(Exit::Clean)
}

/// Each component as `NAME.wasm` beside the manifest, which names them so: where its author had them is nobody's business.
fn write(app: &App, folder: &Path) -> anyhow::Result<()> {
    let mut manifest: toml::Table =
        toml::from_str(&app.manifest).context("the app's spin.toml cannot be read")?;
    for (id, component) in &app.components {
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        ensure!(plain && !id.is_empty(), "the component {id:?} has a name that is no file's");
        let file = format!("{id}.wasm");
        let table =
            manifest.get_mut("component").and_then(|c| c.get_mut(id)).and_then(toml::Value::as_table_mut);
        let table = table.with_context(|| format!("the app's spin.toml has no component {id}"))?;
        table.insert("source".to_owned(), file.clone().into());
        std::fs::write(folder.join(&file), &component.bytes)
            .with_context(|| format!("{file} cannot be written"))?;
    }
    let text = toml::to_string(&manifest).context("the app's spin.toml cannot be written")?;
    let path = folder.join("spin.toml");
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use lanner_oci::{AppComponent, Digest};

    use super::*;

    #[test]
    fn a_pulled_app_names_the_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let component = AppComponent { digest: Digest::of(b"x"), bytes: Bytes::from_static(b"x") };
        let app = |id: &str| App {
            digest: Digest::of(b""),
            manifest:
                "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/\"\n\
                       component = \"c\"\n[component.c]\nsource = \"/home/me/c.wasm\"\n"
                    .into(),
            components: [(id.to_owned(), component.clone())].into(),
            annotations: Default::default(),
        };
        write(&app("c"), folder.path()).unwrap();
        let manifest = Manifest::read(&folder.path().join("spin.toml")).unwrap();
        assert_eq!(manifest.functions().next().unwrap().source, Source::Path("c.wasm".into()));
        assert_eq!(std::fs::read(folder.path().join("c.wasm")).unwrap(), b"x");
        let stranger = write(&app("d"), folder.path()).unwrap_err().to_string();
        assert_eq!(stranger, "the app's spin.toml has no component d");
        assert!(write(&app("../c"), folder.path()).unwrap_err().to_string().contains("no file's"));
    }
}
