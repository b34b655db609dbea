//! `cargo xtask image`: Lanner's container image as an OCI image layout, made without a container engine.
//!
//! `build` makes the static program, `elf` says whether one is static, `files` what the image holds, `layout` what a registry
//! is told about it. The same program gives the same bytes on every machine: no clock, no user and no certificate of the
//! machine goes in. Nothing here knows registries or pushes; the layout is for those who do (docs/operating.md).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

mod build;
mod elf;
mod files;
mod layout;

struct Options {
    /// A program that is there already.
    binary: Option<PathBuf>,
    /// Where the layout goes.
    out: PathBuf,
    /// Where the files go, as they will lie in the image, instead of a layout: for the Containerfile.
    tree: Option<PathBuf>,
    profile: String,
}

pub(crate) fn run(root: &Path, args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let options = options(root, args)?;
    let path = match &options.binary {
        Some(path) => path.clone(),
        None => build::build(root, &options.profile)?,
    };
    let binary = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let about = elf::read(&binary).with_context(|| path.display().to_string())?;
    if let Some(needed) = &about.needs {
        let sentence =
            format!("{} is not static: it needs {needed}, which the image does not have", path.display());
        if options.binary.is_none() {
            bail!(sentence);
        }
        // An image to look at, as tests do; it says so rather than let somebody find out in a cluster.
        eprintln!("note: {sentence}: it will not run");
    }
    let files = files::files(binary);
    if let Some(tree) = &options.tree {
        return files::lay_out(&files, tree);
    }
    let digest = layout::write(&options.out, &files::layer(&files, time()?)?, about.architecture, time()?)?;
    println!("{digest} {}:{}", options.out.display(), layout::TAG);
    Ok(())
}

fn options(root: &Path, mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options =
        Options { binary: None, out: root.join("target/image/oci"), tree: None, profile: "image".to_owned() };
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} has no value"))?;
        match name.as_str() {
            "--binary" => options.binary = Some(value.into()),
            "--out" => options.out = value.into(),
            "--tree" => options.tree = Some(value.into()),
            "--profile" => options.profile = value,
            _ => bail!(
                "{name} is not known: there are --binary PATH, --out FOLDER, --tree FOLDER, --profile NAME"
            ),
        }
    }
    Ok(options)
}

/// Seconds since 1970 that every time in the image has: <https://reproducible-builds.org/specs/source-date-epoch/>.
fn time() -> anyhow::Result<u64> {
    #[expect(clippy::disallowed_methods, reason = "xtask is no part of the product")]
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse().with_context(|| format!("SOURCE_DATE_EPOCH={seconds}")),
        Err(_) => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both ways to an image must say alike; the files they share.
    #[test]
    fn the_containerfile_says_what_the_layout_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(root.join("Containerfile")).unwrap().replace("\\\n", " ");
        let lines: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let has = |line: String| assert!(lines.contains(&line), "no line {line:?} in {lines:#?}");
        has(format!("USER {}", layout::USER));
        has(format!("WORKDIR {}", layout::FOLDER));
        has(format!("ENTRYPOINT [{:?}]", layout::ENTRYPOINT));
        let labels: Vec<_> = layout::LABELS.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        has(format!("LABEL {}", labels.join(" ")));
        let toolchain = std::fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
        let toolchain: toml::Table = toolchain.parse().unwrap();
        let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
        has(format!("FROM docker.io/library/rust:{channel}-slim-bookworm AS build"));
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let read = |args: &[&str]| options(Path::new("/r"), args.iter().map(|a| (*a).to_owned()));
        let given = read(&["--binary", "b", "--out", "o", "--profile", "release"]).unwrap();
        assert_eq!(given.binary, Some("b".into()));
        assert_eq!((given.out, given.profile), (PathBuf::from("o"), "release".to_owned()));
        assert_eq!(read(&[]).unwrap().out, Path::new("/r/target/image/oci"));
        assert!(read(&["--push", "x"]).is_err());
        assert!(read(&["--out"]).is_err());
    }
}
