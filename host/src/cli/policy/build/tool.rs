//! Starts the tools of an author at the author's desk: cargo, npm, pip, clang.
//!
//! They run with the author's environment, because that is where their registries and proxies are set; nothing of a scan,
//! an alert or an upload comes near them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// A program and how to get it.
pub(super) struct Tool<'a> {
    pub(super) program: &'a Path,
    /// What to say if it is not there, such as `apt-get install clang`.
    pub(super) remedy: &'a str,
}

impl Tool<'_> {
    /// Runs it in a folder; what it prints goes to standard error, so that our own output stays ours.
    pub(super) fn run<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<()> {
        self.start(folder, args, Stdio::from(std::io::stderr())).map(drop)
    }

    /// Runs it in a folder, and returns what it printed.
    pub(super) fn read<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Vec<u8>> {
        self.start(folder, args, Stdio::piped())
    }

    fn start<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
        stdout: Stdio,
    ) -> anyhow::Result<Vec<u8>> {
        let name = self.program.display();
        #[expect(clippy::disallowed_methods, reason = "building a filter is running its language's tools")]
        let mut command = Command::new(self.program);
        command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::inherit());
        let output = match command.spawn() {
            Ok(child) => child.wait_with_output().with_context(|| format!("{name} was lost"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{name} is not installed: {}", self.remedy)
            }
            Err(error) => return Err(error).with_context(|| format!("{name} cannot be started")),
        };
        ensure!(output.status.success(), "{name} ended with {}", output.status);
        Ok(output.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_or_fails_is_named_with_the_remedy() {
        let run = |program: &str, args: &[&str]| {
            let tool = Tool { program: Path::new(program), remedy: "apt-get install x" };
            tool.read(Path::new("/"), args).map_err(|e| e.to_string())
        };
        assert_eq!(run("no-such-tool", &[]).unwrap_err(), "no-such-tool is not installed: apt-get install x");
        assert_eq!(run("false", &[]).unwrap_err(), "false ended with exit status: 1");
        assert_eq!(run("printf", &["a"]).unwrap(), b"a");
    }
}
