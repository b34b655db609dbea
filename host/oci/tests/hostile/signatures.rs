//! Signatures: those that are, those that are not, and those that a registry makes up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lanner_oci::{Digest, OciError, Pinned, PublicKey, SigningKey, Verify};
use serde_json::{Value, json};

use crate::server::{INDEX, MANIFEST, Reply, Server};
use crate::{COMPONENT, descriptor, stocked};

const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// A key that was made for this test by the library that cosign seals its keys with; its password is "correct horse".
const SEALED: &str = include_str!("sealed.key");
const SEALED_PUBLIC: &str = include_str!("sealed.pub");

struct Key {
    private: rcgen::KeyPair,
    public: PublicKey,
}

impl Key {
    fn new(kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let private = rcgen::KeyPair::generate_for(kind).unwrap();
        let public = PublicKey::from_pem(&private.public_key_pem()).unwrap();
        Self { private, public }
    }

    fn p256() -> Self {
        Self::new(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn signing(&self) -> SigningKey {
        SigningKey::from_pem(&self.private.serialize_pem(), None).unwrap()
    }

    /// By another library than the one that checks it.
    fn sign(&self, message: &[u8]) -> String {
        use rcgen::SigningKey as _;
        STANDARD.encode(self.private.sign(message).unwrap())
    }

    fn any_of(keys: &[&Self]) -> Verify {
        Verify::any_of(keys.iter().map(|key| key.public.clone()).collect()).unwrap()
    }

    fn all_of(keys: &[&Self]) -> Verify {
        Verify::all_of(keys.iter().map(|key| key.public.clone()).collect()).unwrap()
    }
}

fn stocked_at(server: Server) -> (Server, Pinned) {
    let (server, digest) = stocked(server);
    let at = server.at("a:1").at(digest);
    (server, at)
}

async fn unverified(server: &Server, at: &Pinned, verify: &Verify) -> String {
    server.registry().verify(at, verify).await.expect_err("it was verified").to_string()
}

fn tag(at: &Pinned, suffix: &str) -> String {
    format!("{}{suffix}", at.digest().to_string().replace(':', "-"))
}

fn payload(digest: &str, kind: &str) -> Vec<u8> {
    let critical = json!({
        "identity": { "docker-reference": "elsewhere.example/a" },
        "image": { "docker-manifest-digest": digest },
        "type": kind,
    });
    serde_json::to_vec(&json!({ "critical": critical, "optional": { "who": "anna" } })).unwrap()
}

/// Puts a payload and its signature where cosign does.
fn attach(server: &Server, at: &Pinned, payload: &[u8], signature: &str) {
    server.blob(payload);
    let mut layer = descriptor(SIMPLE, payload);
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    server.manifest(&tag(at, ".sig"), MANIFEST, &manifest);
}

#[tokio::test]
async fn what_is_signed_is_verified_by_either_kind_of_key() {
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let (server, at) = stocked_at(Server::honest());
        let (key, other) = (Key::new(kind), Key::p256());
        server.registry().sign(&at, &key.signing()).await.unwrap();
        let verified = server.registry().verify(&at, &Key::any_of(&[&other, &key])).await.unwrap();
        assert_eq!(verified.keys, [key.public.id().clone()]);
        // The same key again writes nothing.
        let before = server.change(|shelf| shelf.manifests[&tag(&at, ".sig")].clone());
        server.registry().sign(&at, &key.signing()).await.unwrap();
        assert_eq!(server.change(|shelf| shelf.manifests[&tag(&at, ".sig")].clone()), before);
    }
}

#[tokio::test]
async fn a_signature_lies_where_cosign_looks_and_says_what_cosign_reads() {
    let (server, at) = stocked_at(Server::honest());
    let key = Key::p256();
    server.registry().sign(&at, &key.signing()).await.unwrap();
    let (kind, bytes) = server.change(|shelf| shelf.manifests[&tag(&at, ".sig")].clone());
    assert_eq!(kind, MANIFEST);
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], SIMPLE);
    let payload = server.change(|shelf| shelf.blobs[layer["digest"].as_str().unwrap()].clone());
    let expected = format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{}/a\"}},\"image\":{{\"docker-manifest-digest\":\"{}\"}},\
         \"type\":\"cosign container image signature\"}},\"optional\":null}}",
        server.address,
        at.digest()
    );
    assert_eq!(String::from_utf8(payload).unwrap(), expected);
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config: Value = server.change(|shelf| serde_json::from_slice(&shelf.blobs[config]).unwrap());
    assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
}

#[tokio::test]
async fn all_of_needs_each_and_names_those_that_are_missing() {
    let (server, at) = stocked_at(Server::honest());
    let (one, two) = (Key::p256(), Key::new(&rcgen::PKCS_ED25519));
    let verify = Key::all_of(&[&one, &two]);
    server.registry().sign(&at, &one.signing()).await.unwrap();
    let text = unverified(&server, &at, &verify).await;
    let digest = at.digest();
    assert_eq!(text, format!("{digest} is signed by {}, but not by {}", one.public.id(), two.public.id()));
    server.registry().sign(&at, &two.signing()).await.unwrap();
    let verified = server.registry().verify(&at, &verify).await.unwrap();
    assert_eq!(verified.keys, [one.public.id().clone(), two.public.id().clone()]);
}

#[tokio::test]
async fn an_unsigned_artifact_is_refused_with_the_keys_that_were_tried() {
    let (server, at) = stocked_at(Server::honest());
    let (one, two) = (Key::p256(), Key::p256());
    let text = unverified(&server, &at, &Key::any_of(&[&one, &two])).await;
    let expected =
        format!("{} is not signed; keys tried: {}, {}", at.digest(), one.public.id(), two.public.id());
    assert_eq!(text, expected);
    server.registry().sign(&at, &one.signing()).await.unwrap();
    let text = unverified(&server, &at, &Key::any_of(&[&two])).await;
    assert_eq!(text, format!("{} has 1 signatures, none of them by {}", at.digest(), two.public.id()));
}

#[tokio::test]
async fn what_another_library_signed_is_accepted_and_nothing_that_differs_from_it() {
    let (server, at) = stocked_at(Server::honest());
    let key = Key::p256();
    let verify = Key::any_of(&[&key]);
    let kind = "cosign container image signature";
    let good = payload(&at.digest().to_string(), kind);
    attach(&server, &at, &good, &key.sign(&good));
    server.registry().verify(&at, &verify).await.unwrap();

    let wrong = format!("{} has 1 signatures, none of them by {}", at.digest(), key.public.id());
    let other = payload(&Digest::of(b"other").to_string(), kind);
    let strange = payload(&at.digest().to_string(), "atomic container signature");
    let mut flipped = STANDARD.decode(key.sign(&good)).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, signature) in [
        (&other, key.sign(&other)),
        (&strange, key.sign(&strange)),
        (&good, key.sign(&other)),
        (&good, STANDARD.encode(&flipped)),
        (&good, String::new()),
    ] {
        attach(&server, &at, bytes, &signature);
        assert_eq!(unverified(&server, &at, &verify).await, wrong);
    }
    attach(&server, &at, &good, "no base64!");
    assert!(unverified(&server, &at, &verify).await.contains("is not signed; keys tried: "));
}

#[tokio::test]
async fn a_payload_with_one_flipped_byte_is_no_payload() {
    let (server, at) = stocked_at(Server::honest());
    let key = Key::p256();
    let good = payload(&at.digest().to_string(), "cosign container image signature");
    attach(&server, &at, &good, &key.sign(&good));
    server.change(|shelf| shelf.blobs.get_mut(&Digest::of(&good).to_string()).unwrap()[0] ^= 1);
    let error = server.registry().verify(&at, &Key::any_of(&[&key])).await.unwrap_err();
    assert!(matches!(error, OciError::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_flood_of_signatures_is_refused_rather_than_searched() {
    let (server, at) = stocked_at(Server::honest());
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let layers = vec![descriptor(SIMPLE, b"x"); 65];
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    server.manifest(&tag(&at, ".sig"), MANIFEST, &manifest);
    let text = unverified(&server, &at, &Key::any_of(&[&Key::p256()])).await;
    assert_eq!(text, "there are more than 64 signatures: remove those that nobody needs");
    let big = json!({ "mediaType": SIMPLE, "digest": Digest::of(b"x"), "size": 1 << 20,
        "annotations": { "dev.cosignproject.cosign/signature": "eA==" } });
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [big] });
    server.manifest(&tag(&at, ".sig"), MANIFEST, &manifest);
    let text = unverified(&server, &at, &Key::any_of(&[&Key::p256()])).await;
    assert_eq!(text, "a signature has more than 65536 bytes");
}

/// A bundle as newer cosigns write it.
fn bundle(key: &Key, digest: &Digest, predicate: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.hex() } }],
        "predicateType": predicate,
        "predicate": {},
    });
    let statement = serde_json::to_vec(&statement).unwrap();
    let kind = "application/vnd.in-toto+json";
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len()).into_bytes();
    signed.extend_from_slice(&statement);
    let envelope = json!({
        "payload": STANDARD.encode(&statement), "payloadType": kind, "signatures": [{ "sig": key.sign(&signed) }],
    });
    serde_json::to_vec(&json!({
        "mediaType": BUNDLE, "verificationMaterial": { "publicKey": { "hint": "x" } }, "dsseEnvelope": envelope,
    }))
    .unwrap()
}

/// Stores a bundle as a referrer, and gives the list of referrers that names it.
fn refer(server: &Server, bundle: &[u8]) -> Value {
    server.blob(bundle);
    let config = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "config": config,
        "layers": [descriptor(BUNDLE, bundle)],
    });
    let mut entry = descriptor(MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    entry["artifactType"] = BUNDLE.into();
    server.manifest("unnamed", MANIFEST, &manifest);
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] })
}

#[tokio::test]
async fn a_bundle_is_found_by_the_tag_that_stands_in_for_the_list_of_referrers() {
    let (server, at) = stocked_at(Server::honest());
    let key = Key::p256();
    let list = refer(&server, &bundle(&key, &at.digest(), "https://sigstore.dev/cosign/sign/v1"));
    server.manifest(&tag(&at, ""), INDEX, &list);
    let verified = server.registry().verify(&at, &Key::any_of(&[&key])).await.unwrap();
    assert_eq!(verified.keys, [key.public.id().clone()]);
}

#[tokio::test]
async fn a_bundle_is_found_among_the_referrers() {
    let key = Key::new(&rcgen::PKCS_ED25519);
    let list = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let said = std::sync::Arc::clone(&list);
    let (server, at) = stocked_at(Server::with(move |asked| {
        let headers = vec![("content-type", INDEX.to_owned())];
        let referrers = asked.path.contains("/referrers/");
        referrers.then(|| Reply::Full(200, headers, said.lock().unwrap().clone()))
    }));
    let referrers = refer(&server, &bundle(&key, &at.digest(), "https://sigstore.dev/cosign/sign/v1"));
    *list.lock().unwrap() = serde_json::to_vec(&referrers).unwrap();
    server.registry().verify(&at, &Key::any_of(&[&key])).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_is_no_signature_is_no_consent() {
    let (server, at) = stocked_at(Server::honest());
    let key = Key::p256();
    let cases = [
        bundle(&key, &at.digest(), "https://slsa.dev/provenance/v1"),
        bundle(&key, &Digest::of(b"other"), "https://sigstore.dev/cosign/sign/v1"),
    ];
    for bundle in cases {
        let list = refer(&server, &bundle);
        server.manifest(&tag(&at, ""), INDEX, &list);
        let text = unverified(&server, &at, &Key::any_of(&[&key])).await;
        assert_eq!(text, format!("{} has 1 signatures, none of them by {}", at.digest(), key.public.id()));
    }
}

#[tokio::test]
async fn nobody_signs_what_is_not_there() {
    let server = Server::honest();
    let at = server.at("a:1").at(Digest::of(COMPONENT));
    let error = server.registry().sign(&at, &Key::p256().signing()).await.unwrap_err();
    assert!(matches!(error, OciError::NotFound { .. }), "{error}");
    assert!(server.seen().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn cosign_s_sealed_key_is_opened_with_its_password() {
    let key = SigningKey::from_pem(SEALED, Some("correct horse")).unwrap();
    assert_eq!(key.public().id(), PublicKey::from_pem(SEALED_PUBLIC).unwrap().id());
    let open = |password| SigningKey::from_pem(SEALED, password).unwrap_err().to_string();
    assert_eq!(open(Some("wrong")), "the password is wrong, or the key's file is damaged");
    assert_eq!(open(None), "the key is sealed: its password is needed");
}

#[test]
fn what_is_no_key_is_refused_with_its_reason() {
    let public = |pem: &str| PublicKey::from_pem(pem).unwrap_err().to_string();
    let private = |pem: &str| SigningKey::from_pem(pem, Some("x")).unwrap_err().to_string();
    let sealed = |json: &str| {
        private(&format!(
            "-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n{}\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n",
            STANDARD
                .encode(json)
                .as_bytes()
                .chunks(64)
                .map(|c| str::from_utf8(c).unwrap())
                .collect::<Vec<_>>()
                .join("\n")
        ))
    };
    assert!(public("hello").starts_with("the key is no PEM: "));
    assert_eq!(public(&"x".repeat(20_000)), "the key is no PEM: it is too long");
    assert_eq!(public(SEALED), "the key is a \"ENCRYPTED SIGSTORE PRIVATE KEY\", not a PUBLIC KEY");
    assert_eq!(private(SEALED_PUBLIC), "the key is a \"PUBLIC KEY\", not a PRIVATE KEY");
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(public(&p384.public_key_pem()), "the key is neither ECDSA P-256 nor Ed25519");
    assert_eq!(private(&p384.serialize_pem()), "the key is neither ECDSA P-256 nor Ed25519");
    // The neutral element: everything is signed by it.
    let weak = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----";
    assert_eq!(public(weak), "the key is one that anybody can sign for");
    assert_eq!(sealed("{}"), "the sealed key cannot be opened: it is no JSON of cosign's form");
    let greedy = r#"{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},
        "cipher":{"name":"nacl/secretbox","nonce":""},"ciphertext":""}"#;
    assert_eq!(sealed(greedy), "the sealed key cannot be opened: the parameters of scrypt are out of bounds");
    let other = greedy.replace("scrypt", "pbkdf2");
    assert_eq!(
        sealed(&other),
        "the sealed key cannot be opened: it is not made by scrypt and nacl/secretbox"
    );
    assert_eq!(
        Verify::any_of(Vec::new()).unwrap_err().to_string(),
        "there are no keys to verify with (`keys`)"
    );
}
