//! `Start`, checked: paths are absolute and plain, names are names, limits are set.
//!
//! The host is trusted more than the package, but a mistake of the host must be a sentence and not a hole in the
//! wall: the paths here become mounts, the names become files. Nothing is opened yet.

use std::path::{Component, Path, PathBuf};

use lanner_core::Isolation;
use lanner_proto::agent::{self as proto, Start};

/// One scan, as the agent runs it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) isolation: Isolation,
    pub(crate) start_nonce: Vec<u8>,
    pub(crate) phases: Vec<proto::Phase>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) limits: proto::Limits,
    pub(crate) rules: Vec<proto::RulesFile>,
    pub(crate) hostname: String,
    pub(crate) user: String,
    pub(crate) seed: Vec<u8>,
    pub(crate) package_roots: Vec<String>,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) toolchains: Vec<PathBuf>,
    pub(crate) extra_files: Vec<PathBuf>,
    pub(crate) proxy_socket: Option<PathBuf>,
    pub(crate) proxy_env: Vec<String>,
    pub(crate) source: Option<PathBuf>,
    pub(crate) project_name: String,
    pub(crate) unwatched: bool,
    pub(crate) search_path: String,
    pub(crate) work_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("the start message names no isolation that this agent knows")]
    Isolation,
    #[error("the start message's {0} is missing")]
    Missing(&'static str),
    #[error("the limit {0} is zero: every limit must be set")]
    Limit(&'static str),
    #[error("the {0} {1:?} is not an absolute path without `.` and `..`")]
    Path(&'static str, String),
    #[error("{0:?} is not the path of a file inside the project")]
    File(String),
    #[error("{0:?} is not a host name: letters, digits and inner hyphens, at most 63")]
    Hostname(String),
    #[error("{0:?} is not a user name: lower-case letters, digits, _ and -, at most 32")]
    User(String),
    #[error("the phase {0:?} has no command, or one with a NUL byte")]
    Phase(String),
    #[error("{0:?} is not an environment variable's name, or its value has a NUL byte")]
    Env(String),
}

impl Plan {
    pub(crate) fn new(start: Start) -> Result<Self, PlanError> {
        let isolation = match start.isolation() {
            proto::Isolation::Namespaces => Isolation::Namespaces,
            proto::Isolation::Container => Isolation::Container,
            proto::Isolation::Unspecified => return Err(PlanError::Isolation),
        };
        if start.start_nonce.is_empty() {
            return Err(PlanError::Missing("start nonce"));
        }
        let persona = start.persona.ok_or(PlanError::Missing("persona"))?;
        if persona.seed.is_empty() {
            return Err(PlanError::Missing("seed"));
        }
        let env = start.env.into_iter().map(|var| (var.name, var.value)).collect();
        let files = start.files.into_iter().map(|file| Ok((inside(file.path)?, file.content)));
        Ok(Self {
            isolation,
            start_nonce: start.start_nonce,
            phases: phases(start.phases)?,
            env: environment(env)?,
            limits: limits(start.limits.ok_or(PlanError::Missing("limits"))?)?,
            rules: start.rules,
            hostname: hostname(persona.hostname)?,
            user: user(persona.user)?,
            seed: persona.seed,
            package_roots: start.package_roots,
            files: files.collect::<Result<_, _>>()?,
            toolchains: paths("toolchain folder", start.toolchain_dirs)?,
            extra_files: paths("extra file", start.extra_files)?,
            proxy_socket: optional("proxy socket", start.proxy_socket)?,
            proxy_env: start.proxy_env,
            source: optional("source", start.source_path)?,
            project_name: start.project_name,
            unwatched: start.unwatched,
            search_path: start.path,
            work_dir: path("work folder", start.work_dir)?,
        })
    }
}

fn phases(phases: Vec<proto::Phase>) -> Result<Vec<proto::Phase>, PlanError> {
    let good =
        |phase: &proto::Phase| !phase.argv.is_empty() && phase.argv.iter().all(|arg| !arg.contains('\0'));
    match phases.iter().find(|phase| !good(phase)) {
        Some(bad) => Err(PlanError::Phase(bad.name.clone())),
        None => Ok(phases),
    }
}

fn environment(env: Vec<(String, String)>) -> Result<Vec<(String, String)>, PlanError> {
    let good =
        |name: &str, value: &str| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    match env.iter().find(|(name, value)| !good(name, value)) {
        Some((name, _)) => Err(PlanError::Env(name.clone())),
        None => Ok(env),
    }
}

fn limits(limits: proto::Limits) -> Result<proto::Limits, PlanError> {
    let all = [
        ("wall_ms", limits.wall_ms),
        ("cpu_seconds", limits.cpu_seconds),
        ("memory_bytes", limits.memory_bytes),
        ("disk_bytes", limits.disk_bytes),
        ("processes", limits.processes.into()),
        ("open_files", limits.open_files.into()),
        ("alerts", limits.alerts.into()),
    ];
    match all.into_iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(PlanError::Limit(name)),
        None => Ok(limits),
    }
}

fn paths(what: &'static str, texts: Vec<String>) -> Result<Vec<PathBuf>, PlanError> {
    texts.into_iter().map(|text| path(what, text)).collect()
}

fn optional(what: &'static str, text: String) -> Result<Option<PathBuf>, PlanError> {
    if text.is_empty() { Ok(None) } else { path(what, text).map(Some) }
}

/// Absolute, plain, and not the root itself.
fn path(what: &'static str, text: String) -> Result<PathBuf, PlanError> {
    let path = Path::new(&text);
    let mut components = path.components();
    let absolute = components.next() == Some(Component::RootDir);
    let plain = components.clone().all(|c| matches!(c, Component::Normal(_))) && components.next().is_some();
    // `Path` drops `.` in the middle silently; an exact path has nothing to drop.
    let exact = path.components().collect::<PathBuf>().as_os_str() == text.as_str();
    if absolute && plain && exact && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(PlanError::Path(what, text))
    }
}

fn inside(text: String) -> Result<PathBuf, PlanError> {
    let path = Path::new(&text);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    if plain && !text.is_empty() && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(PlanError::File(text))
    }
}

fn hostname(name: String) -> Result<String, PlanError> {
    let inner = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let edges = !name.starts_with('-') && !name.ends_with('-');
    if (1..=63).contains(&name.len()) && inner && edges { Ok(name) } else { Err(PlanError::Hostname(name)) }
}

fn user(name: String) -> Result<String, PlanError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    // `root` and `nobody` have entries of their own in the sandbox's passwd.
    let own = name != "root" && name != "nobody";
    if first && rest && own && name.len() <= 32 { Ok(name) } else { Err(PlanError::User(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        Start {
            start_nonce: vec![1],
            isolation: proto::Isolation::Namespaces.into(),
            persona: Some(proto::Persona { hostname: "dev-7".into(), user: "alex".into(), seed: vec![1] }),
            limits: Some(proto::Limits {
                wall_ms: 1,
                cpu_seconds: 1,
                memory_bytes: 1,
                disk_bytes: 1,
                processes: 1,
                open_files: 1,
                alerts: 1,
            }),
            work_dir: "/var/tmp/scan".into(),
            ..Start::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut Start)) -> String {
        let mut start = start();
        change(&mut start);
        Plan::new(start).unwrap_err().to_string()
    }

    #[test]
    fn a_good_start_passes() {
        let plan = Plan::new(start()).unwrap();
        assert_eq!(plan.work_dir, Path::new("/var/tmp/scan"));
        assert_eq!(plan.source, None);
    }

    #[test]
    fn each_kind_of_bad_start_is_refused_with_its_sentence() {
        let isolation = "the start message names no isolation that this agent knows";
        assert_eq!(refusal(|s| s.isolation = 9), isolation);
        assert_eq!(refusal(|s| s.start_nonce.clear()), "the start message's start nonce is missing");
        assert_eq!(refusal(|s| s.persona = None), "the start message's persona is missing");
        assert_eq!(
            refusal(|s| s.persona.as_mut().unwrap().seed.clear()),
            "the start message's seed is missing"
        );
        assert_eq!(refusal(|s| s.limits = None), "the start message's limits is missing");
        let limit = "the limit disk_bytes is zero: every limit must be set";
        assert_eq!(refusal(|s| s.limits.as_mut().unwrap().disk_bytes = 0), limit);
        let host = "\"a b\" is not a host name: letters, digits and inner hyphens, at most 63";
        assert_eq!(refusal(|s| s.persona.as_mut().unwrap().hostname = "a b".into()), host);
        for name in ["root", "../x", "", "UPPER", "a:b"] {
            let text = refusal(|s| s.persona.as_mut().unwrap().user = name.into());
            assert!(text.contains("is not a user name"), "{text}");
        }
        let phase = proto::Phase { name: "install".into(), argv: vec![] };
        assert_eq!(
            refusal(|s| s.phases = vec![phase]),
            "the phase \"install\" has no command, or one with a NUL byte"
        );
        let var = proto::EnvVar { name: "A=B".into(), value: String::new() };
        assert!(refusal(|s| s.env = vec![var]).starts_with("\"A=B\" is not an environment variable's name"));
    }

    #[test]
    fn paths_that_are_not_plain_are_refused() {
        for bad in ["", "/", "relative", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\0b"] {
            let text = refusal(|s| s.work_dir = bad.into());
            assert!(text.starts_with("the work folder"), "{bad:?}: {text}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a\0"] {
            let file = proto::File { path: bad.into(), content: vec![] };
            let text = refusal(|s| s.files = vec![file]);
            assert!(text.ends_with("is not the path of a file inside the project"), "{bad:?}: {text}");
        }
    }
}
