//! A scan as a batch/v1 Job: a pod that keeps to Pod Security `restricted`, in which the agent watches the package.
//!
//! An init container of our image copies the program into a volume; the package manager's own image runs under it. The only
//! way out that the pod needs is the host's port for pods.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodDNSConfig, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lanner_core::ScanId;
use serde::Deserialize;

/// What the operator says about the pods of scans.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodConfig {
    /// Where the Jobs are; for scans alone.
    pub namespace: String,
    /// Ours: it has the program.
    pub image: String,
    /// The image of each package manager: `npm = "node:22"`.
    pub images: BTreeMap<String, String>,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default if left out.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    #[serde(default)]
    pub runtime_class: Option<String>,
    #[serde(default)]
    pub priority_class: Option<String>,
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Labels beside ours: a queue of Kueue's, for example.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A claim in the namespace, on the volume where the host keeps projects; without it a pod fetches its project from the host.
    #[serde(default)]
    pub source_claim: Option<String>,
    #[serde(default)]
    pub cpu_request: Option<String>,
    #[serde(default)]
    pub cpu_limit: Option<String>,
}

/// One scan's.
#[derive(Clone, Debug)]
pub struct PodRequest<'a> {
    /// The Job's, by [`name`].
    pub name: &'a str,
    pub scan: &'a ScanId,
    pub manager: &'a str,
    /// Which host's it is: hosts may share a namespace.
    pub instance: &'a str,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// From the Job's start.
    pub deadline: Duration,
    /// `https://HOST:PORT` of the host, as the pod reaches it.
    pub url: &'a str,
    /// Whether it has to find something else by its name.
    pub is_named: bool,
    /// In PEM.
    pub authority: &'a str,
    /// Good for one call.
    pub token: &'a str,
    /// The package sees it: what the scan's persona is called, and no name of ours.
    pub hostname: &'a str,
    /// The persona's name for the pod's user.
    pub user: &'a str,
    /// The project's file, by its path on the volume of `source_claim`.
    pub source: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPod {
    #[error("no image is configured for {0}: say which in kubernetes.images")]
    NoImage(String),
}

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const LANNER: &str = "lanner";
pub const INSTANCE: &str = "app.kubernetes.io/instance";
pub const SCAN: &str = "lanner.dev/scan";
/// Where the program lies in the pod: rules for Falco know it by this.
pub const PROGRAM: &str = "/lanner/bin/lanner";
/// Where it works; the package sees the path, which says nothing of us.
pub const WORK: &str = "/work";
/// Each scan is a user of its own: limits on processes count by user, over all pods of a node.
const USERS: std::ops::Range<i64> = 100_000..1_000_100_000;
/// Where a project from a volume lies in the pod.
pub const SOURCE: &str = "/lanner/source.tgz";
/// In [`WORK`]: where the agent works, and makes the home.
pub const SCAN_FOLDER: &str = "scan";
/// Memory for the agent and its watcher, beside the package's.
const AGENT_MIB: u64 = 256;
/// What the source, the agent's own files and `/tmp` may take beside the package's disk.
const EXTRA_MIB: u64 = 600;
/// For copying one file, whose pages count until the disk has them; no more than the package asks for.
const COPY: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "512Mi")];
/// A Job that nobody deletes goes by itself.
const TTL_SECONDS: i32 = 600;

/// Which Job's a pod is; Kubernetes itself puts it there.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Of the Job that is made when a scan asks for a place: a scan may ask more than once.
pub fn name(scan: &ScanId, attempt: u32) -> String {
    format!("lanner-{scan}-{attempt:08x}")
}

/// A selector for all Jobs of a scan.
pub fn selector_of(scan: &ScanId) -> String {
    format!("{SCAN}={scan}")
}

/// A selector for all Jobs, and all pods, of a host.
pub fn selector(instance: &str) -> String {
    format!("{MANAGED_BY}={LANNER},{INSTANCE}={instance}")
}

pub fn manifest(config: &PodConfig, request: &PodRequest<'_>) -> Result<Job, BadPod> {
    let image = config.images.get(request.manager);
    let image = image.ok_or_else(|| BadPod::NoImage(request.manager.to_owned()))?;
    let mut labels = config.labels.clone();
    labels.extend(
        [(MANAGED_BY, LANNER), (INSTANCE, request.instance), (SCAN, request.scan.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let metadata = |name| ObjectMeta { name, labels: Some(labels.clone()), ..ObjectMeta::default() };
    let template =
        PodTemplateSpec { metadata: Some(metadata(None)), spec: Some(pod(config, request, image)) };
    Ok(Job {
        metadata: ObjectMeta {
            namespace: Some(config.namespace.clone()),
            ..metadata(Some(request.name.to_owned()))
        },
        spec: Some(JobSpec {
            active_deadline_seconds: i64::try_from(request.deadline.as_secs()).ok(),
            // A package that was watched halfway is not run again behind anybody's back.
            backoff_limit: Some(0),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}

fn pod(config: &PodConfig, request: &PodRequest<'_>, image: &str) -> PodSpec {
    let (by_address, user) = (is_address(request.url) && !request.is_named, user(request.scan));
    let (claimed, mounted) = source(config, request).unzip();
    let secrets = config.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    PodSpec {
        init_containers: Some(vec![Container {
            name: "agent".into(),
            image: Some(config.image.clone()),
            args: Some(["pod", "install", PROGRAM, "--user", request.user].map(str::to_owned).to_vec()),
            // Limits too: a quota on limits would refuse the pod without.
            resources: Some(resources(COPY.map(owned), &COPY.map(owned))),
            volume_mounts: Some(vec![mount("bin", "/lanner/bin", false)]),
            ..container(config)
        }]),
        containers: vec![Container {
            name: "package".into(),
            image: Some(image.to_owned()),
            command: Some([PROGRAM, "pod", "run"].map(str::to_owned).to_vec()),
            env: Some(vec![
                variable("LANNER_POD_URL", request.url),
                variable("LANNER_POD_AUTHORITY", request.authority),
                variable("LANNER_POD_TOKEN", request.token),
                variable("HOME", WORK),
            ]),
            resources: Some(limits(config, request)),
            volume_mounts: Some(
                [
                    mount("bin", "/lanner/bin", true),
                    accounts("passwd"),
                    accounts("group"),
                    mount("work", WORK, false),
                    mount("tmp", "/tmp", false),
                ]
                .into_iter()
                .chain(mounted)
                .collect(),
            ),
            ..container(config)
        }],
        volumes: Some(
            [
                volume("bin", EXTRA_MIB / 2),
                volume("work", (request.disk_bytes >> 20) + EXTRA_MIB),
                volume("tmp", EXTRA_MIB / 2),
            ]
            .into_iter()
            .chain(claimed)
            .collect(),
        ),
        hostname: Some(request.hostname.to_owned()),
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        dns_policy: Some(if by_address { "None" } else { "ClusterFirst" }.into()),
        dns_config: by_address.then(nobody_answers),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: Some(secrets.collect::<Vec<_>>()).filter(|s| !s.is_empty()),
        runtime_class_name: config.runtime_class.clone(),
        priority_class_name: config.priority_class.clone(),
        node_selector: Some(config.node_selector.clone()).filter(|s| !s.is_empty()),
        tolerations: Some(config.tolerations.clone()).filter(|t| !t.is_empty()),
        termination_grace_period_seconds: Some(10),
        ..PodSpec::default()
    }
}

/// By the random end of the scan's id.
fn user(scan: &ScanId) -> i64 {
    let end = scan.as_str().get(24..).and_then(|hex| i64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    USERS.start + end % (USERS.end - USERS.start)
}

/// The pod needs a name server to find the host and the bucket by their names, and for nothing else.
pub fn is_address(url: &str) -> bool {
    let authority = url.split("//").nth(1).unwrap_or_default().trim_end_matches('/');
    authority.parse::<std::net::SocketAddr>().is_ok()
}

fn nobody_answers() -> PodDNSConfig {
    PodDNSConfig { nameservers: Some(vec!["127.0.0.1".into()]), ..PodDNSConfig::default() }
}

/// What both containers have in common.
fn container(config: &PodConfig) -> Container {
    Container {
        image_pull_policy: config.image_pull_policy.clone(),
        // What the program said last, where it failed.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn limits(config: &PodConfig, request: &PodRequest<'_>) -> ResourceRequirements {
    let mebi = |mib: u64| format!("{mib}Mi");
    let memory = mebi((request.memory_bytes >> 20) + AGENT_MIB);
    let disk = mebi((request.disk_bytes >> 20) + 2 * EXTRA_MIB);
    let cpu = config.cpu_request.clone().unwrap_or_else(|| "500m".into());
    // What a scan uses at least; its limits are for those that use more.
    let requests = [("cpu", cpu), ("memory", mebi(512)), ("ephemeral-storage", mebi(512))];
    let mut limits = vec![("memory".to_owned(), memory), ("ephemeral-storage".to_owned(), disk)];
    limits.extend(config.cpu_limit.clone().map(|cpu| ("cpu".to_owned(), cpu)));
    resources(requests.map(|(name, value)| (name.to_owned(), value)), &limits)
}

fn resources<const N: usize>(
    requests: [(String, String); N],
    limits: &[(String, String)],
) -> ResourceRequirements {
    let quantities = |all: &[(String, String)]| {
        all.iter().map(|(name, value)| (name.clone(), Quantity(value.clone()))).collect::<BTreeMap<_, _>>()
    };
    ResourceRequirements {
        requests: Some(quantities(&requests)),
        limits: Some(quantities(limits)).filter(|l| !l.is_empty()),
        claims: None,
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

/// A user whom no image knows needs a line in these: programs fail without, and malware takes note.
fn accounts(file: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(file.to_owned()), ..mount("bin", &format!("/etc/{file}"), true) }
}

/// Of the volume with all projects the pod sees its own, and cannot change it.
fn source(config: &PodConfig, request: &PodRequest<'_>) -> Option<(Volume, VolumeMount)> {
    let (claim, file) = (config.source_claim.as_ref()?, request.source?);
    let name = "source";
    let claim = PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: Some(true) };
    let volume = Volume { name: name.to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() };
    Some((volume, VolumeMount { sub_path: Some(file.to_owned()), ..mount(name, SOURCE, true) }))
}

fn volume(name: &str, mib: u64) -> Volume {
    let size_limit = Some(Quantity(format!("{mib}Mi")));
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit, medium: None }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PodConfig {
        PodConfig {
            namespace: "lanner-scans".into(),
            image: "registry.example/lanner:1".into(),
            images: [("npm".into(), "node:22".into())].into(),
            ..PodConfig::default()
        }
    }

    fn request(scan: &ScanId) -> PodRequest<'_> {
        PodRequest {
            name: "lanner-00000000000101010101010101010101-00000007",
            scan,
            manager: "npm",
            instance: "lanner",
            memory_bytes: 4 << 30,
            disk_bytes: 2 << 30,
            deadline: Duration::from_secs(700),
            url: "https://lanner-pods.lanner:3443",
            is_named: false,
            authority: "-----BEGIN CERTIFICATE-----",
            token: "0123",
            hostname: "laptop-17",
            user: "maria",
            source: None,
        }
    }

    #[test]
    fn the_sandbox_is_as_it_was_reviewed() {
        let scan = ScanId::new(1, [1; 10]);
        let job = manifest(&config(), &request(&scan)).unwrap();
        insta::assert_snapshot!(serde_saphyr::to_string(&job).unwrap());
    }

    #[test]
    fn what_the_operator_says_stands_in_the_pod_and_cannot_take_our_labels() {
        let scan = ScanId::new(1, [1; 10]);
        let labels = [("kueue.x-k8s.io/queue-name", "scans"), (SCAN, "another")].map(owned).into();
        let config = PodConfig {
            labels,
            runtime_class: Some("gvisor".into()),
            image_pull_secrets: vec!["pull".into()],
            node_selector: [owned(("pool", "scans"))].into(),
            cpu_limit: Some("2".into()),
            ..config()
        };
        let job = manifest(&config, &request(&scan)).unwrap();
        let labels = job.metadata.labels.unwrap();
        assert_eq!(
            (labels[SCAN].as_str(), labels["kueue.x-k8s.io/queue-name"].as_str()),
            (scan.as_str(), "scans")
        );
        let pod = job.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.runtime_class_name.as_deref(), Some("gvisor"));
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
        assert_eq!(pod.node_selector.unwrap()["pool"], "scans");
        let limits = pod.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
        assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("2", "4352Mi"));
    }

    #[test]
    fn a_host_that_is_reached_by_its_address_needs_no_name_server() {
        let scan = ScanId::new(1, [1; 10]);
        let policy = |url: &str, is_named| {
            let job = manifest(&config(), &PodRequest { url, is_named, ..request(&scan) }).unwrap();
            job.spec.unwrap().template.spec.unwrap().dns_policy.unwrap()
        };
        assert_eq!(policy("https://10.1.2.3:3443", false), "None");
        assert_eq!(policy("https://[fd00::1]:3443/", false), "None");
        assert_eq!(policy("https://lanner-pods.lanner:3443", false), "ClusterFirst");
        assert_eq!(policy("https://10.1.2.3:3443", true), "ClusterFirst");
    }

    #[test]
    fn of_a_volume_with_all_projects_the_pod_has_its_own_and_only_to_read() {
        let scan = ScanId::new(1, [1; 10]);
        let pod = |config: &PodConfig, source| {
            let job = manifest(config, &PodRequest { source, ..request(&scan) }).unwrap();
            job.spec.unwrap().template.spec.unwrap()
        };
        let claimed = PodConfig { source_claim: Some("projects".into()), ..config() };
        let with = pod(&claimed, Some("ab-01"));
        let volume = with.volumes.unwrap().into_iter().find(|v| v.name == "source").unwrap();
        let claim = volume.persistent_volume_claim.unwrap();
        assert_eq!((claim.claim_name.as_str(), claim.read_only), ("projects", Some(true)));
        let mounts = with.containers[0].volume_mounts.clone().unwrap();
        let mount = mounts.iter().find(|m| m.name == "source").unwrap();
        assert_eq!((mount.mount_path.as_str(), mount.sub_path.as_deref()), (SOURCE, Some("ab-01")));
        assert_eq!(mount.read_only, Some(true));
        for without in [pod(&claimed, None), pod(&config(), Some("ab-01"))] {
            assert!(without.volumes.unwrap().iter().all(|v| v.persistent_volume_claim.is_none()));
        }
    }

    #[test]
    fn a_manager_without_an_image_is_named() {
        let scan = ScanId::new(1, [1; 10]);
        let error = manifest(&config(), &PodRequest { manager: "gem", ..request(&scan) }).unwrap_err();
        assert_eq!(error.to_string(), "no image is configured for gem: say which in kubernetes.images");
    }
}
