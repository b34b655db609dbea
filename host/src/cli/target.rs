//! What `lanner scan` was pointed at: a folder, a gzipped tar, or a published package.

use std::path::{Path, PathBuf};

use lanner_core::PackageSpec;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Folder(PathBuf),
    Archive(PathBuf),
    Package(PackageSpec),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error(transparent)]
    Package(#[from] lanner_core::PackageError),
    #[error("{path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("{0} is neither a folder nor a file")]
    Kind(String),
}

impl Target {
    /// A path that exists is a path; otherwise `word:rest` is a package.
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        let path = Path::new(text);
        match path.metadata() {
            Ok(meta) if meta.is_dir() => Ok(Self::Folder(path.into())),
            Ok(meta) if meta.is_file() => Ok(Self::Archive(path.into())),
            Ok(_) => Err(TargetError::Kind(text.into())),
            Err(_) if PackageSpec::looks_like_one(text) => Ok(Self::Package(text.parse()?)),
            Err(source) => Err(TargetError::Read { path: text.into(), source }),
        }
    }

    /// A name for people.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Package(package) => package.to_string(),
            Self::Folder(path) | Self::Archive(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                whole
                    .file_name()
                    .map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_archives_and_packages_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.tgz");
        std::fs::write(&file, b"x").unwrap();
        let text = |p: &Path| p.to_str().unwrap().to_owned();
        assert_eq!(Target::parse(&text(folder.path())).unwrap(), Target::Folder(folder.path().into()));
        assert_eq!(Target::parse(&text(&file)).unwrap(), Target::Archive(file));
        assert_eq!(Target::parse("npm:a@1").unwrap(), Target::Package("npm:a@1".parse().unwrap()));
        assert!(Target::parse("npm:a;b").is_err());
        assert_eq!(Target::parse("no/such/path").unwrap_err().to_string(), "no/such/path cannot be read");
    }
}
