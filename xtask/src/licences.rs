//! Licences of everything that is linked, against the list in `deny.toml`: offline, from `cargo metadata`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let deny: toml::Table = std::fs::read_to_string(root.join("deny.toml"))?.parse()?;
    let allowed: Vec<&str> = deny
        .get("licenses")
        .and_then(|l| l.get("allow")?.as_array())
        .context("deny.toml has licenses.allow")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let mut findings = packages(root, &allowed)?;
    findings.extend(packages(&root.join("functions"), &allowed)?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn packages(folder: &Path, allowed: &[&str]) -> anyhow::Result<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "xtask runs cargo; it is no part of the product")]
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked"])
        // The second is the container image's.
        .args(["--filter-platform=x86_64-unknown-linux-gnu", "--filter-platform=x86_64-unknown-linux-musl"])
        .current_dir(folder)
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list = metadata.get("packages").and_then(Value::as_array).context("metadata has packages")?;
    ensure!(!list.is_empty(), "cargo metadata lists no package");
    Ok(list.iter().filter_map(|p| wrong(p, allowed)).collect())
}

fn wrong(package: &Value, allowed: &[&str]) -> Option<String> {
    let text = |key: &str| package.get(key).and_then(Value::as_str);
    let name = text("name")?;
    let Some(licence) = text("license") else {
        return Some(format!("{name} names no licence"));
    };
    // Older crates write `MIT/Apache-2.0`.
    let expression = licence.replace('/', " OR ");
    match spdx::Expression::parse(&expression) {
        Ok(parsed) if parsed.evaluate(|requirement| allowed.contains(&requirement.to_string().as_str())) => {
            None
        }
        Ok(_) => Some(format!("{name} is under {licence}, which deny.toml does not allow")),
        Err(_) => Some(format!("{name} is under {licence}, which is no SPDX expression")),
    }
}
