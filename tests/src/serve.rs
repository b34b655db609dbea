//! `lanner serve` as a process, and curl as its client.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{lanner, run};

pub struct Serve {
    child: Child,
    pub url: String,
    pub admin: String,
    /// Host and port of the intake, where the configuration has one.
    pub intake: Option<String>,
}

const START: Duration = Duration::from_secs(30);

impl Serve {
    /// Starts it on ports of the kernel's choice and waits until it says where.
    pub fn start(data: &Path, args: &[&str]) -> Result<Self> {
        Self::launch(data, args, &[], false)
    }

    /// The same with more in its environment.
    pub fn start_in(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        Self::launch(data, args, env, false)
    }

    /// The same with a configuration that opens the intake.
    pub fn start_with_intake(data: &Path, args: &[&str]) -> Result<Self> {
        Self::launch(data, args, &[], true)
    }

    fn launch(data: &Path, args: &[&str], env: &[(&str, &str)], with_intake: bool) -> Result<Self> {
        let mut child = Command::new(lanner()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(args)
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (lines, read) = mpsc::channel();
        // Beside its data, for whoever looks into a failure.
        let mut log = File::options().create(true).append(true).open(data.with_extension("log"))?;
        // Reads on for as long as it runs, so that it never waits for us.
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| {
                _ = writeln!(log, "{line}");
                _ = lines.send(line);
            });
        });
        let begun = Instant::now();
        let (mut url, mut admin, mut intake) = (None, None, None);
        let mut said = Vec::new();
        while url.is_none() || admin.is_none() || (with_intake && intake.is_none()) {
            let Ok(line) = read.recv_timeout(START.saturating_sub(begun.elapsed())) else {
                let _ = child.kill();
                bail!("lanner serve did not start: {said:?}");
            };
            let after = |word: &str| line.split(word).nth(1).map(|a| a.trim().to_owned());
            let url_after = |word: &str| after(word).map(|address| format!("http://{address}"));
            url = url.or(url_after("listening address="));
            admin = admin.or(url_after("health and metrics address="));
            intake = intake.or(after("taking in alerts address="));
            said.push(line);
        }
        let (url, admin) = (url.unwrap_or_default(), admin.unwrap_or_default());
        Ok(Self { child, url, admin, intake })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As a power cut would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits; its exit code.
    pub fn stop(mut self) -> Result<Option<i32>> {
        signal(self.child.id(), libc::SIGTERM)?;
        Ok(self.child.wait()?.code())
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, signal: i32) -> Result<()> {
    let pid = libc::pid_t::try_from(pid)?;
    // SAFETY: no pointers are involved.
    ensure!(unsafe { libc::kill(pid, signal) } == 0, "signal {signal} to {pid}");
    Ok(())
}

/// Status and body of one request by curl.
pub fn curl(args: &[&str]) -> Result<(u16, String)> {
    let output =
        run(Command::new("curl").args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"]).args(args))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').context("curl printed no status")?;
    ensure!(code != "000", "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok((code.parse()?, body.to_owned()))
}

pub fn curl_json(args: &[&str]) -> Result<(u16, Value)> {
    let (status, body) = curl(args)?;
    Ok((status, serde_json::from_str(&body).with_context(|| body.clone())?))
}
