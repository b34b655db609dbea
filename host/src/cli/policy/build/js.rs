//! JavaScript: componentize-js from npm, with every feature that would import something switched off.

use std::path::Path;

use anyhow::Context;

use super::tool::Tool;

const TOOL: &str = "node_modules/@bytecodealliance/componentize-js/src/cli.js";

pub(super) fn build(project: &Path) -> anyhow::Result<Vec<u8>> {
    if !project.join(TOOL).is_file() {
        let npm = Tool { program: Path::new("npm"), remedy: "apt-get install npm" };
        // What is installed runs at the author's desk, so its install scripts do not.
        let quiet = ["--ignore-scripts", "--no-audit", "--no-fund"];
        let verb = if project.join("package-lock.json").is_file() { "ci" } else { "install" };
        npm.run(project, [verb].iter().chain(&quiet))?;
    }
    let folder = tempfile::tempdir().context("a temporary folder cannot be made")?;
    let out = folder.path().join("filter.wasm");
    let node = Tool { program: Path::new("node"), remedy: "apt-get install nodejs" };
    let out_text = out.to_str().context("the temporary folder's name is not UTF-8")?;
    node.run(
        project,
        [TOOL, "filter.js", "--wit", "wit", "--world-name", super::WORLD, "--out", out_text, "--disable"]
            .iter()
            .chain(&["stdio", "random", "clocks", "http", "fetch-event"]),
    )?;
    super::read(&out)
}
