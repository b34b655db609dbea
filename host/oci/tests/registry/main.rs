//! Against a real registry: what we push it keeps, what it keeps we pull, and what others push and sign we take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests too, which clippy.toml's exceptions do not see"
)]

#[path = "../support/authority.rs"]
mod authority;
mod distribution;
mod interop;

use std::collections::BTreeMap;

use distribution::Distribution;
use jiff::Timestamp;
use lanner_oci::{
    Annotations, AppSource, Component, OciError, PublicKey, Registry, Settings, SigningKey, Verify,
};

/// A component with `size` bytes of ballast in it.
pub(crate) fn component(size: usize) -> Component {
    let mut bytes = wat::parse_str(r#"(component (import "a:b/c@0.1.0" (instance)))"#).unwrap();
    // A custom section: its number, its length, and the name "x" in it.
    let length = u32::try_from(size + 2).unwrap();
    bytes.push(0);
    bytes.extend(
        (0..5).map(|i| u8::try_from(length >> (7 * i) & 0x7f).unwrap() | if i < 4 { 0x80 } else { 0 }),
    );
    bytes.extend_from_slice(b"\x01x");
    bytes.resize(bytes.len() + size, 7);
    Component { bytes: bytes.into(), annotations: Annotations::new(), created: Timestamp::UNIX_EPOCH }
}

fn key() -> (SigningKey, PublicKey) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = SigningKey::from_pem(&pair.serialize_pem(), None).unwrap();
    (key, PublicKey::from_pem(&pair.public_key_pem()).unwrap())
}

#[tokio::test]
async fn what_is_pushed_is_resolved_and_pulled() {
    let there = Distribution::start();
    let registry = there.registry();
    let at = there.at("team/submit:1.2");
    let component = component(3 << 20);
    let digest = registry.push(&at, &component).await.unwrap();
    assert_eq!(registry.push(&at, &component).await.unwrap(), digest);
    // A new client, which has no token and no connection yet.
    let registry = there.registry();
    assert_eq!(registry.resolve(&at, None).await.unwrap(), digest);
    assert_eq!(registry.resolve(&at, Some(&digest)).await.unwrap(), digest);
    let artifact = registry.pull(&at.at(digest)).await.unwrap();
    assert_eq!(artifact.bytes, component.bytes);
    assert_eq!(artifact.config.unwrap().component.unwrap().imports, ["a:b/c@0.1.0"]);
    let error = registry.resolve(&there.at("team/submit:none"), None).await.unwrap_err();
    assert!(
        error.to_string().ends_with("does not have the digest of ")
            || matches!(error, OciError::NotFound { .. })
    );
}

#[tokio::test]
async fn a_wrong_password_none_and_a_strange_authority_are_refused() {
    let there = Distribution::start();
    let at = there.at("a:1");
    let resolve = async |settings: Settings| {
        Registry::new(settings).unwrap().resolve(&at, None).await.expect_err("it was resolved").to_string()
    };
    let wrong = Settings { docker_config: Some(there.config("wrong", "falsch")), ..there.settings() };
    let expected = ": the password of the user \"anna\" is wrong, or the user may not do this";
    assert!(resolve(wrong.clone()).await.ends_with(expected), "{}", resolve(wrong).await);
    let nobody = Settings { docker_config: None, ..there.settings() };
    let expected = ": docker's config.json has no credential for it";
    assert!(resolve(nobody.clone()).await.ends_with(expected), "{}", resolve(nobody).await);
    let stranger = Settings { ca_certificates: Vec::new(), ..there.settings() };
    assert_eq!(resolve(stranger).await, format!("{} cannot be reached", there.host));
}

#[tokio::test]
async fn a_byte_that_flips_on_its_disk_is_refused() {
    let there = Distribution::start();
    let registry = there.registry();
    let at = there.at("a:1");
    let digest = registry.push(&at, &component(1000)).await.unwrap();
    let artifact = registry.pull(&at.at(digest)).await.unwrap();
    for flipped in [artifact.component, digest] {
        let file = there.file_of(flipped);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = registry.pull(&at.at(digest)).await.expect_err("it was pulled");
        match flipped == digest {
            // The registry sees that one itself.
            true => assert!(
                matches!(error, OciError::Status { status: 500, .. } | OciError::DigestMismatch { .. }),
                "{error}"
            ),
            false => assert!(error.to_string().contains("is not what its digest says: expected"), "{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_signed_is_verified_and_what_moves_is_not() {
    let there = Distribution::start();
    let registry = there.registry();
    let at = there.at("a:1");
    let first = at.at(registry.push(&at, &component(10)).await.unwrap());
    let ((one, one_public), (two, two_public)) = (key(), key());
    registry.sign(&first, &one).await.unwrap();
    registry.sign(&first, &two).await.unwrap();
    let both = Verify::all_of(vec![one_public.clone(), two_public]).unwrap();
    assert_eq!(registry.verify(&first, &both).await.unwrap().keys.len(), 2);
    // The tag moves: what it leads to now nobody has signed.
    let second = at.at(registry.push(&at, &component(11)).await.unwrap());
    assert_ne!(first.digest(), second.digest());
    assert_eq!(registry.pull(&first).await.unwrap().bytes, component(10).bytes);
    let any = Verify::any_of(vec![one_public.clone()]).unwrap();
    let error = registry.verify(&second, &any).await.unwrap_err();
    let expected = format!("{} is not signed; keys tried: {}", second.digest(), one_public.id());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn an_app_is_pushed_signed_and_pulled() {
    let there = Distribution::start();
    let registry = there.registry();
    let at = there.at("team/app:1");
    let manifest = "spin_manifest_version = 2\n[application]\nname = \"x\"\n[[trigger.http]]\nroute = \"/a\"\ncomponent = \"a\"\n\
        [[trigger.http]]\nroute = \"/b\"\ncomponent = \"b\"\n[component.a]\nsource = \"a.wasm\"\n[component.b]\nsource = \"b.wasm\"\n";
    let components =
        BTreeMap::from([("a".to_owned(), component(1).bytes), ("b".to_owned(), component(1).bytes)]);
    let app = AppSource { manifest: manifest.to_owned(), components, annotations: Annotations::new() };
    let pinned = at.at(registry.push_app(&at, &app).await.unwrap());
    let (private, public) = key();
    registry.sign(&pinned, &private).await.unwrap();
    registry.verify(&pinned, &Verify::any_of(vec![public]).unwrap()).await.unwrap();
    let pulled = registry.pull_app(&pinned).await.unwrap();
    assert_eq!(pulled.manifest, manifest);
    assert_eq!(pulled.components.len(), 2);
    assert_eq!(pulled.components["b"].bytes, component(1).bytes);
}

#[tokio::test]
async fn a_registry_that_went_away_is_unreachable() {
    let there = Distribution::start();
    let registry = there.registry();
    let at = there.at("a:1");
    let digest = registry.push(&at, &component(1)).await.unwrap();
    drop(there);
    let error = registry.pull(&at.at(digest)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
