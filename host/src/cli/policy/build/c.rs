//! C: bindings generated in process, clang and wasm-ld without a C library, then a component in process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use super::tool::Tool;

pub(super) fn build(project: &Path) -> anyhow::Result<Vec<u8>> {
    let made = project.join("build");
    let objects = bindings(&project.join("wit"), &made.join("bindings"))?;
    let module = made.join("filter.core.wasm");
    // clang starts it by itself, and only says that it failed.
    let linker = Tool { program: Path::new("wasm-ld"), remedy: "apt-get install lld" };
    linker.read(project, ["--version"])?;
    let clang = Tool { program: Path::new("clang"), remedy: "apt-get install clang lld" };
    let flags = [
        "--target=wasm32",
        "-O2",
        "-Wall",
        "-Wextra",
        "-ffreestanding",
        "-fno-builtin",
        "-nostdlib",
        "-nostdlibinc",
        "-Wl,--no-entry",
        "-Ilibc",
        "-Ibuild/bindings",
        "-o",
    ];
    let mut args: Vec<OsString> = flags.iter().map(OsString::from).collect();
    args.push(module.clone().into());
    args.extend(sources(project)?.into_iter().chain(objects).map(PathBuf::into_os_string));
    clang.run(project, args)?;
    super::component(&super::read(&module)?)
}

/// Writes what the WIT files say in C; returns what is to be compiled and linked.
fn bindings(wit: &Path, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).with_context(|| format!("{} cannot be read", wit.display()))?;
    let world = resolve.select_world(&[package], Some(super::WORLD))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut linked = Vec::new();
    for (name, content) in files.iter() {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("{} cannot be written", path.display()))?;
        if !name.ends_with(".h") {
            linked.push(path);
        }
    }
    Ok(linked)
}

/// The project's own .c files, without its tests (`test.c`, `test_*.c`), and those of its `libc`.
fn sources(project: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [project.to_path_buf(), project.join("libc")] {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?
        {
            let path = entry?.path();
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let is_test = stem == "test" || stem.starts_with("test_");
            if path.extension().is_some_and(|e| e == "c") && !is_test {
                found.push(path);
            }
        }
    }
    ensure!(!found.is_empty(), "{} has no .c file", project.display());
    // The same order at every build, so that the same sources give the same bytes.
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_not_linked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("libc")).unwrap();
        for name in ["filter.c", "b.c", "test.c", "test_b.c", "b.h", "libc/libc.c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = sources(folder.path())
            .unwrap()
            .iter()
            .map(|p| p.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["b.c", "filter.c", "libc/libc.c"]);
    }
}
