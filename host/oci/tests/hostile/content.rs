//! Bytes that are not those that were promised, and the layouts in which honest ones come.

use lanner_oci::{Digest, Settings};
use serde_json::json;

use crate::server::{INDEX, MANIFEST, Reply, Server};
use crate::{COMPONENT, descriptor, plain, refused, stocked};

const LEGACY: &str = "application/vnd.wasm.content.layer.v1+wasm";

#[tokio::test]
async fn an_honest_artifact_is_pulled_by_its_tag_s_digest() {
    let (server, digest) = stocked(Server::honest());
    let registry = server.registry();
    let at = server.at("a:1");
    assert_eq!(registry.resolve(&at, None).await.unwrap(), digest);
    let artifact = registry.pull(&at.at(digest)).await.unwrap();
    assert_eq!(artifact.bytes, COMPONENT);
    assert_eq!((artifact.digest, artifact.component), (digest, Digest::of(COMPONENT)));
}

#[tokio::test]
async fn one_flipped_byte_is_refused() {
    let (server, digest) = stocked(Server::honest());
    let blob = Digest::of(COMPONENT);
    server.change(|shelf| shelf.blobs.get_mut(&blob.to_string()).unwrap()[7] ^= 1);
    let text = refused(&server, digest).await;
    assert!(text.contains("is not what its digest says: expected"), "{text}");
    assert!(text.starts_with("the component of "), "{text}");
    server.change(|shelf| shelf.manifests.get_mut(&digest.to_string()).unwrap().1[20] ^= 1);
    let text = refused(&server, digest).await;
    assert!(text.contains("is not what its digest says: expected"), "{text}");
    assert!(text.starts_with("the manifest of "), "{text}");
}

#[tokio::test]
async fn a_size_that_lies_is_refused_whichever_way() {
    for (declared, expected) in [
        (7, "the component of {at} has 8 bytes, not the 7 that were declared"),
        (9, "the component of {at} has 8 bytes, not the 9 that were declared"),
    ] {
        let server = Server::honest();
        server.blob(COMPONENT);
        let mut layer = descriptor("application/wasm", COMPONENT);
        layer["size"] = declared.into();
        let digest = server.manifest("1", MANIFEST, &plain(&layer));
        let at = server.at("a:1").at(digest);
        assert_eq!(refused(&server, digest).await, expected.replace("{at}", &at.to_string()));
    }
}

#[tokio::test]
async fn what_is_declared_too_large_is_not_even_asked_for() {
    let server = Server::honest();
    let mut layer = descriptor("application/wasm", COMPONENT);
    layer["size"] = (1_u64 << 60).into();
    let digest = server.manifest("1", MANIFEST, &plain(&layer));
    let text = refused(&server, digest).await;
    assert!(text.ends_with("has more than 67108864 bytes (`component_bytes`)"), "{text}");
    assert!(!server.seen().iter().any(|asked| asked.is_blob()));
    layer["size"] = (-1).into();
    let digest = server.manifest("1", MANIFEST, &plain(&layer));
    assert!(refused(&server, digest).await.starts_with("the manifest cannot be read: "));
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    for of_manifest in [true, false] {
        let (server, digest) = stocked(Server::with(move |asked| {
            let endless = asked.is_manifest() == of_manifest && asked.method == "GET";
            endless.then(|| {
                Reply::raw(|to| {
                    to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                    loop {
                        to.write_all(b"10000\r\n")?;
                        to.write_all(&[0; 0x10000])?;
                        to.write_all(b"\r\n")?;
                    }
                })
            })
        }));
        let text = refused(&server, digest).await;
        let expected = match of_manifest {
            true => "has more than 4194304 bytes (`manifest_bytes`)",
            false => "has 9 bytes, not the 8 that were declared",
        };
        assert!(text.ends_with(expected), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_a_broken_answer_and_may_be_tried_again() {
    let (server, digest) = stocked(Server::with(|asked| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\0asm";
        asked.is_blob().then(|| Reply::raw(move |to| to.write_all(head)))
    }));
    let pulled = server.registry().pull(&server.at("a:1").at(digest)).await.unwrap_err();
    assert!(pulled.to_string().ends_with(" broke off its answer"), "{pulled}");
    assert!(pulled.is_transient());
}

#[tokio::test]
async fn a_tag_that_moves_after_it_was_resolved_changes_nothing() {
    let (server, old) = stocked(Server::honest());
    let registry = server.registry();
    let at = server.at("a:1");
    let resolved = registry.resolve(&at, None).await.unwrap();
    let other = [COMPONENT, b"\0\x01\0"].concat();
    server.blob(&other);
    let new = server.manifest("1", MANIFEST, &plain(&descriptor("application/wasm", &other)));
    assert_eq!(registry.pull(&at.at(resolved)).await.unwrap().bytes, COMPONENT, "the old one is still there");
    assert_eq!(registry.resolve(&at, Some(&old)).await.unwrap(), new);
    server.change(|shelf| shelf.manifests.remove(&old.to_string()));
    let text = refused(&server, old).await;
    assert_eq!(text, format!("{} does not have the manifest of {}", server.address, at.at(old)));
}

#[tokio::test]
async fn a_digest_that_is_only_claimed_is_found_out() {
    let claimed = Digest::of(b"something else");
    let (server, digest) = stocked(Server::with(move |asked| {
        let headers = vec![("docker-content-digest", claimed.to_string())];
        (asked.method == "HEAD").then(|| Reply::Full(200, headers, Vec::new()))
    }));
    let at = server.at("a:1");
    assert_eq!(server.registry().resolve(&at, None).await.unwrap(), claimed);
    // The registry knows no such manifest; one that answers with its own is no better.
    let own = server.change(|shelf| shelf.manifests[&digest.to_string()].clone());
    server.change(|shelf| shelf.manifests.insert(claimed.to_string(), own));
    let text = refused(&server, claimed).await;
    assert!(
        text.ends_with(&format!("is not what its digest says: expected {claimed}, got {digest}")),
        "{text}"
    );
}

#[tokio::test]
async fn a_registry_that_does_not_know_head_or_the_header_is_asked_by_get() {
    for status in [405, 200] {
        let (server, digest) =
            stocked(Server::with(move |asked| (asked.method == "HEAD").then(|| Reply::status(status))));
        assert_eq!(server.registry().resolve(&server.at("a:1"), None).await.unwrap(), digest);
    }
}

#[tokio::test]
async fn an_unchanged_tag_is_answered_by_not_modified() {
    let (server, digest) = stocked(Server::honest());
    assert_eq!(server.registry().resolve(&server.at("a:1"), Some(&digest)).await.unwrap(), digest);
    let seen = server.seen();
    assert_eq!(seen[0].header("if-none-match"), Some(format!("\"{digest}\"").as_str()));
    assert_eq!(seen.len(), 1);
    // The answer without the question is none.
    let rude = Server::with(|_| Some(Reply::status(304)));
    let error = rude.registry().resolve(&rude.at("a:1"), None).await.unwrap_err();
    assert!(error.to_string().ends_with("with status 304"), "{error}");
}

#[tokio::test]
async fn the_layouts_of_others_are_read() {
    let cases = [
        ("application/vnd.wasm.config.v1+json", LEGACY, "Kubewarden, and Spin's components"),
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm",
            "wasmCloud",
        ),
        ("application/vnd.oci.empty.v1+json", "application/wasm", "oras"),
    ];
    for (config, layer, whose) in cases {
        let server = Server::honest();
        server.blob(COMPONENT);
        let mut manifest = plain(&descriptor(layer, COMPONENT));
        manifest["config"]["mediaType"] = config.into();
        manifest["annotations"] = json!({ "org.opencontainers.image.title": "../../etc/passwd" });
        let readme = descriptor("text/markdown", b"never fetched");
        manifest["layers"].as_array_mut().unwrap().push(readme);
        let digest = server.manifest("1", MANIFEST, &manifest);
        let artifact = server.registry().pull(&server.at("a:1").at(digest)).await.expect(whose);
        assert_eq!(artifact.bytes, COMPONENT, "{whose}");
        assert_eq!(artifact.config, None, "{whose}");
        assert_eq!(artifact.annotations.len(), 1, "{whose}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_no_component_s_is_refused_with_its_reason() {
    let wasm = || descriptor("application/wasm", COMPONENT);
    let two = |a, b| {
        let mut manifest = plain(&a);
        manifest["layers"].as_array_mut().unwrap().push(b);
        manifest
    };
    let tar = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"tar");
    let app = descriptor("application/vnd.fermyon.spin.application.v1+config", b"{}");
    let mut ambiguous = plain(&wasm());
    ambiguous["manifests"] = json!([]);
    let mut schema = plain(&wasm());
    schema["schemaVersion"] = 1.into();
    let mut config = plain(&wasm());
    let said = br#"{"created":"2026-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":[]}"#;
    config["config"] = descriptor("application/vnd.wasm.config.v0+json", said);
    let mut strange = plain(&wasm());
    strange["mediaType"] = "application/x\u{1b}".into();
    let cases = [
        (plain(&tar), "no layer is a Wasm component (\"application/vnd.oci.image.layer.v1.tar+gzip\")"),
        (two(wasm(), wasm()), "2 layers are Wasm, one is needed"),
        (two(wasm(), app), "this is an app, not a component: pull it as an app"),
        (plain(&descriptor("application/wasm", b"#!/bin/sh")), "the layer does not begin as Wasm does"),
        (ambiguous, "the manifest has both layers and manifests, so that two readers might see two things"),
        (schema, "the manifest has schemaVersion 1; 2 is known"),
        (config, "the config lists other layers than the manifest"),
        (strange, "the manifest calls itself \"application/x\\u{1b}\" and is sent as"),
    ];
    let server = Server::honest();
    for bytes in [COMPONENT, b"#!/bin/sh", said] {
        server.blob(bytes);
    }
    for (manifest, expected) in cases {
        let digest = server.manifest("1", MANIFEST, &manifest);
        let text = refused(&server, digest).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn a_list_is_followed_to_its_one_entry_for_wasm() {
    let (server, inner) = stocked(Server::honest());
    let size = server.change(|shelf| shelf.manifests[&inner.to_string()].1.len());
    let entry = |architecture: &str, size: usize| {
        json!({ "mediaType": MANIFEST, "digest": inner, "size": size,
            "platform": { "architecture": architecture, "os": "wasip1" } })
    };
    let list =
        |entries: serde_json::Value| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let good = list(json!([entry("amd64", size), entry("wasm", size)]));
    let digest = server.manifest("1", INDEX, &good);
    let artifact = server.registry().pull(&server.at("a:1").at(digest)).await.unwrap();
    assert_eq!((artifact.digest, artifact.bytes.as_ref()), (digest, COMPONENT));

    let nested = server.manifest("list", INDEX, &good);
    let mut nests = entry("wasm", serde_json::to_vec(&good).unwrap().len());
    nests["digest"] = nested.to_string().into();
    let cases = [
        (
            json!([entry("amd64", size)]),
            "the manifest list holds 0 entries for Wasm, one is needed: name its digest",
        ),
        (json!([entry("wasm", size), entry("wasm", size)]), "the manifest list holds 2 entries for Wasm"),
        (json!([entry("wasm", size + 1)]), "the manifest sha256:"),
        (json!([nests]), "a manifest list leads to another manifest list"),
    ];
    for (entries, expected) in cases {
        let digest = server.manifest("1", INDEX, &list(entries));
        let text = refused(&server, digest).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn nothing_speaks_http_with_another_machine() {
    let settings = Settings { plain_http: true, ..Settings::default() };
    let registry = lanner_oci::Registry::new(settings).unwrap();
    let error = registry.resolve(&"registry.invalid/a:1".parse().unwrap(), None).await.unwrap_err();
    let expected = "registry.invalid: plain http is for registries on this machine, named localhost or by a loopback address";
    assert_eq!(error.to_string(), expected);
}
