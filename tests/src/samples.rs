//! The samples in `tests/packages`: a folder is a case.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{archive_of, root, run};

pub struct Sample {
    pub name: String,
    folder: PathBuf,
    pub expect: Expect,
}

/// `expect.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub modelled_on: String,
    pub exit: i32,
    #[serde(default)]
    pub state: Option<String>,
    #[serde(default)]
    pub must: Vec<Must>,
    #[serde(default)]
    pub must_not: Vec<String>,
    /// Programs without which the sample shows nothing.
    #[serde(default)]
    pub needs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Must {
    pub rule: String,
    /// The package responsible; any if left out.
    pub package: Option<String>,
}

impl Sample {
    /// All of them, by name; none at all is an error.
    pub fn all() -> Result<Vec<Self>> {
        let mut samples = Vec::new();
        for entry in std::fs::read_dir(root().join("tests/packages"))? {
            let path = entry?.path();
            if path.is_dir() {
                samples.push(Self::read(&path)?);
            }
        }
        ensure!(samples.len() > 15, "only {} samples were found", samples.len());
        samples.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(samples)
    }

    pub fn named(name: &str) -> Result<Self> {
        Self::read(&root().join("tests/packages").join(name))
    }

    fn read(folder: &Path) -> Result<Self> {
        let name = folder.file_name().context("a sample has a name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("expect.toml")).with_context(|| name.clone())?;
        Ok(Self {
            expect: toml::from_str(&text).with_context(|| name.clone())?,
            name,
            folder: folder.to_path_buf(),
        })
    }

    /// The project as somebody would have it, its packages packed as npm packs them, so that npm unpacks them into
    /// `node_modules` (a folder would only be linked).
    pub fn project(&self) -> Result<TempDir> {
        let project = tempfile::tempdir()?;
        let source = self.folder.join("project");
        run(Command::new("cp").arg("-r").arg(source.join(".")).arg(project.path()))?;
        let packages = self.folder.join("packages");
        for entry in std::fs::read_dir(&packages).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = File::create(project.path().join(format!("{name}.tgz")))?;
            let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
            tar.append_dir_all("package", entry.path())?;
            tar.into_inner()?.finish()?;
        }
        Ok(project)
    }
}

/// A project of npm's, packed, whose one script runs before everything.
pub fn scripted(folder: &Path, name: &str, script: &str) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.tgz"));
    let package =
        serde_json::json!({ "name": name, "version": "1.0.0", "scripts": { "preinstall": script } });
    std::fs::write(&path, archive_of("package.json", package.to_string().as_bytes())?)?;
    Ok(path)
}
