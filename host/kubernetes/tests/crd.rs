//! The custom resource definition, as the chart has it.

use kube::CustomResourceExt;
use lanner_kubernetes::{AlertFilter, Mode};
use serde_json::{Value, json};

const FILE: &str = include_str!("../../../charts/lanner/crds/alertfilters.lanner.dev.yaml");

#[test]
fn the_charts_definition_is_that_of_the_type() {
    let made = serde_saphyr::to_string(&AlertFilter::crd()).unwrap();
    let remedy =
        "cargo run -p lanner-kubernetes --example crd > charts/lanner/crds/alertfilters.lanner.dev.yaml";
    assert!(made == FILE, "the type and the chart say different things; write it anew with\n  {remedy}");
}

#[test]
fn settings_are_free_and_everything_else_is_bounded() {
    let crd = serde_json::to_value(AlertFilter::crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "alertfilters.lanner.dev");
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"]["properties"];
    let spec = &schema["spec"]["properties"];
    assert_eq!(spec["settings"]["x-kubernetes-preserve-unknown-fields"], true);
    assert_eq!(spec["mode"]["enum"], json!(["active", "shadow"]));
    assert_eq!(spec["mode"]["default"], "active");
    assert!(spec["module"]["pattern"].as_str().unwrap().ends_with("@sha256:[0-9a-f]{64}$"));
    assert_eq!(spec["maySuppressUpTo"]["properties"]["percent"]["maximum"], 100.0);
    assert_eq!(schema["spec"]["required"], json!(["module"]));
    let conditions = &schema["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    assert_eq!(version["subresources"], json!({ "status": {} }));
    let columns: Vec<&Value> =
        version["additionalPrinterColumns"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Mode", "Order", "Revision", "Active", "Reason", "Module", "Age"]);
}

#[test]
fn an_object_as_people_write_it_is_read() {
    let digest = "0".repeat(64);
    let object = json!({
        "apiVersion": "lanner.dev/v1alpha1",
        "kind": "AlertFilter",
        "metadata": { "name": "quiet" },
        "spec": {
            "module": format!("oci://registry.example/quiet@sha256:{digest}"),
            "settings": { "any": { "thing": [1, null] } },
            "maySuppressUpTo": { "percent": 10, "priority": "NOTICE" },
        },
    });
    let read: AlertFilter = serde_json::from_value(object).unwrap();
    assert_eq!((read.spec.order, read.spec.settings.len(), read.spec.mode), (0, 1, Mode::Active));
    assert_eq!(read.spec.may_suppress_up_to.map(|grant| grant.percent), Some(10));
}
