//! `lanner policy new`: writes the files of a small project, and nothing outside its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::super::Exit;
use super::language::Language;

#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// The filter's name, and that of its folder: small letters, digits and hyphens
    name: String,
    #[arg(long, value_enum)]
    lang: Language,
}

type Files = &'static [(&'static str, &'static str)];

/// The interface files that a filter is built against.
const WIT: Files = &[
    ("wit/alert-filter.wit", include_str!("../../../../proto/wit/alert-filter.wit")),
    ("wit/filter.wit", include_str!("../../../../proto/wit/filter.wit")),
    ("wit/logging.wit", include_str!("../../../../proto/wit/logging.wit")),
    ("wit/types.wit", include_str!("../../../../proto/wit/types.wit")),
];

const RUST: Files = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("templates/rust/src/lib.rs")),
    ("src/batch.rs", include_str!("../../../../functions/shared/filter/src/batch.rs")),
    ("README.md", include_str!("templates/rust/README.md")),
    (".gitignore", "/target\n*.wasm\n"),
];

const JS: Files = &[
    ("package.json", include_str!("templates/js/package.json")),
    ("filter.js", include_str!("templates/js/filter.js")),
    ("batch.js", include_str!("../../../../functions/shared/filter/batch.js")),
    ("filter.test.js", include_str!("templates/js/filter.test.js")),
    ("README.md", include_str!("templates/js/README.md")),
    (".gitignore", "/node_modules\n*.wasm\n"),
];

const PYTHON: Files = &[
    ("requirements.txt", include_str!("templates/python/requirements.txt")),
    ("app.py", include_str!("templates/python/app.py")),
    ("batch.py", include_str!("../../../../functions/shared/filter/batch.py")),
    ("decide.py", include_str!("templates/python/decide.py")),
    ("test_decide.py", include_str!("templates/python/test_decide.py")),
    ("README.md", include_str!("templates/python/README.md")),
    (".gitignore", "/.venv\n__pycache__\n*.wasm\n"),
];

const C: Files = &[
    ("filter.c", include_str!("templates/c/filter.c")),
    ("batch.h", include_str!("../../../../functions/shared/filter/batch.h")),
    ("decide.c", include_str!("templates/c/decide.c")),
    ("decide.h", include_str!("templates/c/decide.h")),
    ("test.c", include_str!("templates/c/test.c")),
    ("libc/libc.c", include_str!("templates/c/libc/libc.c")),
    ("libc/stdlib.h", include_str!("templates/c/libc/stdlib.h")),
    ("libc/string.h", include_str!("templates/c/libc/string.h")),
    ("README.md", include_str!("templates/c/README.md")),
    (".gitignore", "/build\n*.wasm\n"),
];

const MAX_NAME: usize = 64;

pub(super) fn run(args: &NewArgs) -> anyhow::Result<Exit> {
    let written = write(Path::new("."), &args.name, args.lang)?;
    println!("{} is written: its README.md says how to test, build and upload it", written.display());
    Ok(Exit::Clean)
}

fn write(within: &Path, name: &str, language: Language) -> anyhow::Result<PathBuf> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        name.len() <= MAX_NAME
            && name.chars().all(fits)
            && name.starts_with(|c: char| c.is_ascii_lowercase()),
        "{name:?} is no name for a filter: give a letter, then small letters, digits and hyphens, at most {MAX_NAME}"
    );
    let folder = within.join(name);
    let files = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    };
    // A folder that is there may hold somebody's work.
    if let Err(error) = std::fs::create_dir(&folder) {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            bail!("{} is there already: give another name", folder.display());
        }
        return Err(error).with_context(|| format!("{} cannot be made", folder.display()));
    }
    for (path, text) in files.iter().chain(WIT) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        let text = text.replace("{{name}}", name);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn each_language_has_a_project_that_is_known_as_its_own_and_has_the_world() {
        let within = tempfile::tempdir().unwrap();
        for language in Language::value_variants() {
            let name = format!("mine-{language:?}").to_ascii_lowercase();
            let folder = write(within.path(), &name, *language).unwrap();
            assert_eq!(Language::of(&folder).unwrap(), *language);
            let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
            assert!(readme.starts_with(&format!("# {name}\n")) && !readme.contains("{{"), "{readme}");
            assert!(readme.lines().count() <= 14, "{language:?}: a README is read to its end if it is short");
            let mut resolve = wit_bindgen_core::wit_parser::Resolve::default();
            let (package, _) = resolve.push_dir(folder.join("wit")).unwrap();
            resolve.select_world(&[package], Some("alert-filter")).unwrap();
        }
    }

    /// npm packs one folder, so the example has the file itself.
    #[test]
    fn the_example_in_javascript_reads_batches_as_new_projects_do() {
        let example = include_str!("../../../../functions/filter-hosts/batch.js");
        assert_eq!(example, include_str!("../../../../functions/shared/filter/batch.js"));
    }

    #[test]
    fn a_bad_name_and_a_folder_that_is_there_are_refused() {
        let within = tempfile::tempdir().unwrap();
        for name in ["", "../x", "Big", "1st", "a_b", "a/b", &"a".repeat(65)] {
            let refusal = write(within.path(), name, Language::C).unwrap_err().to_string();
            assert!(refusal.contains("is no name for a filter: give a letter"), "{refusal}");
        }
        write(within.path(), "twice", Language::C).unwrap();
        let refusal = write(within.path(), "twice", Language::Rust).unwrap_err().to_string();
        assert!(refusal.ends_with("twice is there already: give another name"), "{refusal}");
        let refusal = write(Path::new("no/such/folder"), "x", Language::C).unwrap_err().to_string();
        assert_eq!(refusal, "no/such/folder/x cannot be made");
    }
}
