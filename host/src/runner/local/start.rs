//! Writes the agent's first message: everything it needs for one scan.

use std::path::Path;

use lanner_core::{Isolation, Subject};
use lanner_proto::agent;

use super::probe::Probed;
use super::tools::Tools;
use super::{Job, LocalConfig};

/// Variables that name the machine's certificates: passed on, with the files that they name.
const CERTIFICATE_VARS: [&str; 5] =
    ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"];

/// Words that ordinary machines, users and folders are called; malware looks for `box`, `sandbox`, `scan`.
const HOSTS: [&str; 12] =
    ["build", "dev", "laptop", "runner", "worker", "ci", "ws", "thinkpad", "desktop", "web", "node", "app"];
const USERS: [&str; 12] =
    ["alex", "maria", "jonas", "deploy", "chris", "sam", "build", "lena", "dev", "nina", "tom", "kim"];

pub(super) fn message(
    config: &LocalConfig,
    job: &Job,
    folder: &Path,
    tools: &Tools,
    probed: Probed,
    proxy: &Path,
) -> agent::Start {
    let spec = &job.scan.spec;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut env = spec.env.clone();
    env.extend(probed.env);
    let mut files: Vec<String> = probed.files.iter().map(|p| text(p)).collect();
    for (name, value) in &config.env {
        if CERTIFICATE_VARS.contains(&name.as_str()) && Path::new(value).is_file() {
            files.push(value.clone());
            env.push((name.clone(), value.clone()));
        }
    }
    let mut dirs: Vec<String> = tools.dirs.iter().chain(&probed.dirs).map(|p| text(p)).collect();
    dirs.sort();
    dirs.dedup();
    files.sort();
    files.dedup();
    agent::Start {
        scan_id: job.scan.id.to_string(),
        start_nonce: nonce(),
        isolation: match config.isolation {
            Isolation::Namespaces => agent::Isolation::Namespaces,
            Isolation::Container => agent::Isolation::Container,
        }
        .into(),
        phases: spec
            .phases
            .iter()
            .map(|p| agent::Phase { name: p.name.clone(), argv: p.argv.clone() })
            .collect(),
        env: env.into_iter().map(|(name, value)| agent::EnvVar { name, value }).collect(),
        limits: Some(limits(config)),
        rules: config
            .rules
            .iter()
            .map(|(name, text)| agent::RulesFile { name: name.clone(), text: text.clone() })
            .collect(),
        persona: Some(persona()),
        package_roots: spec.package_roots.clone(),
        files: spec
            .files
            .iter()
            .map(|(path, content)| agent::File { path: path.clone(), content: content.clone().into_bytes() })
            .collect(),
        toolchain_dirs: dirs,
        extra_files: files,
        proxy_socket: text(proxy),
        proxy_env: spec.proxy_env.clone(),
        source_path: job.source.as_deref().map(text).unwrap_or_default(),
        project_name: match &spec.subject {
            Subject::Project { name } => name.clone().unwrap_or_default(),
            Subject::Package { .. } => String::new(),
        },
        unwatched: config.unwatched,
        path: tools.path.clone(),
        work_dir: text(folder),
    }
}

/// 128 random bits: what the package cannot know, it cannot forge.
pub(super) fn nonce() -> Vec<u8> {
    random::<16>().to_vec()
}

fn limits(config: &LocalConfig) -> agent::Limits {
    let limits = &config.limits;
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

fn persona() -> agent::Persona {
    let [host, user, number, ..] = random::<16>();
    let word =
        |list: &[&'static str], byte: u8| list.get(usize::from(byte) % list.len()).copied().unwrap_or("dev");
    agent::Persona {
        hostname: format!("{}-{:02}", word(&HOSTS, host), number % 100),
        user: word(&USERS, user).to_owned(),
        seed: random::<32>().to_vec(),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's random source does not fail once it is seeded; were it to, the start mark would not be secret
    // but still needed.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
