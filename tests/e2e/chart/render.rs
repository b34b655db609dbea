//! What the chart renders, without a cluster.

use std::collections::BTreeSet;
use std::process::Command;

use lanner_tests::{lanner, run};
use serde_json::{Value, json};

use super::{Helm, LEAST, Objects, chart, everything, helm};

/// By default, and with everything on.
fn both(helm: &Helm) -> [(&'static str, Objects); 2] {
    let all = everything().display().to_string();
    [("default", helm.objects(&LEAST)), ("everything", helm.objects(&["-f", &all]))]
}

fn names<'a>(objects: &'a Objects, kind: &'a str) -> BTreeSet<&'a str> {
    objects.of(kind).filter_map(|o| o["metadata"]["name"].as_str()).collect()
}

#[test]
fn the_chart_is_sound_by_default_and_with_everything_on() {
    let Some(helm) = helm("chart renders") else { return };
    let (chart, all) = (chart().display().to_string(), everything().display().to_string());
    helm.must(&["lint", "--strict", &chart, LEAST[0], LEAST[1]]);
    helm.must(&["lint", "--strict", &chart, "-f", &all]);
    let [(_, default), (_, everything)] = both(&helm);
    let kinds = |objects: &Objects| -> Vec<String> {
        let mut kinds: Vec<_> = objects.0.iter().map(|o| o["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds
    };
    let mut expected = vec![
        "ConfigMap",
        "Deployment",
        "Namespace",
        "NetworkPolicy",
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Pod",
        "Role",
        "Role",
        "RoleBinding",
        "RoleBinding",
        "Secret",
        "Secret",
        "Service",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(kinds(&default), expected);
    expected.extend([
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "HTTPRoute",
        "Ingress",
        "LimitRange",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "Service",
        "ServiceMonitor",
    ]);
    expected.sort_unstable();
    assert_eq!(kinds(&everything), expected);
    for object in everything.0 {
        let labels = &object["metadata"]["labels"];
        for label in ["name", "instance", "version", "managed-by", "part-of"] {
            assert!(labels[format!("app.kubernetes.io/{label}")].is_string(), "{object}");
        }
        assert_eq!(labels["team"], "supply-chain", "{object}");
        let is_of_none =
            ["Namespace", "ClusterRole", "ClusterRoleBinding"].contains(&object["kind"].as_str().unwrap());
        assert_eq!(object["metadata"]["namespace"].is_string(), !is_of_none, "{object}");
    }
}

/// The product reads the file that the chart writes, and stops at the first thing that is only in a pod. An unknown key or a
/// wrong type would be told by name before.
#[test]
fn the_product_takes_the_configuration_that_the_chart_writes() {
    let Some(helm) = helm("chart's configuration") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, objects) in both(&helm) {
        let text = objects.one("ConfigMap", "lanner")["data"]["lanner.toml"].as_str().unwrap().to_owned();
        let parsed: toml::Table = text.parse().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &text).unwrap();
        let said = |path: &str| {
            let args = ["serve", "--config", path];
            let output = run(Command::new(lanner().unwrap()).args(args)).unwrap();
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let error = said(path.to_str().unwrap());
        assert!(error.contains("the secret of credential admin cannot be read"), "{name}: {error}\n{text}");
        if name == "everything" {
            let at = |path: &[&str]| {
                path.iter().try_fold(&toml::Value::Table(parsed.clone()), |v, k| v.get(k)).cloned().unwrap()
            };
            assert_eq!(at(&["kubernetes", "url"]).as_str(), Some("https://10.96.0.50:3443"));
            assert_eq!(at(&["kubernetes", "pods", "runtime_class"]).as_str(), Some("kata"));
            assert_eq!(at(&["kubernetes", "pods", "source_claim"]).as_str(), Some("projects-of-scans"));
            assert_eq!(at(&["kubernetes", "sources"]).as_str(), Some("/var/lib/lanner-projects"));
            assert_eq!(at(&["falco", "pods", "labels"]).as_str(), Some("app.kubernetes.io/name=falco"));
            assert_eq!(at(&["policy", "poll"]).as_integer(), Some(0), "a zero is a value");
            assert_eq!(at(&["kubernetes", "filters", "namespace"]).as_str(), Some("lanner"));
            assert_eq!(at(&["kubernetes", "auth", "audience"]).as_str(), Some("lanner.example"));
            let roles = at(&["kubernetes", "auth", "roles"]);
            assert_eq!(roles[0]["group"].as_str(), Some("system:serviceaccounts:ci"));
            assert_eq!(roles[1]["account"].as_str(), Some("ops/release.bot"));
            assert_eq!(roles[1]["roles"].as_array().unwrap().len(), 2);
            let settings = &at(&["filters"])[0]["settings"];
            assert_eq!(settings["teams"]["web"][0].as_str(), Some("a \"quoted\" one"));
            // And that what is wrong would be seen here.
            std::fs::write(&path, format!("nonsense = 1\n{text}")).unwrap();
            assert!(said(path.to_str().unwrap()).contains("unknown field `nonsense`"));
        }
    }
}

/// The specifications of all pods that the chart itself makes.
fn pods(objects: &Objects) -> Vec<&Value> {
    let deployed = objects.of("Deployment").map(|o| &o["spec"]["template"]["spec"]);
    deployed.chain(objects.of("Pod").map(|o| &o["spec"])).collect()
}

#[test]
fn no_pod_of_the_chart_may_more_than_it_needs() {
    let Some(helm) = helm("chart's security") else { return };
    for (name, objects) in both(&helm) {
        assert_eq!(pods(&objects).len(), 2);
        for pod in pods(&objects) {
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{name}");
            assert_eq!(security["runAsUser"], 65532, "{name}");
            assert_eq!(security["seccompProfile"], json!({ "type": "RuntimeDefault" }), "{name}");
            for key in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[key].is_null(), "{name}: {key}");
            }
            for volume in pod["volumes"].as_array().unwrap() {
                assert!(volume["hostPath"].is_null(), "{name}: {volume}");
            }
            for container in pod["containers"].as_array().unwrap() {
                let wanted = json!({ "allowPrivilegeEscalation": false, "privileged": false,
                    "readOnlyRootFilesystem": true, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] } });
                assert_eq!(container["securityContext"], wanted, "{name}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            }
        }
        let test = objects.one("Pod", "lanner-test");
        assert_eq!(test["spec"]["automountServiceAccountToken"], false);
        assert_eq!(objects.one("ServiceAccount", "lanner")["automountServiceAccountToken"], false);
        let deployment = &objects.one("Deployment", "lanner")["spec"];
        assert_eq!(
            (&deployment["replicas"], &deployment["strategy"]["type"]),
            (&json!(1), &json!("Recreate"))
        );
        let labels = &objects.one("Namespace", "lanner-scans")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    }
    // The kubelet gives the host longer than it takes to drain.
    let [(_, default), (_, everything)] = both(&helm);
    let grace = |o: &Objects| pods(o)[0]["terminationGracePeriodSeconds"].as_u64();
    assert_eq!((grace(&default), grace(&everything)), (Some(35), Some(55)));
}

#[test]
fn the_roles_have_these_verbs_and_no_others() {
    let Some(helm) = helm("chart's roles") else { return };
    let scans = json!([
        { "apiGroups": ["batch"], "resources": ["jobs"],
          "verbs": ["create", "delete", "deletecollection", "list", "watch"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] },
    ]);
    let falco = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }]);
    let filters = json!([
        { "apiGroups": ["lanner.dev"], "resources": ["alertfilters"], "verbs": ["list", "watch"] },
        { "apiGroups": ["lanner.dev"], "resources": ["alertfilters/status"], "verbs": ["patch"] },
    ]);
    let asks = json!([{ "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] }]);
    for (name, objects) in both(&helm) {
        let role = objects.one("Role", "lanner");
        assert_eq!((&role["rules"], &role["metadata"]["namespace"]), (&scans, &json!("lanner-scans")));
        let tokens = objects.find("ClusterRole", "lanner-lanner-tokens");
        let bound = objects.find("ClusterRoleBinding", "lanner-lanner-tokens");
        let wide = objects.of("ClusterRole").chain(objects.of("ClusterRoleBinding"));
        assert_eq!(wide.count(), if name == "everything" { 2 } else { 0 });
        assert_eq!(tokens.zip(bound).is_some(), name == "everything");
        if let Some((role, binding)) = tokens.zip(bound) {
            assert_eq!(role["rules"], asks);
            assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        }
        let role = objects.one("Role", "lanner-filters");
        assert_eq!((&role["rules"], &role["metadata"]["namespace"]), (&filters, &json!("lanner")));
        let other = objects.find("Role", "lanner-falco");
        assert_eq!(other.is_some(), name == "everything");
        if let Some(role) = other {
            assert_eq!((&role["rules"], &role["metadata"]["namespace"]), (&falco, &json!("falco")));
        }
        for binding in objects.of("RoleBinding").chain(objects.of("ClusterRoleBinding")) {
            let subject = json!([{ "kind": "ServiceAccount", "name": "lanner", "namespace": "lanner" }]);
            assert_eq!(binding["subjects"], subject);
            let kind = binding["kind"].as_str().unwrap().strip_suffix("Binding").unwrap();
            assert_eq!(binding["roleRef"]["kind"], kind);
        }
    }
}

/// Without anybody in a role, or when it is switched off, there is neither the right to ask nor a reason.
#[test]
fn tokens_are_asked_about_only_where_somebody_may_come_with_one() {
    let Some(helm) = helm("chart's token review") else { return };
    let role = ["auth.roles[0].account=ci/builder", "auth.roles[0].roles[0]=submit"];
    for (more, is_on) in [(None, true), (Some("auth.tokenReview.enabled=false"), false)] {
        let sets: Vec<&str> = role.into_iter().chain(more).flat_map(|set| ["--set", set]).collect();
        let objects = helm.objects(&[&LEAST[..], &sets].concat());
        assert_eq!(objects.of("ClusterRole").next().is_some(), is_on, "{more:?}");
        let config = objects.one("ConfigMap", "lanner")["data"]["lanner.toml"].as_str().unwrap();
        assert_eq!(config.contains("[kubernetes.auth]"), is_on, "{more:?}: {config}");
    }
}

#[test]
fn scan_pods_have_one_way_out_and_each_port_of_the_host_its_callers() {
    let Some(helm) = helm("chart's network policies") else { return };
    let ports = |rule: &Value| -> Vec<u64> {
        rule["ports"].as_array().unwrap().iter().map(|p| p["port"].as_u64().unwrap()).collect()
    };
    for (name, objects) in both(&helm) {
        let deny = objects.one("NetworkPolicy", "lanner-deny");
        assert_eq!(deny["metadata"]["namespace"], "lanner-scans");
        assert_eq!(deny["spec"], json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
        let door = objects.one("NetworkPolicy", "lanner-door");
        assert_eq!(door["metadata"]["namespace"], "lanner-scans");
        let labels =
            json!({ "app.kubernetes.io/managed-by": "lanner", "app.kubernetes.io/instance": "lanner" });
        assert_eq!(door["spec"]["podSelector"]["matchLabels"], labels);
        let out: Vec<_> = door["spec"]["egress"].as_array().unwrap().iter().map(ports).collect();
        // By name there is DNS beside the door; by address, nothing.
        let expected = if name == "default" { vec![vec![3443], vec![53, 53]] } else { vec![vec![3443]] };
        assert_eq!(out, expected, "{name}");
        let host = objects.one("NetworkPolicy", "lanner");
        assert_eq!(host["metadata"]["namespace"], "lanner");
        let into: Vec<_> = host["spec"]["ingress"].as_array().unwrap().iter().map(ports).collect();
        let expected: &[&[u64]] =
            if name == "default" { &[&[3000], &[3443]] } else { &[&[3000], &[3443], &[3002], &[3001]] };
        assert_eq!(into, expected, "{name}");
        for rule in host["spec"]["ingress"].as_array().unwrap() {
            assert!(!rule["from"].as_array().unwrap().is_empty(), "{name}: {rule}");
        }
        // The policy for the host holds the pod of the host.
        let pod = &objects.one("Deployment", "lanner")["spec"]["template"]["metadata"]["labels"];
        for (key, value) in host["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(&pod[key], value);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let Some(helm) = helm("chart's refusals") else { return };
    let rows = [
        ("replicas=2", "replicas must be 1: the store is embedded in the host"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("image.repository=", "image.repository must be set"),
        ("imag.tag=1", "additional properties 'imag' not allowed"),
        ("config.scan.paralel=1", "additional properties 'paralel' not allowed"),
        ("config.listen=x", "additional properties 'listen' not allowed"),
        ("made.door=x", "additional properties 'made' not allowed"),
        ("scans.namespace=lanner", "scans.namespace must not be the release's own"),
        ("falco.witness=true", "falco.witness needs a door for Falco's marks"),
        ("falco.pods.enabled=true", "falco.pods.enabled needs falco.pods.secret"),
        ("projects.claim=x", "projects.claim and projects.scansClaim are two claims on one volume"),
        ("ingress.enabled=true", "ingress.enabled needs ingress.hosts"),
        ("httpRoute.enabled=true", "httpRoute.enabled needs httpRoute.parentRefs"),
        ("hostNetwork=true", "hostNetwork with networkPolicy.enabled needs networkPolicy.doorCIDRs"),
        ("serviceMonitor.enabled=true", "needs networkPolicy.adminFrom"),
        ("door.url=https://a:1", "door.url must name the port ports.door"),
        ("door.url=http://a:3443", "at '/door/url'"),
        ("auth.credentials=null", "auth"),
        ("auth.credentials[0].roles[0]=root", "value must be one of 'submit', 'read', 'admin'"),
        ("auth.roles[0].account=ci/builder", "missing property 'roles'"),
        ("auth.roles[0].roles[0]=read", "at '/auth/roles/0': 'oneOf' failed"),
        ("auth.roles[0].account=builder", "at '/auth/roles/0/account'"),
        ("auth.tokenReview.audience=", "at '/auth/tokenReview/audience'"),
    ];
    for (set, why) in rows {
        let error = helm.template(&[&LEAST[..], &["--set", set]].concat()).expect_err(set);
        assert!(error.contains(why), "{set}: {error}");
    }
}

#[test]
fn a_secret_of_the_operators_takes_the_place_of_the_one_that_is_made() {
    let Some(helm) = helm("chart's secrets") else { return };
    let base = [&LEAST[..], &["--set", "intake.enabled=true"]].concat();
    let made = |more: &[&str]| -> (BTreeSet<String>, Objects) {
        let objects = helm.objects(&[&base, more].concat());
        (names(&objects, "Secret").into_iter().map(str::to_owned).collect(), objects)
    };
    let all = ["lanner-credentials", "lanner-door", "lanner-intake"];
    let (there, objects) = made(&[]);
    assert_eq!(there, all.map(str::to_owned).into());
    for secret in objects.of("Secret") {
        assert_eq!(secret["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for (at, block) in ["auth", "door", "intake"].into_iter().enumerate() {
        let set = format!("{block}.existingSecret=mine");
        let (there, objects) = made(&["--set", &set]);
        let rest: BTreeSet<String> =
            all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, n)| (*n).to_owned()).collect();
        assert_eq!(there, rest, "{set}");
        assert!(pods(&objects)[0]["volumes"].to_string().contains("\"secretName\":\"mine\""), "{set}");
    }
}

/// The files for Falco's own chart name what this chart makes.
#[test]
fn falcos_values_name_what_the_chart_makes() {
    let Some(helm) = helm("values for Falco") else { return };
    let all = everything().display().to_string();
    let objects = helm.objects(&["-f", &all]);
    let service = objects.one("Service", "lanner-intake");
    let url =
        format!("https://lanner-intake.lanner.svc:{}/intake/falco/", service["spec"]["ports"][0]["port"]);
    objects.one("ConfigMap", "lanner-falco-rules");
    for name in ["http_output", "falcosidekick", "grpc"] {
        let path = chart().join(format!("falco/{name}.yaml"));
        let Objects(documents) = helm.read(&path);
        let [values] = documents.as_slice() else { panic!("{name}: {} documents", documents.len()) };
        assert_eq!(values["falco"]["json_output"], true, "{name}");
        assert_eq!(values["mounts"]["volumes"][0]["configMap"]["name"], "lanner-falco-rules", "{name}");
        let rules = format!(
            "{}/falco_rules.lanner.yaml",
            values["mounts"]["volumeMounts"][0]["mountPath"].as_str().unwrap()
        );
        assert!(values["falco"]["rules_files"].as_array().unwrap().contains(&json!(rules)), "{name}");
        assert_eq!(values.to_string().contains(&url), name != "grpc", "{name}: {url}");
    }
}

/// Each object of the schema that has properties closes the list of them.
#[test]
fn the_schema_knows_every_value_and_lets_no_other_in() {
    fn walk(schema: &Value, path: &str) {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], false, "{path}");
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(inner, &format!("{path}.{key}"));
        }
    }
    let text = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    walk(&schema, "");
}
