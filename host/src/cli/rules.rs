//! `lanner rules check`: every mistake of a rules file with its line.

use std::path::PathBuf;

use anyhow::Context;

use super::Exit;

pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<Exit> {
    let mut texts = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        texts.push((file.display().to_string(), text));
    }
    if texts.is_empty() {
        texts.push(("built-in".into(), lanner_rules::LANNER_RULES.to_owned()));
    }
    match crate::rules_file::compile(&texts) {
        Ok(set) => {
            println!("{} rules, {} fields: no mistake", set.rules().count(), set.fields().len());
            Ok(Exit::Clean)
        }
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{}", lanner_core::text::escaped(&mistake.to_string()));
            }
            Ok(Exit::Usage)
        }
    }
}
