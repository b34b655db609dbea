//! The arrows between the modules of the host, as `docs/architecture.md` draws them.
//!
//! The page holds a block that begins with ```` ```arrows ````, a line a module: `policy -> engine scan`. A `use crate::x` (or a
//! `crate::x::` in the code) that no line allows is a finding, and so is a line for a module that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;

use super::rust_files;

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).context("docs/architecture.md")?;
    let allowed = drawn(&page).context("docs/architecture.md has no block ```arrows")?;
    let source = root.join("host/src");
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in rust_files(&source)? {
        let relative = path.strip_prefix(&source)?;
        // Tests may wire what the product keeps apart.
        if path.ends_with("tests.rs") || path.ends_with("conformance.rs") {
            continue;
        }
        let first = relative.iter().next().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let module = first.trim_end_matches(".rs").to_owned();
        seen.entry(module).or_default().extend(used(&std::fs::read_to_string(&path)?));
    }
    let mut findings = Vec::new();
    for (module, uses) in &seen {
        let Some(arrows) = allowed.get(module) else {
            if !matches!(module.as_str(), "lib" | "main") {
                findings.push(format!(
                    "the module {module} stands in no line of the arrows in docs/architecture.md"
                ));
            }
            continue;
        };
        let new = uses.iter().filter(|u| *u != module && !arrows.contains(*u) && !arrows.contains("all"));
        findings
            .extend(new.map(|u| format!("{module} -> {u} is a new arrow: draw it in docs/architecture.md")));
    }
    let gone = allowed.keys().filter(|m| !seen.contains_key(*m));
    findings.extend(gone.map(|m| format!("docs/architecture.md draws arrows of {m}, which is not there")));
    Ok(findings)
}

fn drawn(page: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let block = page.split("```arrows").nth(1)?.split("```").next()?;
    let line = |l: &str| {
        let (from, to) = l.split_once("->")?;
        Some((from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect()))
    };
    Some(block.lines().filter_map(line).collect())
}

/// The first names after `crate::` outside comments.
fn used(text: &str) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let code = product.lines().filter(|l| !l.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for rest in line.split("crate::").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                names.insert(name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_read_from_the_page_and_from_the_code() {
        let drawn = drawn("x\n```arrows\na -> b c\nd ->\n```\n").unwrap();
        assert_eq!(drawn["a"], ["b".to_owned(), "c".to_owned()].into());
        assert!(drawn["d"].is_empty());
        assert_eq!(
            used("use crate::scan::Scans;\n// crate::no\nlet x = crate::net::y();"),
            ["net".to_owned(), "scan".to_owned()].into()
        );
    }
}
