//! Python: componentize-py from PyPI in the project's own environment, with WASI replaced by traps.

use std::path::Path;

use anyhow::Context;

use super::tool::Tool;

const TOOL: &str = ".venv/bin/componentize-py";
const REMEDY: &str = "apt-get install python3 python3-venv";

pub(super) fn build(project: &Path) -> anyhow::Result<Vec<u8>> {
    if !project.join(TOOL).is_file() {
        let python = Tool { program: Path::new("python3"), remedy: REMEDY };
        python
            .run(project, ["-m", "venv", ".venv"])
            .with_context(|| format!("if venv is missing: {REMEDY}"))?;
        let own = Tool { program: &project.join(".venv/bin/python"), remedy: REMEDY };
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
        own.run(project, install.iter().chain(&["-r", "requirements.txt"]))?;
    }
    let folder = tempfile::tempdir().context("a temporary folder cannot be made")?;
    let out = folder.path().join("filter.wasm");
    let out_text = out.to_str().context("the temporary folder's name is not UTF-8")?;
    let componentize = Tool { program: &project.join(TOOL), remedy: "remove .venv and build again" };
    componentize.run(
        project,
        [
            "--quiet",
            "--wit-path",
            "wit",
            "--world",
            super::WORLD,
            "componentize",
            "--stub-wasi",
            "app",
            "--output",
            out_text,
        ],
    )?;
    super::read(&out)
}
