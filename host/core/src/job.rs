//! The Job that a function asks for: which tools, which phases, what to ask the package manager beforehand.
//!
//! A spec comes from a guest, so every part is bounded and checked here before a runner sees it. It names programs,
//! never paths; what a program's name means on this machine is the runner's knowledge.

use serde::{Deserialize, Serialize};

use crate::package::is_manager;
use crate::scan::Subject;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `npm`: shown to users; a label of metrics only after it was matched with a known one.
    pub manager: String,
    pub subject: Subject,
    /// Programs that must be on the machine; their installation folders become readable in the sandbox.
    pub tools: Vec<String>,
    /// What to ask the package manager, outside the sandbox, in an empty folder, with the user's own configuration.
    #[serde(default)]
    pub probe: Option<Probe>,
    pub phases: Vec<PhaseSpec>,
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Environment variables that carry the local proxy's URL.
    #[serde(default)]
    pub proxy_env: Vec<String>,
    /// Folders, anywhere in the project, whose children are packages: `node_modules`.
    #[serde(default)]
    pub package_roots: Vec<String>,
    /// Files that the project must have at its root, any one of them: `package.json`.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Files that the host writes into an empty project: path relative to its root, content.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSpec {
    /// `install`: shown to users.
    pub name: String,
    pub argv: Vec<String>,
}

/// `PROGRAM config get KEY…`: the one shape of question that the host asks outside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub program: String,
    pub keys: Vec<ProbeKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeKey {
    pub key: String,
    pub used_as: ProbeUse,
}

/// What becomes of a probed value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeUse {
    /// A URL whose host the proxy lets through, and which the phases get in this environment variable.
    Registry { env: String },
    /// A file of certificates: made readable in the sandbox, its path in this environment variable.
    CaFile { env: String },
    /// A folder: its path in this environment variable, if it holds the file `marker`. The first that does wins.
    Folder { env: String, marker: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    #[error("the job's manager is not a package manager's name")]
    Manager,
    #[error("the job has no phase, or more than {MAX_PHASES}")]
    Phases,
    #[error("the job's {what} has more than {max} entries")]
    TooMany { what: &'static str, max: usize },
    #[error("the job's {what} is empty, has more than {max} bytes, or holds a NUL byte")]
    Text { what: &'static str, max: usize },
    #[error("{0:?} is not a program's name: letters, digits and . _ + - only")]
    Program(String),
    #[error("{0:?} is not an environment variable's name")]
    Env(String),
    #[error("{0:?} is reserved: the sandbox sets it")]
    ReservedEnv(String),
    #[error("{0:?} is not a path inside the project")]
    Path(String),
    #[error("{0:?} is not a configuration key")]
    Key(String),
    #[error(
        "the host does not ask {0:?} anything outside the sandbox: only a job's own package manager answers `config get`"
    )]
    ProbeProgram(String),
}

const MAX_PHASES: usize = 8;
const MAX_LIST: usize = 64;
const MAX_ARG: usize = 4096;
const MAX_FILE: usize = 64 * 1024;

/// The loader obeys these, and the sandbox sets the rest; a function has no business with them.
const RESERVED_ENV: [&str; 6] = ["HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "HOSTNAME"];

impl JobSpec {
    /// One that asks for nothing yet.
    pub fn new(manager: &str, subject: Subject) -> Self {
        Self {
            manager: manager.to_owned(),
            subject,
            tools: Vec::new(),
            probe: None,
            phases: Vec::new(),
            env: Vec::new(),
            proxy_env: Vec::new(),
            package_roots: Vec::new(),
            manifests: Vec::new(),
            files: Vec::new(),
        }
    }

    pub fn check(&self) -> Result<(), JobError> {
        if !is_manager(&self.manager) {
            return Err(JobError::Manager);
        }
        if self.phases.is_empty() || self.phases.len() > MAX_PHASES {
            return Err(JobError::Phases);
        }
        for phase in &self.phases {
            phase.check()?;
        }
        count("tools", &self.tools)?;
        self.tools.iter().try_for_each(|t| program(t))?;
        count("environment", &self.env)?;
        for (name, value) in &self.env {
            env_name(name)?;
            bounded("environment value", value, MAX_ARG, true)?;
        }
        count("proxy variables", &self.proxy_env)?;
        self.proxy_env.iter().try_for_each(|n| env_name(n))?;
        count("package roots", &self.package_roots)?;
        self.package_roots.iter().try_for_each(|p| inner_path(p))?;
        count("manifests", &self.manifests)?;
        self.manifests.iter().try_for_each(|p| inner_path(p))?;
        count("files", &self.files)?;
        for (path, content) in &self.files {
            inner_path(path)?;
            if content.len() > MAX_FILE {
                return Err(JobError::Text { what: "file", max: MAX_FILE });
            }
        }
        match &self.probe {
            Some(probe) => probe.check(&self.manager),
            None => Ok(()),
        }
    }
}

impl PhaseSpec {
    fn check(&self) -> Result<(), JobError> {
        bounded("phase name", &self.name, 40, false)?;
        count("arguments", &self.argv)?;
        let (first, rest) = self.argv.split_first().ok_or(JobError::Text { what: "argv", max: MAX_LIST })?;
        program(first)?;
        rest.iter().try_for_each(|a| bounded("argument", a, MAX_ARG, true))
    }
}

impl Probe {
    fn check(&self, manager: &str) -> Result<(), JobError> {
        program(&self.program)?;
        if self.program != manager {
            return Err(JobError::ProbeProgram(self.program.clone()));
        }
        count("probe keys", &self.keys)?;
        for key in &self.keys {
            let ok = (1..=64).contains(&key.key.len())
                && key.key.starts_with(|c: char| c.is_ascii_lowercase())
                && key
                    .key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'));
            if !ok {
                return Err(JobError::Key(shown(&key.key)));
            }
            match &key.used_as {
                ProbeUse::Registry { env } | ProbeUse::CaFile { env } => env_name(env)?,
                ProbeUse::Folder { env, marker } => {
                    env_name(env)?;
                    inner_path(marker)?;
                }
            }
        }
        Ok(())
    }
}

fn shown(text: &str) -> String {
    crate::text::bounded(text, 80)
}

fn count<T>(what: &'static str, list: &[T]) -> Result<(), JobError> {
    if list.len() > MAX_LIST { Err(JobError::TooMany { what, max: MAX_LIST }) } else { Ok(()) }
}

fn bounded(what: &'static str, text: &str, max: usize, may_be_empty: bool) -> Result<(), JobError> {
    let ok = text.len() <= max && !text.contains('\0') && (may_be_empty || !text.is_empty());
    if ok { Ok(()) } else { Err(JobError::Text { what, max }) }
}

fn program(name: &str) -> Result<(), JobError> {
    let ok = (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'));
    if ok { Ok(()) } else { Err(JobError::Program(shown(name))) }
}

fn env_name(name: &str) -> Result<(), JobError> {
    let ok = (1..=128).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !ok {
        return Err(JobError::Env(shown(name)));
    }
    if RESERVED_ENV.contains(&name) || name.starts_with("LD_") {
        return Err(JobError::ReservedEnv(shown(name)));
    }
    Ok(())
}

/// A relative path that stays inside: no root, no `..`, no empty part.
fn inner_path(path: &str) -> Result<(), JobError> {
    let ok = (1..=1024).contains(&path.len())
        && !path.contains('\0')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if ok { Ok(()) } else { Err(JobError::Path(shown(path))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            manager: "npm".into(),
            subject: Subject::Project { name: None },
            tools: vec!["npm".into(), "node".into()],
            probe: None,
            phases: vec![PhaseSpec { name: "install".into(), argv: vec!["npm".into(), "ci".into()] }],
            env: vec![],
            proxy_env: vec![],
            package_roots: vec!["node_modules".into()],
            manifests: vec!["package.json".into()],
            files: vec![],
        }
    }

    #[test]
    fn an_ordinary_job_passes() {
        assert_eq!(spec().check(), Ok(()));
    }

    #[test]
    fn what_a_guest_must_not_ask_for() {
        let with = |change: fn(&mut JobSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.check().unwrap_err()
        };
        assert_eq!(with(|s| s.phases.clear()), JobError::Phases);
        assert_eq!(with(|s| s.phases[0].argv[0] = "/bin/sh".into()), JobError::Program("/bin/sh".into()));
        assert_eq!(with(|s| s.tools.push("../x".into())), JobError::Program("../x".into()));
        assert_eq!(
            with(|s| s.env.push(("LD_PRELOAD".into(), "x".into()))),
            JobError::ReservedEnv("LD_PRELOAD".into())
        );
        assert_eq!(with(|s| s.env.push(("A=B".into(), "x".into()))), JobError::Env("A=B".into()));
        assert_eq!(with(|s| s.files.push(("../x".into(), "x".into()))), JobError::Path("../x".into()));
        assert_eq!(with(|s| s.files.push(("/etc/x".into(), "x".into()))), JobError::Path("/etc/x".into()));
        assert_eq!(
            with(|s| s.probe = Some(Probe { program: "node".into(), keys: vec![] })),
            JobError::ProbeProgram("node".into())
        );
        let key = |k: &str| ProbeKey { key: k.into(), used_as: ProbeUse::CaFile { env: "X".into() } };
        let mut asks = spec();
        asks.probe = Some(Probe { program: "npm".into(), keys: vec![key("--help")] });
        assert_eq!(asks.check(), Err(JobError::Key("--help".into())));
    }
}
