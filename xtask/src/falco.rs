//! The rules file that we ship for Falco is written here, never by hand, and `tidy` says when it is no longer what our
//! rules come to. How rules become Falco's is `lanner_rules::falco`'s knowledge.

use std::path::Path;

use anyhow::{Context, bail};
use lanner_rules::{LANNER_RULES, Source, falco};

const FILE: &str = "charts/lanner/files/falco_rules.lanner.yaml";

pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    std::fs::write(root.join(FILE), translated()?).context(FILE)
}

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let kept = std::fs::read_to_string(root.join(FILE)).context(FILE)?;
    let drifted = kept != translated()?;
    let sentence = || format!("{FILE} is not what our rules come to: run `cargo xtask falco-rules`");
    Ok(drifted.then(sentence).into_iter().collect())
}

fn translated() -> anyhow::Result<String> {
    let rules = Source { name: "host/rules/lanner_rules.yaml", text: LANNER_RULES };
    let dialect = Source { name: "host/rules/falco_dialect.yaml", text: falco::DIALECT };
    falco::translate(rules, dialect).or_else(|found| {
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        bail!("the rules are not for Falco yet:\n{}", lines.join("\n"))
    })
}
