//! The static program: cargo, with musl as the C library, in a target folder of its own so that no other build is made stale.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

const TRIPLE: &str = "x86_64-unknown-linux-musl";
/// In KiB. The allocator's default is a gibibyte of address space at the first allocation, which would take away what
/// `lanner compile` is given (`compile_memory_mib` limits address space).
const ALLOCATOR: &str = "-DMI_DEFAULT_ARENA_RESERVE=65536";

pub(crate) fn build(root: &Path, profile: &str) -> anyhow::Result<PathBuf> {
    // Asked before ten minutes of compiling end with it.
    ensure!(
        command("musl-gcc").arg("--version").output().is_ok_and(|o| o.status.success()),
        "musl-gcc is missing: run `bash xtask/setup.sh image`"
    );
    let target = root.join("target/image");
    let mut cargo = command("cargo");
    cargo.current_dir(root).env(of_target("CC"), "musl-gcc").env(of_target("CFLAGS"), ALLOCATOR);
    cargo.args(["build", "--locked", "--package", "lanner", "--bin", "lanner", "--target", TRIPLE]);
    cargo.args(["--profile", profile]).arg("--target-dir").arg(&target);
    cargo.arg("--config").arg(format!("target.{TRIPLE}.rustflags={}", flags(root)?));
    let status = cargo.status().context("cargo cannot be started")?;
    ensure!(status.success(), "the static program was not built: bash xtask/setup.sh image");
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target.join(TRIPLE).join(folder).join("lanner"))
}

/// The variable for C of this target, as the crate `cc` reads it: build scripts compile for the machine that builds too.
fn of_target(name: &str) -> String {
    format!("{name}_{}", TRIPLE.replace('-', "_"))
}

/// Panics name the file that they came from: by these flags the same one wherever the sources lie.
fn flags(root: &Path) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "xtask is no part of the product")]
    let var = std::env::var_os;
    let home = var("CARGO_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&var("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let called = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags =
        vec!["-Ctarget-feature=+crt-static".to_owned(), called(root, "/lanner"), called(&home, "/cargo")];
    Ok(toml::Value::from(flags).to_string())
}

#[expect(clippy::disallowed_methods, reason = "xtask runs cargo; it is no part of the product")]
fn command(program: &str) -> Command {
    Command::new(program)
}
