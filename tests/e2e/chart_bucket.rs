//! What the chart makes of a bucket for projects: the host's configuration, its keys, and the scan pods' one more way out.

use std::path::Path;
use std::process::Command;

use lanner_tests::{lanner, run};
use serde_json::{Value, json};

use crate::chart::{Helm, chart, helm, values};

/// One file of the chart, or why there is none.
fn rendered(helm: &Helm, folder: &Path, bucket: &Value, more: &[&str], file: &str) -> Result<String, String> {
    let all =
        json!({ "image": { "repository": "registry.example/lanner" }, "projects": { "bucket": bucket } });
    let (chart, values) = (chart().display().to_string(), values(folder, "bucket.yaml", &all));
    let fixed = ["template", "lanner", &chart, "-n", "lanner", "-f", &values, "--show-only", file];
    helm.try_run(&[&fixed, more].concat())
}

fn bucket() -> Value {
    json!({ "url": "s3://projects/ci", "endpoint": "https://minio.example:9000", "region": "us-east-1",
            "existingSecret": "minio-keys", "authority": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "egress": [{ "to": [{ "ipBlock": { "cidr": "192.0.2.9/32" } }], "ports": [{ "port": 9000 }] }] })
}

fn with(key: &str, value: &str) -> Value {
    let mut bucket = bucket();
    bucket[key] = value.into();
    bucket
}

#[test]
fn the_host_is_told_of_the_bucket_and_has_its_keys() {
    let Some(helm) = helm("chart's bucket") else { return };
    let folder = tempfile::tempdir().unwrap();
    let map = rendered(&helm, folder.path(), &bucket(), &[], "templates/configmap.yaml").unwrap();
    let (_, text) = map.split_once("  lanner.toml: |\n").unwrap();
    let (text, authority) = text.split_once("  bucket-ca.pem: |\n").unwrap();
    assert!(authority.contains("    AAAA\n    -----END CERTIFICATE-----"), "{authority}");
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    let parsed: toml::Table = text.parse().unwrap();
    let expected: toml::Table = "url = \"s3://projects/ci\"\nendpoint = \"https://minio.example:9000\"\nregion = \"us-east-1\"\n\
         allow_http = false\naccess_key_file = \"/etc/lanner/bucket/access-key\"\n\
         secret_key_file = \"/etc/lanner/bucket/secret-key\"\nauthority_file = \"/etc/lanner/bucket-ca.pem\"\n"
        .parse()
        .unwrap();
    assert_eq!(parsed["kubernetes"]["bucket"].as_table(), Some(&expected));
    // The product takes it, and stops at the first thing that is only in a pod.
    let path = folder.path().join("lanner.toml");
    std::fs::write(&path, &text).unwrap();
    let output = run(Command::new(lanner().unwrap()).args(["serve", "--config"]).arg(&path)).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("the secret of credential admin cannot be read"), "{error}\n{text}");
    let host = rendered(&helm, folder.path(), &bucket(), &[], "templates/deployment.yaml").unwrap();
    for part in ["secretName: minio-keys", "mountPath: /etc/lanner/bucket,", "subPath: bucket-ca.pem"] {
        assert!(host.contains(part), "{part}: {host}");
    }
}

#[test]
fn scan_pods_reach_the_bucket_by_what_the_operator_allows_and_by_name_if_it_has_one() {
    let Some(helm) = helm("chart's way to a bucket") else { return };
    let folder = tempfile::tempdir().unwrap();
    let policies = |bucket: &Value| {
        let file = "templates/networkpolicies.yaml";
        let all =
            rendered(&helm, folder.path(), bucket, &["--set", "door.clusterIP=10.96.0.50"], file).unwrap();
        all.split("\n---\n").find(|policy| policy.contains("name: lanner-door")).unwrap().to_owned()
    };
    let named = policies(&bucket());
    assert!(named.contains("cidr: 192.0.2.9/32") && named.contains("port: 53 "), "{named}");
    let by_address = policies(&with("endpoint", "https://192.0.2.9:9000"));
    assert!(by_address.contains("cidr: 192.0.2.9/32") && !by_address.contains("port: 53 "), "{by_address}");
    let none = policies(&with("url", ""));
    assert!(!none.contains("192.0.2.9") && !none.contains("port: 53 "), "{none}");
}

#[test]
fn a_bucket_that_cannot_be_is_refused_with_its_reason() {
    let Some(helm) = helm("chart's refusals of a bucket") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut closed = bucket();
    closed["egress"] = json!([]);
    let volume = ["--set", "projects.claim=x,projects.scansClaim=y"];
    let rows = [
        (closed, &[][..], "projects.bucket.url with networkPolicy.enabled needs projects.bucket.egress"),
        (bucket(), &volume, "projects.bucket.url and projects.claim are two ways for projects"),
        (with("url", "projects"), &[], "at '/projects/bucket/url'"),
        (with("endpoint", "http://minio:9000"), &[], "projects.bucket.endpoint is without TLS"),
        (with("secret", "x"), &[], "additional properties 'secret' not allowed"),
    ];
    for (given, more, why) in rows {
        let error = rendered(&helm, folder.path(), &given, more, "templates/configmap.yaml").unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    let mut open = bucket();
    open["egress"] = json!([]);
    let off = ["--set", "networkPolicy.enabled=false"];
    rendered(&helm, folder.path(), &open, &off, "templates/configmap.yaml").unwrap();
}
