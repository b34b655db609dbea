//! What keeps a scan's Job from running, or ended it: from the conditions of the Job and of its pod, each with a sentence for
//! the user.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use lanner_core::text::{bounded, escaped};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub sentence: String,
    /// It does not pass by itself: nothing of the scan will run, or run on.
    pub is_final: bool,
}

/// Of what an image's pull and a container's start may wait for.
const WAITING: [(&str, &str); 7] = [
    ("ImagePullBackOff", "its image cannot be pulled"),
    ("ErrImagePull", "its image cannot be pulled"),
    ("ErrImageNeverPull", "its image is not on the node, and may not be pulled"),
    ("InvalidImageName", "its image's name is wrong"),
    ("CreateContainerConfigError", "its container cannot be configured"),
    ("CreateContainerError", "its container cannot be made"),
    ("RunContainerError", "its container cannot be started"),
];
const MAX_SHOWN: usize = 300;
/// Of a container that ran out of memory.
const OOM: &str = "OOMKilled";

pub fn of_job(job: &Job) -> Option<Trouble> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions.iter().find(|c| c.type_ == "Failed" && c.status == "True")?;
    let reason = failed.reason.as_deref().unwrap_or_default();
    let sentence = match reason {
        "DeadlineExceeded" => "the Job outlasted its deadline and was ended by the cluster".to_owned(),
        _ => format!("the Job failed: {}", said(failed.message.as_deref().unwrap_or(reason))),
    };
    Some(Trouble { sentence, is_final: true })
}

/// By whoever decides when it may begin: Kueue, for example.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
}

pub fn of_pod(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    evicted(status)
        .or_else(|| containers(status).find_map(of_container))
        .or_else(|| unschedulable(status))
        .or_else(|| deleted(pod))
}

fn evicted(status: &PodStatus) -> Option<Trouble> {
    let failed = status.phase.as_deref() == Some("Failed");
    let reason = status.reason.as_deref().filter(|_| failed)?;
    let message = said(status.message.as_deref().unwrap_or_default());
    let sentence = match reason {
        "Evicted" => format!("the pod was evicted from its node: {message}"),
        "NodeLost" | "NodeAffinity" | "NodeShutdown" | "Terminated" => {
            format!("the pod's node was lost or shut down: {message}")
        }
        "DeadlineExceeded" => "the pod outlasted its deadline and was ended by the cluster".to_owned(),
        _ => format!("the pod failed ({}): {message}", said(reason)),
    };
    Some(Trouble { sentence, is_final: true })
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten()
}

fn of_container(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let name = said(&container.name);
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let (_, what) = WAITING.iter().find(|(known, _)| *known == reason)?;
        let message = said(waiting.message.as_deref().unwrap_or(reason));
        // A registry may come back; a name that is wrong stays wrong.
        let is_final = matches!(reason, "InvalidImageName" | "ErrImageNeverPull");
        return Some(Trouble { sentence: format!("container {name}: {what}: {message}"), is_final });
    }
    let ended = state.terminated.as_ref().filter(|t| t.exit_code != 0 || t.reason.as_deref() == Some(OOM))?;
    let sentence = match ended.reason.as_deref() {
        Some(OOM) => format!("container {name} took more memory than its limit and was killed"),
        reason => {
            let (code, reason) = (ended.exit_code, said(reason.unwrap_or("no reason given")));
            let message = ended.message.as_deref().map_or(String::new(), |m| format!(": {}", said(m)));
            format!("container {name} ended with {code} ({reason}){message}")
        }
    };
    Some(Trouble { sentence, is_final: true })
}

fn unschedulable(status: &PodStatus) -> Option<Trouble> {
    let conditions = status.conditions.as_ref()?;
    let waits = |c: &&k8s_openapi::api::core::v1::PodCondition| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    };
    let condition = conditions.iter().find(waits)?;
    let message = said(condition.message.as_deref().unwrap_or_default());
    Some(Trouble { sentence: format!("no node takes the pod: {message}"), is_final: false })
}

fn deleted(pod: &Pod) -> Option<Trouble> {
    pod.metadata.deletion_timestamp.as_ref()?;
    Some(Trouble { sentence: "the pod was deleted while it ran".to_owned(), is_final: true })
}

/// Messages of a cluster quote what others wrote: image names, for example.
fn said(text: &str) -> String {
    escaped(&bounded(text, MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Option<Trouble> {
        of_pod(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    fn job(status: Value) -> Option<Trouble> {
        of_job(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    fn container(state: Value) -> Value {
        let status = json!({ "name": "package", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                             "state": state });
        json!({ "containerStatuses": [status] })
    }

    #[test]
    fn each_end_has_its_sentence() {
        let cases = [
            (
                pod(json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" })),
                "the pod was evicted from its node: low on memory",
                true,
            ),
            (
                pod(json!({ "phase": "Failed", "reason": "NodeLost", "message": "gone" })),
                "the pod's node was lost or shut down: gone",
                true,
            ),
            (
                pod(container(
                    json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no \u{1b}[31m" } }),
                )),
                "container package: its image cannot be pulled: no \\u{1b}[31m",
                false,
            ),
            (
                pod(container(json!({ "waiting": { "reason": "InvalidImageName", "message": "bad" } }))),
                "container package: its image's name is wrong: bad",
                true,
            ),
            (
                pod(container(json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }))),
                "container package took more memory than its limit and was killed",
                true,
            ),
            (
                pod(container(
                    json!({ "terminated": { "exitCode": 2, "reason": "Error", "message": "why" } }),
                )),
                "container package ended with 2 (Error): why",
                true,
            ),
            (
                pod(
                    json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                             "message": "0/1 nodes are available" }] }),
                ),
                "no node takes the pod: 0/1 nodes are available",
                false,
            ),
            (
                job(
                    json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded" }] }),
                ),
                "the Job outlasted its deadline and was ended by the cluster",
                true,
            ),
            (
                job(
                    json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                                             "message": "too often" }] }),
                ),
                "the Job failed: too often",
                true,
            ),
        ];
        for (trouble, sentence, is_final) in cases {
            assert_eq!(trouble, Some(Trouble { sentence: sentence.to_owned(), is_final }));
        }
    }

    #[test]
    fn what_goes_its_way_is_no_trouble() {
        assert_eq!(pod(json!({ "phase": "Pending" })), None);
        assert_eq!(pod(container(json!({ "running": {} }))), None);
        assert_eq!(pod(container(json!({ "waiting": { "reason": "ContainerCreating" } }))), None);
        assert_eq!(pod(container(json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }))), None);
        assert_eq!(job(json!({ "conditions": [{ "type": "Complete", "status": "True" }] })), None);
        assert_eq!(job(json!({})), None);
    }
}
