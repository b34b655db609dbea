//! Pushing: what ends up in the registry, and registries that want it elsewhere or otherwise.

use jiff::Timestamp;
use lanner_oci::{Annotations, Component, Digest, OciError};
use serde_json::{Value, json};

use crate::COMPONENT;
use crate::server::{MANIFEST, Reply, Server};

fn component(bytes: &[u8]) -> Component {
    Component {
        bytes: bytes.to_vec().into(),
        annotations: Annotations::from([("org.opencontainers.image.version".to_owned(), "1.2".to_owned())]),
        created: Timestamp::UNIX_EPOCH,
    }
}

async fn push(server: &Server, bytes: &[u8]) -> Result<Digest, OciError> {
    server.registry().push(&server.at("team/a:1"), &component(bytes)).await
}

#[tokio::test]
async fn a_component_is_pushed_in_the_cncf_s_layout_and_pulled_again() {
    let server = Server::honest();
    let wat = r#"(component (import "a:b/c@0.1.0" (instance)) (instance $i) (export "d:e/f" (instance $i)))"#;
    let bytes = wat::parse_str(wat).unwrap();
    let digest = push(&server, &bytes).await.unwrap();
    assert_eq!(push(&server, &bytes).await.unwrap(), digest, "the same again is the same artifact");
    let (kind, manifest) = server.change(|shelf| shelf.manifests["1"].clone());
    assert_eq!(kind, MANIFEST);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config: Value = server.change(|shelf| serde_json::from_slice(&shelf.blobs[config]).unwrap());
    assert_eq!(
        manifest,
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": manifest["config"]["digest"],
                "size": manifest["config"]["size"],
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": Digest::of(&bytes),
                "size": bytes.len(),
                "annotations": { "org.opencontainers.image.title": "component.wasm" },
            }],
            "annotations": { "org.opencontainers.image.version": "1.2" },
        })
    );
    assert_eq!(
        config,
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [Digest::of(&bytes)],
            "component": { "exports": ["d:e/f"], "imports": ["a:b/c@0.1.0"] },
        })
    );
    let artifact = server.registry().pull(&server.at("team/a:1").at(digest)).await.unwrap();
    assert_eq!(artifact.bytes, bytes);
    assert_eq!(artifact.config.unwrap().component.unwrap().imports, ["a:b/c@0.1.0"]);
}

#[tokio::test]
async fn what_is_there_is_not_sent_again() {
    let server = Server::honest();
    push(&server, COMPONENT).await.unwrap();
    let before = server.seen().len();
    push(&server, COMPONENT).await.unwrap();
    let again: Vec<_> = server.seen().split_off(before).into_iter().map(|asked| asked.method).collect();
    assert_eq!(again, ["HEAD", "HEAD", "PUT"]);
}

#[tokio::test]
async fn what_cannot_be_pushed_is_refused_before_anything_is_sent() {
    let server = Server::honest();
    let registry = server.registry();
    let error = push(&server, b"#!/bin/sh").await.unwrap_err();
    assert_eq!(error.to_string(), "the layer does not begin as Wasm does");
    let error = push(&server, b"\0asm\x0d\0\x01\0\xff").await.unwrap_err();
    assert!(crate::said(&error).starts_with("the component cannot be read: "), "{}", crate::said(&error));
    let at = server.at(&format!("a@{}", Digest::of(b"")));
    let error = registry.push(&at, &component(COMPONENT)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{at} cannot be written to: it names a digest"));
    let mut noted = component(COMPONENT);
    noted.annotations.insert("k".to_owned(), "v".repeat(5000));
    let error = registry.push(&server.at("a:1"), &noted).await.unwrap_err();
    let expected = "the annotation \"k\" is too long or too many: at most 256, of 4096 bytes each";
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn nothing_is_written_elsewhere() {
    for to in ["https://elsewhere.invalid/upload", "//elsewhere.invalid/upload", "http://127.0.0.1:1/upload"]
    {
        let server = Server::with(move |asked| {
            let location = vec![("location", to.to_owned())];
            (asked.method == "POST").then(|| Reply::Full(202, location, Vec::new()))
        });
        let error = push(&server, COMPONENT).await.unwrap_err();
        assert!(error.to_string().ends_with("and nothing is written elsewhere"), "{error}");
        let server =
            Server::with(move |asked| (asked.method == "PUT").then(|| Reply::redirect(to.to_owned())));
        let error = push(&server, COMPONENT).await.unwrap_err();
        assert!(error.to_string().ends_with("and nothing is written elsewhere"), "{error}");
    }
    let server = Server::with(|asked| (asked.method == "POST").then(|| Reply::status(202)));
    let error = push(&server, COMPONENT).await.unwrap_err();
    assert!(error.to_string().ends_with("without saying where to upload to"), "{error}");
}

#[tokio::test]
async fn a_registry_that_stored_something_else_is_found_out() {
    let other = Digest::of(b"another manifest").to_string();
    let server = Server::with(move |asked| {
        let stored = asked.method == "PUT" && asked.is_manifest();
        stored.then(|| Reply::Full(201, vec![("docker-content-digest", other.clone())], Vec::new()))
    });
    let error = push(&server, COMPONENT).await.unwrap_err();
    assert!(matches!(error, OciError::DigestMismatch { .. }), "{error}");
}
