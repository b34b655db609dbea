//! Rust: cargo for wasm32-unknown-unknown (the standard library for WASI imports what a filter must not have), then a
//! component in process.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::tool::Tool;

const TARGET: &str = "wasm32-unknown-unknown";

pub(super) fn build(project: &Path) -> anyhow::Result<Vec<u8>> {
    let cargo = Tool { program: Path::new("cargo"), remedy: "see https://rustup.rs" };
    let args = ["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"];
    let messages = cargo
        .read(project, args)
        .with_context(|| format!("if the target is missing: rustup target add {TARGET}"))?;
    let module = artifact(&String::from_utf8_lossy(&messages))
        .context("cargo built no .wasm file: Cargo.toml needs crate-type = [\"cdylib\"]")?;
    super::component(&super::read(&module)?)
}

/// The last .wasm file that cargo says it made: dependencies come before the project.
fn artifact(messages: &str) -> Option<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|m| m.get("reason").and_then(Value::as_str) == Some("compiler-artifact"));
    let files = artifacts.filter_map(|m| m.get("filenames")?.as_array().cloned()).flatten();
    let mut wasm = files.filter_map(|f| f.as_str().filter(|f| f.ends_with(".wasm")).map(PathBuf::from));
    wasm.by_ref().last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_artifact_is_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","filenames":["/t/mine.wasm"]}"#,
            "\nnoise\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(artifact(messages), Some("/t/mine.wasm".into()));
        assert_eq!(artifact(r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib"]}"#), None);
    }
}
