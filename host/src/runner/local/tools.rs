//! Finds a Job's programs on this machine and the folders that they need to be readable in the sandbox.
//!
//! `/usr` and its like are always readable there. A toolchain elsewhere (a version manager's folder in the home) is
//! made readable by its own prefix, the folder above its `bin`, and nothing around it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::runner::RunError;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) programs: Vec<(String, PathBuf)>,
    /// Folders to be readable at the same path.
    pub(super) dirs: Vec<PathBuf>,
    /// The program search path inside.
    pub(super) path: String,
}

/// Readable in every sandbox.
const SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(super) fn find(names: &[String], env: &[(String, String)]) -> Result<Tools, RunError> {
    let search = env.iter().find(|(name, _)| name == "PATH").map_or(SYSTEM_PATH, |(_, value)| value);
    let mut tools = Tools::default();
    let mut dirs = BTreeSet::new();
    let mut path = BTreeSet::new();
    for name in names {
        let program = which(name, search).ok_or_else(|| RunError::NoTool(name.clone()))?;
        // Both where the name lies and where it leads: a link in ~/bin to a toolchain needs both.
        let real =
            program.canonicalize().map_err(|e| RunError::Io(format!("{name} cannot be resolved"), e))?;
        for place in [&program, &real] {
            if !SYSTEM.iter().any(|s| place.starts_with(s)) {
                dirs.extend(prefix(place));
                if place == &program {
                    path.extend(place.parent().map(Path::to_path_buf));
                }
            }
        }
        tools.programs.push((name.clone(), program));
    }
    // A folder below another one that is readable anyway adds nothing.
    let all: Vec<PathBuf> = dirs.into_iter().collect();
    tools.dirs = all.iter().filter(|d| !all.iter().any(|o| *d != o && d.starts_with(o))).cloned().collect();
    let mut search: Vec<String> = path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    search.push(SYSTEM_PATH.into());
    tools.path = search.join(":");
    Ok(tools)
}

impl Tools {
    pub(super) fn program(&self, name: &str) -> Option<&Path> {
        self.programs.iter().find(|(n, _)| n == name).map(|(_, path)| path.as_path())
    }
}

fn which(name: &str, search: &str) -> Option<PathBuf> {
    std::env::split_paths(search)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// `/home/me/.nvm/versions/node/v20` of `…/v20/bin/node` and of `…/v20/lib/node_modules/npm/bin/npm-cli.js`.
fn prefix(program: &Path) -> Option<PathBuf> {
    let top = program.ancestors().filter(|a| a.ends_with("bin") || a.ends_with("lib")).last();
    match top.and_then(Path::parent) {
        Some(prefix) if prefix.components().count() > 2 => Some(prefix.to_path_buf()),
        // A program without a `bin` above it, or one at `/home/bin`: only its own folder.
        _ => program.parent().filter(|p| p.components().count() > 2).map(Path::to_path_buf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_the_toolchain_and_not_the_home() {
        let of = |p: &str| prefix(Path::new(p)).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(
            of("/home/me/.nvm/versions/node/v20/bin/node").unwrap(),
            "/home/me/.nvm/versions/node/v20"
        );
        assert_eq!(
            of("/home/me/.nvm/versions/node/v20/lib/node_modules/npm/bin/npm-cli.js").unwrap(),
            "/home/me/.nvm/versions/node/v20"
        );
        assert_eq!(of("/home/me/tool").unwrap(), "/home/me");
        assert_eq!(of("/tool"), None);
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = find(&["no-such-tool".into()], &[("PATH".into(), "/usr/bin".into())]).unwrap_err();
        assert!(error.to_string().starts_with("no-such-tool is not on this machine"), "{error}");
    }

    #[test]
    fn a_system_tool_needs_no_folder() {
        let tools = find(&["sh".into()], &[("PATH".into(), "/usr/bin:/bin".into())]).unwrap();
        assert_eq!(tools.dirs, Vec::<PathBuf>::new());
        assert_eq!(tools.path, SYSTEM_PATH);
    }
}
