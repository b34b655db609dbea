//! The home and the project folder: what an ordinary user's would hold, and the decoys.
//!
//! Made by path relative to a folder that is still empty and ours, so there is no link to follow yet.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::plan::Plan;
use super::seed::Stream;
use super::{SandboxError, decoys, step};

/// What was made, relative to the home.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) decoys: Vec<&'static str>,
    pub(crate) project: PathBuf,
}

/// Files that a shell would read at its start: something for persistence to write to. Not decoys.
const PLAIN: [(&str, &str); 4] = [
    (".bashrc", "case $- in\n    *i*) ;;\n      *) return;;\nesac\nHISTSIZE=1000\nalias ll='ls -alF'\n"),
    (
        ".profile",
        "if [ -n \"$BASH_VERSION\" ] && [ -f \"$HOME/.bashrc\" ]; then\n    . \"$HOME/.bashrc\"\nfi\n",
    ),
    (".bash_logout", "[ \"$SHLVL\" = 1 ] && [ -x /usr/bin/clear_console ] && /usr/bin/clear_console -q\n"),
    (".selected_editor", "SELECTED_EDITOR=\"/usr/bin/vim.basic\"\n"),
];

/// Fills the folder at `at`, which exists and is empty.
pub(crate) fn furnish(at: &Path, plan: &Plan) -> Result<Home, SandboxError> {
    let decoys = decoys::files(&plan.seed, &plan.user, &plan.hostname);
    for decoy in decoys.iter().chain(&decoys::companions(&plan.seed, &plan.user, &plan.hostname)) {
        write(&at.join(decoy.path), &decoy.content, decoy.mode)?;
    }
    for private in [".ssh", ".aws", ".kube", ".docker"] {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(at.join(private), mode).map_err(step(format!("close {private}")))?;
    }
    for (path, content) in PLAIN {
        write(&at.join(path), content.as_bytes(), 0o644)?;
    }
    let name = format!("[user]\n\tname = {0}\n\temail = {0}@{1}.invalid\n", plan.user, plan.hostname);
    write(&at.join(".gitconfig"), name.as_bytes(), 0o644)?;
    let project = project(&plan.seed);
    for folder in [".cache".as_ref(), ".config".as_ref(), ".local/share".as_ref(), project.as_path()] {
        folders(&at.join(folder))?;
    }
    Ok(Home { decoys: decoys.iter().map(|decoy| decoy.path).collect(), project })
}

/// The rules for Falco know the project by these.
const PARENTS: [&str; 5] = ["src", "code", "work", "projects", "dev"];

/// A folder as people name theirs: malware looks for the fixed paths of sandboxes.
fn project(seed: &[u8]) -> PathBuf {
    let mut stream = Stream::new(seed, "project");
    let parent = stream.pick(&PARENTS).copied().unwrap_or("src");
    let name =
        stream.pick(&["website", "backend", "frontend", "api", "web", "shop", "portal", "admin"]).copied();
    Path::new(parent).join(name.unwrap_or("web"))
}

pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), SandboxError> {
    if let Some(parent) = path.parent() {
        folders(parent)?;
    }
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    open.and_then(|mut file| file.write_all(content)).map_err(step(format!("write {}", path.display())))
}

pub(crate) fn folders(path: &Path) -> Result<(), SandboxError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(step(format!("make {}", path.display())))
}

/// Gives a folder and all in it, made by us a moment ago, to the package's user.
pub(crate) fn give(path: &Path, user: u32) -> Result<(), SandboxError> {
    let failed = || step(format!("give {} to the package's user", path.display()));
    std::os::unix::fs::lchown(path, Some(user), Some(user)).map_err(failed())?;
    if !fs::symlink_metadata(path).map_err(failed())?.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed())? {
        give(&entry.map_err(failed())?.path(), user)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_for_falco_know_where_the_project_lies() {
        for parent in PARENTS {
            let known = format!("fd.name glob \"*/home/*/{parent}/*/*\"");
            assert!(
                lanner_rules::falco::DIALECT.contains(&known),
                "falco_dialect.yaml lacks {parent}: add it to the macros `in_project` and `program_in_project`"
            );
        }
    }
}
