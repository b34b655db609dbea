//! Writes the agent's first message: everything it needs for one scan.

use lanner_core::{Isolation, Scan, Subject};
use lanner_proto::agent;

use super::Limits;

/// Words that ordinary machines, users and folders are called; malware looks for `box`, `sandbox`, `scan`.
const HOSTS: [&str; 12] =
    ["build", "dev", "laptop", "runner", "worker", "ci", "ws", "thinkpad", "desktop", "web", "node", "app"];
const USERS: [&str; 12] =
    ["alex", "maria", "jonas", "deploy", "chris", "sam", "build", "lena", "dev", "nina", "tom", "kim"];

/// What a Job is run under, wherever it runs.
#[derive(Clone, Debug)]
pub struct Terms {
    pub isolation: Isolation,
    pub limits: Limits,
    /// Falco rules files: name and text.
    pub rules: Vec<(String, String)>,
    /// Only for the benchmark that measures what watching costs: no sensor, so no scan is ever clean.
    pub unwatched: bool,
}

/// Where the agent finds things; paths are those of the machine or the pod that it runs on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) found: Found,
    pub(super) proxy: String,
    /// Empty: no project.
    pub(super) source: String,
    pub(super) work_dir: String,
}

/// What was found about the package manager there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The program search path.
    pub(super) path: String,
    pub(super) dirs: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) registries: Vec<(String, u16)>,
}

pub(super) fn message(terms: &Terms, scan: &Scan, place: Place, persona: agent::Persona) -> agent::Start {
    let spec = &scan.spec;
    let Found { path, mut dirs, mut files, env, .. } = place.found;
    for list in [&mut dirs, &mut files] {
        list.sort();
        list.dedup();
    }
    let env = spec.env.iter().cloned().chain(env);
    agent::Start {
        scan_id: scan.id.to_string(),
        start_nonce: nonce(),
        isolation: match terms.isolation {
            Isolation::Namespaces => agent::Isolation::Namespaces,
            Isolation::Container => agent::Isolation::Container,
        }
        .into(),
        phases: spec
            .phases
            .iter()
            .map(|p| agent::Phase { name: p.name.clone(), argv: p.argv.clone() })
            .collect(),
        env: env.map(|(name, value)| agent::EnvVar { name, value }).collect(),
        limits: Some(limits(&terms.limits)),
        rules: terms
            .rules
            .iter()
            .map(|(name, text)| agent::RulesFile { name: name.clone(), text: text.clone() })
            .collect(),
        persona: Some(persona),
        package_roots: spec.package_roots.clone(),
        files: spec
            .files
            .iter()
            .map(|(path, content)| agent::File { path: path.clone(), content: content.clone().into_bytes() })
            .collect(),
        toolchain_dirs: dirs,
        extra_files: files,
        proxy_socket: place.proxy,
        proxy_env: spec.proxy_env.clone(),
        source_path: place.source,
        project_name: match &spec.subject {
            Subject::Project { name } => name.clone().unwrap_or_default(),
            Subject::Package { .. } => String::new(),
        },
        unwatched: terms.unwatched,
        path,
        work_dir: place.work_dir,
    }
}

impl Found {
    /// What the proxy lets through: the registry's host and port, and what the operator added.
    pub(super) fn allowed(&self, added: &[String]) -> Vec<(String, Option<u16>)> {
        let registries = self.registries.iter().map(|(host, port)| (host.clone(), Some(*port)));
        let added = added.iter().map(|text| match text.rsplit_once(':').map(|(h, p)| (h, p.parse())) {
            Some((host, Ok(port))) => (host.to_ascii_lowercase(), Some(port)),
            _ => (text.to_ascii_lowercase(), None),
        });
        registries.chain(added).collect()
    }
}

/// 128 random bits: what the package cannot know, it cannot forge.
pub(super) fn nonce() -> Vec<u8> {
    random::<16>().to_vec()
}

fn limits(limits: &Limits) -> agent::Limits {
    agent::Limits {
        wall_ms: u64::try_from(limits.wall.as_millis()).unwrap_or(u64::MAX),
        cpu_seconds: limits.cpu.as_secs(),
        memory_bytes: limits.memory_bytes,
        disk_bytes: limits.disk_bytes,
        processes: limits.processes,
        open_files: limits.open_files,
        alerts: limits.alerts,
    }
}

/// Who the package is to think that it is with.
pub(super) fn persona() -> agent::Persona {
    let [host, user, number, ..] = random::<16>();
    let word =
        |list: &[&'static str], byte: u8| list.get(usize::from(byte) % list.len()).copied().unwrap_or("dev");
    agent::Persona {
        hostname: format!("{}-{:02}", word(&HOSTS, host), number % 100),
        user: word(&USERS, user).to_owned(),
        seed: random::<32>().to_vec(),
    }
}

/// Fresh bytes of the kernel's.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's random source does not fail once it is seeded; were it to, the start mark would not be secret
    // but still needed.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
