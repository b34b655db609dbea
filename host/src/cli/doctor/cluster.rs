//! A cluster's health for scans: the host in it, what it may do, what holds scan pods, and what Falco says.
//!
//! Each check stands for itself; one that cannot be made says so and is weak, since what is unknown is not good.

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use lanner_agent::Check;
use lanner_core::text::{bounded, escaped};
use serde_json::Value;

use super::super::DoctorArgs;
use super::super::cluster::InCluster;
use super::{good, missing, probe, weak};

/// What the host does with Jobs and their pods: group, resource, verb.
const NEEDED: [(&str, &str, &str); 7] = [
    ("batch", "jobs", "create"),
    ("batch", "jobs", "delete"),
    ("batch", "jobs", "deletecollection"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
];
/// What a host has no use for, and would be bad to have.
const TOO_MUCH: [(&str, &str, &str); 4] = [
    ("", "secrets", "get"),
    ("", "pods", "create"),
    ("", "pods/exec", "create"),
    ("apps", "deployments", "patch"),
];
/// Reviews on their way at the same time.
const REVIEWS: usize = 4;
const LABEL: &str = "pod-security.kubernetes.io/enforce";
const MAX_SHOWN: usize = 200;

pub(super) async fn checks(args: &DoctorArgs) -> anyhow::Result<Vec<Check>> {
    let cluster = InCluster::anonymous(&args.cluster).await?;
    let mut checks = vec![version(&cluster).await];
    let host = cluster.host().await;
    let namespace = args.scans_namespace.as_str();
    checks.push(pod_security(&cluster, namespace).await);
    match host {
        Err(error) => checks.push(missing("host", shown(&error), "install the chart: docs/operating.md")),
        Ok(pod) => {
            checks.push(good("host", format!("the pod {} is ready", pod.name_any())));
            checks.push(permissions(&cluster, namespace, &pod).await);
            checks.push(policies(&cluster, namespace, &pod, args.probe).await);
            checks.push(falco(args).await);
        }
    }
    Ok(checks)
}

async fn version(cluster: &InCluster) -> Check {
    match cluster.client.apiserver_version().await {
        Ok(info) => good("cluster", format!("Kubernetes {}", escaped(&info.git_version))),
        Err(error) => missing("cluster", shown(&error), "is the kubeconfig's cluster there, and yours?"),
    }
}

async fn pod_security(cluster: &InCluster, namespace: &str) -> Check {
    let name = "pod-security";
    match Api::<Namespace>::all(cluster.client.clone()).get(namespace).await {
        Err(error) => weak(name, shown(&error), "see --scans-namespace"),
        Ok(found) => match found.metadata.labels.unwrap_or_default().get(LABEL).map(String::as_str) {
            Some("restricted") => good(name, format!("{namespace} enforces restricted")),
            other => missing(
                name,
                format!("{namespace} enforces {}", escaped(other.unwrap_or("nothing"))),
                format!("kubectl label --overwrite namespace {namespace} {LABEL}=restricted"),
            ),
        },
    }
}

/// Of the account that the host runs as.
async fn permissions(cluster: &InCluster, namespace: &str, host: &Pod) -> Check {
    let name = "permissions";
    let account =
        host.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let user = format!("system:serviceaccount:{}:{account}", cluster.namespace);
    let reviews = NEEDED.map(|what| (what, true)).into_iter().chain(TOO_MUCH.map(|what| (what, false)));
    let reviewed: Vec<_> = stream::iter(reviews)
        .map(|(what, wanted)| {
            let user = &user;
            async move { (what, wanted, may(cluster, namespace, user, what).await) }
        })
        .buffered(REVIEWS)
        .collect()
        .await;
    let mut wrong = Vec::new();
    for ((_, resource, verb), wanted, answer) in reviewed {
        match answer {
            Err(error) => {
                return weak(name, shown(&error), "let yourself create subjectaccessreviews, or ask who may");
            }
            Ok(may) if may == wanted => {}
            Ok(true) => wrong.push(format!("it may {verb} {resource}, and need not")),
            Ok(false) => wrong.push(format!("it may not {verb} {resource}")),
        }
    }
    if wrong.is_empty() {
        good(name, format!("{user} may what it must in {namespace}, and no more of what was asked"))
    } else {
        missing(name, format!("{user}: {}", wrong.join("; ")), "the chart's Role has the verbs: rbac.create")
    }
}

async fn may(
    cluster: &InCluster,
    namespace: &str,
    user: &str,
    (group, resource, verb): (&str, &str, &str),
) -> Result<bool, kube::Error> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()).filter(|s| !s.is_empty()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let answered = reviews.create(&PostParams::default(), &review).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}

async fn policies(cluster: &InCluster, namespace: &str, host: &Pod, with_probe: bool) -> Check {
    let name = "network-policy";
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), namespace);
    let found = match policies.list(&ListParams::default()).await {
        Err(error) => return weak(name, shown(&error), "let yourself list networkpolicies there"),
        Ok(found) => found.items,
    };
    if !found.iter().any(denies_all) {
        return missing(
            name,
            format!("no policy of {namespace} forbids everything to all its pods"),
            "the chart makes it: networkPolicy.enabled",
        );
    }
    if !with_probe {
        return weak(
            name,
            format!(
                "{namespace} has policies; whether the cluster's network enforces them cannot be read anywhere"
            ),
            "lanner doctor --on kubernetes --probe tries it with two pods",
        );
    }
    match probe::enforcement(cluster, namespace, host).await {
        Ok(check) => check,
        Err(error) => weak(name, shown(&*error), "the probe's pods could not be run"),
    }
}

fn denies_all(policy: &NetworkPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let selects_all = spec.pod_selector.as_ref().is_none_or(|selector| {
        selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    });
    let types = spec.policy_types.as_deref().unwrap_or_default();
    selects_all && types.iter().any(|t| t == "Egress") && spec.egress.as_ref().is_none_or(Vec::is_empty)
}

/// The host says what it has heard of Falco.
async fn falco(args: &DoctorArgs) -> Check {
    let name = "falco";
    let heard = async { InCluster::find(&args.cluster).await?.get("/v1/sensors").await };
    let document = match heard.await {
        Err(error) => return weak(name, shown(&*error), "the host could not be asked for its sensors"),
        Ok(document) => document,
    };
    let sensors = document.get("sensors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if sensors.is_empty() {
        return good(name, "no alert came from one: the built-in sensor is the only one");
    }
    let lines: Vec<String> = sensors.iter().map(sensor_line).collect();
    let broken = sensors.iter().any(|s| s.get("connected").and_then(Value::as_bool) == Some(false));
    let found = lines.join("; ");
    if broken {
        weak(name, found, "see GET /v1/sensors for the last error of each")
    } else {
        good(name, found)
    }
}

fn sensor_line(sensor: &Value) -> String {
    let words = sensor.as_object().into_iter().flatten().filter_map(|(key, value)| match value {
        Value::String(text) if !text.is_empty() => Some(format!("{key} {}", escaped(&bounded(text, 60)))),
        Value::Bool(_) | Value::Number(_) => Some(format!("{key} {value}")),
        _ => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

fn shown(error: &(impl std::fmt::Display + ?Sized)) -> String {
    escaped(&bounded(&format!("{error:#}"), MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_policy_that_selects_all_and_lets_nothing_out_denies_all() {
        let policy =
            |spec: Value| -> NetworkPolicy { serde_json::from_value(json!({ "spec": spec })).unwrap() };
        assert!(denies_all(&policy(json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }))));
        assert!(!denies_all(&policy(json!({ "podSelector": {}, "policyTypes": ["Ingress"] }))));
        let some = json!({ "podSelector": { "matchLabels": { "a": "b" } }, "policyTypes": ["Egress"] });
        assert!(!denies_all(&policy(some)));
        let open = json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] });
        assert!(!denies_all(&policy(open)));
    }
}
