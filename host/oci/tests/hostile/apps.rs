//! Whole apps: as `spin registry push` writes them, as we do, and as nobody should.

use std::collections::BTreeMap;

use lanner_oci::{Annotations, AppSource, Digest, Settings};
use serde_json::{Value, json};

use crate::server::{MANIFEST, Server};
use crate::{COMPONENT, descriptor, said};

const LOCKED: &str = "application/vnd.fermyon.spin.application.v1+config";
const WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
const TOML: &str = r#"spin_manifest_version = 2
[application]
name = "shop"
[[trigger.http]]
route = "/buy/:id"
component = "buy"
[component.buy]
source = "target/buy.wasm"
[component.buy.tool.lanner]
capabilities = ["jobs"]
"#;

/// Makes another app of what Spin wrote.
type Change<'a> = &'a dyn Fn(&mut Value);

/// What Spin writes for an app made from its template for HTTP.
fn spin_s() -> Value {
    json!({
        "spin_lock_version": 1,
        "metadata": { "name": "hello", "version": "0.1.0", "description": "", "trigger": { "type": "http", "base": "/" } },
        "triggers": [{
            "id": "trigger-hello", "trigger_type": "http",
            "trigger_config": { "component": "hello", "executor": { "type": "spin" }, "route": "/..." },
        }],
        "components": [{
            "id": "hello",
            "metadata": { "allowed_outbound_hosts": [], "build": { "command": "cargo build" } },
            "source": { "content_type": "application/wasm", "digest": Digest::of(COMPONENT) },
        }],
    })
}

/// The layout of `spin registry push`: layers for the components, then one for the locked app; an image's config.
fn pushed(locked: &Value) -> (Server, Digest) {
    let server = Server::honest();
    let locked = serde_json::to_vec(locked).unwrap();
    server.blob(COMPONENT);
    server.blob(&locked);
    let config = br#"{"architecture":"wasm","os":"Wasip1","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = server.manifest(
        "1",
        MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor(WASM, COMPONENT), descriptor(LOCKED, &locked)],
        }),
    );
    (server, digest)
}

async fn refused(locked: &Value) -> String {
    let (server, digest) = pushed(locked);
    let pulled = server.registry().pull_app(&server.at("a:1").at(digest)).await;
    said(&pulled.expect_err("it was pulled"))
}

#[tokio::test]
async fn a_plain_app_that_spin_pushed_is_pulled() {
    let (server, digest) = pushed(&spin_s());
    let app = server.registry().pull_app(&server.at("a:1").at(digest)).await.unwrap();
    assert_eq!(app.digest, digest);
    assert_eq!(app.components["hello"].bytes, COMPONENT);
    let manifest: toml::Table = app.manifest.parse().unwrap();
    let expected: toml::Table =
        "spin_manifest_version = 2\n[application]\nname = 'hello'\nversion = '0.1.0'\ndescription = ''\n\
        [[trigger.http]]\nroute = '/...'\ncomponent = 'hello'\n[component.hello]\nsource = 'hello.wasm'\n"
            .parse()
            .unwrap();
    assert_eq!(manifest, expected);
}

#[tokio::test]
async fn an_app_of_ours_comes_back_with_its_grants() {
    let server = Server::honest();
    let registry = server.registry();
    let components = BTreeMap::from([("buy".to_owned(), COMPONENT.to_vec().into())]);
    let app = AppSource { manifest: TOML.to_owned(), components, annotations: Annotations::new() };
    let digest = registry.push_app(&server.at("a:1"), &app).await.unwrap();
    assert_eq!(registry.push_app(&server.at("a:1"), &app).await.unwrap(), digest);
    let pulled = registry.pull_app(&server.at("a:1").at(digest)).await.unwrap();
    assert_eq!(pulled.manifest, TOML);
    assert_eq!(pulled.components["buy"].digest, Digest::of(COMPONENT));
    // What Spin reads of it: the locked app, and the component under the type that it knows.
    let manifest = server.change(|shelf| shelf.manifests["1"].1.clone());
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let mut component = descriptor(WASM, COMPONENT);
    component["annotations"] = json!({ "org.opencontainers.image.title": "buy.wasm" });
    assert_eq!(layers[0], component);
    let locked = layers.iter().find(|layer| layer["mediaType"] == LOCKED).unwrap();
    let locked = server.change(|shelf| shelf.blobs[locked["digest"].as_str().unwrap()].clone());
    assert_eq!(
        serde_json::from_slice::<Value>(&locked).unwrap(),
        json!({
            "spin_lock_version": 0,
            "metadata": { "name": "shop" },
            "triggers": [{ "id": "trigger-http-0", "trigger_type": "http",
                "trigger_config": { "component": "buy", "route": "/buy/:id" } }],
            "components": [{ "id": "buy", "source": { "content_type": "application/wasm", "digest": Digest::of(COMPONENT) } }],
        })
    );
    // A component is no app.
    let error = registry.pull(&server.at("a:1").at(digest)).await.unwrap_err();
    assert_eq!(error.to_string(), "this is an app, not a component: pull it as an app");
}

#[tokio::test]
async fn an_app_whose_two_manifests_differ_is_refused() {
    let (server, _) = pushed(&spin_s());
    let locked = serde_json::to_vec(&spin_s()).unwrap();
    for (text, expected) in [
        (TOML, "the artifact's spin.toml and its locked app say different things"),
        ("[", "the app's spin.toml cannot be read"),
        ("\u{0}", "the app's spin.toml cannot be read"),
    ] {
        server.blob(text.as_bytes());
        let toml = descriptor("application/vnd.lanner.app.manifest.v1+toml", text.as_bytes());
        let digest = server.manifest(
            "1",
            MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
                "layers": [descriptor(WASM, COMPONENT), descriptor(LOCKED, &locked), toml],
            }),
        );
        let error = server.registry().pull_app(&server.at("a:1").at(digest)).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let changed = |change: Change| {
        let mut locked = spin_s();
        change(&mut locked);
        locked
    };
    let other = Digest::of(b"elsewhere");
    let cases: [(Change, &str); 15] = [
        (
            &|l| l["components"][0]["files"] = json!([{ "path": "/" }]),
            "component \"hello\": it asks for `files`",
        ),
        (
            &|l| l["components"][0]["env"] = json!({ "A": "b" }),
            "component \"hello\": it asks for `environment`",
        ),
        (
            &|l| l["components"][0]["metadata"]["allowed_outbound_hosts"] = json!(["https://x.invalid"]),
            "component \"hello\": it asks for `allowed_outbound_hosts`",
        ),
        (
            &|l| l["components"][0]["dependencies"] = json!({ "a:b": {} }),
            "component \"hello\": it asks for `dependencies`",
        ),
        (&|l| l["components"][0]["id"] = "../x".into(), "component \"../x\": the id is no name"),
        (
            &|l| l["components"][0]["source"]["digest"] = other.to_string().into(),
            "component \"hello\": no layer for Wasm",
        ),
        (&|l| l["variables"] = json!({ "v": {} }), "the app asks for \"variables\""),
        (&|l| l["must_understand"] = json!(["moon"]), "the app asks for \"moon\""),
        (
            &|l| l["host_requirements"] = json!({ "local_service_chaining": "required" }),
            "the app asks for \"local_service_chaining\"",
        ),
        (&|l| l["spin_lock_version"] = 2.into(), "spin_lock_version is 2; 0 and 1 are known"),
        (
            &|l| l["triggers"][0]["trigger_type"] = "redis".into(),
            "the trigger of type \"redis\" is not served here",
        ),
        (
            &|l| l["triggers"][0]["trigger_config"]["component"] = "x".into(),
            "a route names the component \"x\"",
        ),
        (
            &|l| l["triggers"][0]["trigger_config"]["route"] = json!({ "private": true }),
            "the app asks for \"a route that is no text\"",
        ),
        (
            &|l| l["triggers"][0]["trigger_config"]["executor"] = json!({ "type": "wagi" }),
            "the app asks for \"the trigger's executor\"",
        ),
        (&|l| l["components"] = json!({}), "the locked app cannot be read: "),
    ];
    for (change, expected) in cases {
        let text = refused(&changed(change)).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn an_app_is_bounded_as_a_whole() {
    let (server, digest) = pushed(&spin_s());
    let mut settings = Settings { ..server.settings() };
    settings.limits.app_bytes = 7;
    let registry = lanner_oci::Registry::new(settings.clone()).unwrap();
    let error = registry.pull_app(&server.at("a:1").at(digest)).await.unwrap_err();
    assert_eq!(error.to_string(), "the app has more than 7 bytes (`app_bytes`)");
    settings.limits.components = 0;
    let registry = lanner_oci::Registry::new(settings).unwrap();
    let error = registry.pull_app(&server.at("a:1").at(digest)).await.unwrap_err();
    assert_eq!(error.to_string(), "the app has more than 0 components (`components`)");
    let (server, digest) = crate::stocked(Server::honest());
    let error = server.registry().pull_app(&server.at("a:1").at(digest)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the artifact is no app: it has no layer of the type {LOCKED}"));
}

#[tokio::test]
async fn an_app_that_cannot_be_served_is_not_pushed() {
    let server = Server::honest();
    let push = async |manifest: &str, bytes: &'static [u8]| {
        let components = BTreeMap::from([("buy".to_owned(), bytes.into())]);
        let app = AppSource { manifest: manifest.to_owned(), components, annotations: Annotations::new() };
        said(&server.registry().push_app(&server.at("a:1"), &app).await.expect_err("it was pushed"))
    };
    let files = TOML.replace("source =", "files = [\"x\"]\nsource =");
    assert_eq!(push(&files, COMPONENT).await, "the app asks for \"buy: files\", which is not served here");
    let redis = TOML.replace("trigger.http", "trigger.redis");
    assert_eq!(push(&redis, COMPONENT).await, "the trigger of type \"redis\" is not served here, only http");
    let other = TOML.replace("component.buy", "component.sell");
    assert_eq!(
        push(&other, COMPONENT).await,
        "component \"sell\": spin.toml names it, and its bytes are not given"
    );
    assert_eq!(push(TOML, b"MZ").await, "component \"buy\": it does not begin as Wasm does");
    let version = TOML.replace("version = 2", "version = 1");
    assert_eq!(push(&version, COMPONENT).await, "spin_manifest_version is 1; 2 is known");
    assert_eq!(server.seen().len(), 0);
}
