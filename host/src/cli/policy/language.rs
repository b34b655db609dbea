//! The languages in which a filter can be written, and how a project's language is told from its files.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
    C,
}

impl Language {
    /// The file that a project in this language cannot be without.
    const fn mark(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Js => "package.json",
            Self::Python => "requirements.txt",
            Self::C => "filter.c",
        }
    }

    pub(super) fn of(project: &Path) -> anyhow::Result<Self> {
        let shown = project.display();
        let found = Self::value_variants().iter().filter(|l| project.join(l.mark()).is_file());
        match found.collect::<Vec<_>>().as_slice() {
            [one] => Ok(**one),
            [] => {
                let marks: Vec<_> = Self::value_variants().iter().map(|l| l.mark()).collect();
                bail!("{shown} is no project of a filter: it has none of {}", marks.join(", "))
            }
            [one, other, ..] => {
                bail!("{shown} has both {} and {}: which language is it?", one.mark(), other.mark())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projects_language_is_told_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = Language::of(folder.path()).unwrap_err().to_string();
        assert!(
            refusal.ends_with("it has none of Cargo.toml, package.json, requirements.txt, filter.c"),
            "{refusal}"
        );
        std::fs::write(folder.path().join("package.json"), "{}").unwrap();
        assert_eq!(Language::of(folder.path()).unwrap(), Language::Js);
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        let refusal = Language::of(folder.path()).unwrap_err().to_string();
        assert!(
            refusal.ends_with("has both Cargo.toml and package.json: which language is it?"),
            "{refusal}"
        );
    }
}
