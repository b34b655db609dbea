//! `lanner policy build`: runs the tools of the project's language and leaves one file, a component.
//!
//! What a filter may import, the platform checks when it is uploaded; this only chooses how each language gets there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::super::Exit;
use super::language::Language;
use crate::engine::Wasm;
use crate::engine::inspect::inspect;

mod c;
mod js;
mod python;
mod rust;
mod tool;

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Where the component goes
    #[arg(short, long, value_name = "OUT.wasm")]
    out: PathBuf,
}

const WORLD: &str = "alert-filter";

pub(super) fn run(args: &BuildArgs) -> anyhow::Result<Exit> {
    let project =
        std::fs::canonicalize(&args.dir).with_context(|| format!("{} cannot be read", args.dir.display()))?;
    let component = match Language::of(&project)? {
        Language::Rust => rust::build(&project),
        Language::Js => js::build(&project),
        Language::Python => python::build(&project),
        Language::C => c::build(&project),
    }?;
    let component = Wasm::new(component);
    std::fs::write(&args.out, &*component)
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    println!("{}: {} bytes, {}", args.out.display(), component.len(), component.digest());
    Ok(Exit::Clean)
}

/// A core module that knows its world becomes a component; no WASI is put underneath.
fn component(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    const NO_FILTER: &str = "what was built is no module for the world alert-filter";
    let component = wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .context(NO_FILTER)?;
    // A module that says nothing of a world becomes a component that offers nothing.
    let offers = inspect(&component)?.exports.iter().any(|e| e.starts_with("lanner:platform/filter@"));
    anyhow::ensure!(offers, NO_FILTER);
    Ok(component)
}

/// What a tool was told to write.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} was not built", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_project_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let build = |dir: &Path| {
            let args = BuildArgs { dir: dir.to_path_buf(), out: folder.path().join("x.wasm") };
            run(&args).unwrap_err().to_string()
        };
        assert_eq!(build(Path::new("no/such")), "no/such cannot be read");
        assert!(build(folder.path()).contains("is no project of a filter"));
    }

    #[test]
    fn a_module_without_the_world_is_refused() {
        let refusal = format!("{:#}", component(b"\0asm\x01\0\0\0").unwrap_err());
        assert!(refusal.starts_with("what was built is no module for the world alert-filter"), "{refusal}");
    }
}
