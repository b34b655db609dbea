//! Each source file: a header that says what it does, and a size that can be read in one sitting.

use std::path::Path;

use super::rust_files;

const LONG: usize = 400;
const TOO_LONG: usize = 600;

/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 1] = [("host/src/scan/tests.rs", "flat: one small test after another")];

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in ["host", "proto", "functions", "tests", "xtask"] {
        for path in rust_files(&root.join(folder))? {
            let text = std::fs::read_to_string(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if !text.starts_with("//!") && !text.starts_with("#!") {
                findings
                    .push(format!("{name} has no header: say what it does and what it knows nothing about"));
            }
            let lines = code_lines(&text);
            let excused = LONGER.iter().any(|(file, _)| *file == name);
            if lines > TOO_LONG && !excused {
                findings.push(format!("{name} has {lines} lines of code, more than {TOO_LONG}: make it two"));
            } else if lines > LONG && !excused {
                eprintln!("tidy: note: {name} has {lines} lines of code, more than {LONG}");
            }
        }
    }
    Ok(findings)
}

/// Lines that hold code, tests at the end of the file not counted.
fn code_lines(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_are_no_code() {
        assert_eq!(code_lines("//! x\n\nfn a() {}\n// why\n#[cfg(test)]\nmod tests { fn b() {} }\n"), 1);
    }
}
