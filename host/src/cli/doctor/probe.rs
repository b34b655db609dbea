//! Whether the cluster's network enforces policies, by trying: a pod in the namespace of scans must not reach the API server,
//! and one like it beside the host, where no policy holds it, must: a probe that reaches nothing anywhere proves nothing.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::conditions::Condition;
use kube::runtime::wait::await_condition;
use lanner_agent::Check;
use serde_json::json;

use super::super::cluster::InCluster;
use super::super::pod::REACHED;
use super::{good, missing, weak};

/// Pulling the image, and trying.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn enforcement(cluster: &InCluster, scans: &str, host: &Pod) -> anyhow::Result<Check> {
    let name = "network-policy";
    let image = host.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
    let image = image.context("the host's pod has no image")?;
    let (free, held) =
        tokio::join!(reaches(cluster, &cluster.namespace, &image), reaches(cluster, scans, &image));
    Ok(match (free?, held?) {
        (true, false) => good(
            name,
            format!("a pod of {scans} was kept from the API server, and one beside the host was not"),
        ),
        (true, true) => missing(
            name,
            format!("a pod of {scans} reached the API server, whatever the policies say"),
            "the cluster's network enforces no policies: use one that does, or scan elsewhere",
        ),
        (false, _) => weak(
            name,
            "neither a pod beside the host nor one of the scans reached the API server, which proves nothing",
            "is something else between pods and the API server?",
        ),
    })
}

/// Whether a pod there reaches the API server.
async fn reaches(cluster: &InCluster, namespace: &str, image: &str) -> anyhow::Result<bool> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let made = pods.create(&PostParams::default(), &pod(image)?).await;
    let made = made.with_context(|| format!("no pod can be made in {namespace}"))?;
    let name = made.metadata.name.context("the pod has no name")?;
    let over = tokio::time::timeout(PATIENCE, await_condition(pods.clone(), &name, is_over())).await;
    // Whatever came of it.
    let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
    let Ok(over) = over else { bail!("the pod {name} of {namespace} did not come to its end") };
    match over.context("the pod cannot be watched")?.as_ref().and_then(exit_code) {
        Some(0) => Ok(false),
        Some(code) if code == i32::from(REACHED) => Ok(true),
        code => bail!("the pod {name} of {namespace} ended with {code:?}"),
    }
}

fn is_over() -> impl Condition<Pod> {
    |pod: Option<&Pod>| pod.is_none_or(|pod| exit_code(pod).is_some())
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// It fits Pod Security `restricted`.
fn pod(image: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "generateName": "lanner-probe-", "labels": { "app.kubernetes.io/name": "lanner-probe" } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "activeDeadlineSeconds": 120,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["pod", "reach"],
                "resources": { "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "cpu": "100m", "memory": "64Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    }))?)
}
