//! Redirects: what is followed, and that nothing secret goes along.

use std::sync::Arc;

use lanner_oci::{BlobRedirects, OciError, Registry, Settings};

use crate::authority::certified;
use crate::server::{Reply, Server};
use crate::{COMPONENT, refused, stocked};

/// An authority, and a server's configuration by it.
fn authority() -> (String, Arc<rustls::ServerConfig>) {
    let (ca, certificate, key) = certified();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let chain = vec![certificate.der().clone()];
    let config = builder.unwrap().with_no_client_auth().with_single_cert(chain, private).unwrap();
    (ca, Arc::new(config))
}

/// A registry that wants a password and sends blobs to `to`.
fn sending(to: String) -> (Server, lanner_oci::Digest, tempfile::TempDir) {
    let (server, digest) = stocked(Server::with(move |asked| {
        if asked.header("authorization").is_none() {
            let challenge = ("www-authenticate", "Basic realm=\"x\"".to_owned());
            return Some(Reply::Full(401, vec![challenge], Vec::new()));
        }
        asked.is_blob().then(|| Reply::redirect(to.clone()))
    }));
    let folder = tempfile::tempdir().unwrap();
    let auth = serde_json::json!({ "auths": { server.address.to_string(): { "auth": "dTpw" } } });
    std::fs::write(folder.path().join("config.json"), auth.to_string()).unwrap();
    (server, digest, folder)
}

async fn pull(
    (server, digest, folder): &(Server, lanner_oci::Digest, tempfile::TempDir),
    settings: Settings,
) -> Result<lanner_oci::Artifact, OciError> {
    let docker_config = Some(folder.path().join("config.json"));
    let registry = Registry::new(Settings { docker_config, plain_http: true, ..settings }).unwrap();
    registry.pull(&server.at("a:1").at(*digest)).await
}

#[tokio::test]
async fn a_blob_comes_from_another_https_host_and_the_password_stays_here() {
    let (ca, tls) = authority();
    let elsewhere = Server::with_tls(tls, |asked| {
        (asked.path == "/blob?signed=yes").then(|| Reply::Full(200, Vec::new(), COMPONENT.to_vec()))
    });
    let sending = sending(format!("https://{}/blob?signed=yes", elsewhere.address));
    let settings = Settings { ca_certificates: vec![ca], ..Settings::default() };
    let artifact = pull(&sending, settings.clone()).await.unwrap();
    assert_eq!(artifact.bytes, COMPONENT);
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None, "the password went along");

    let settings = Settings { blob_redirects: BlobRedirects::Never, ..settings };
    let text = pull(&sending, settings).await.unwrap_err().to_string();
    let expected =
        format!("to {}, which only a blob may do, and only with `blob_redirects`", elsewhere.address);
    assert!(text.ends_with(&expected), "{text}");
}

#[tokio::test]
async fn a_host_with_a_strange_certificate_is_not_spoken_to() {
    let (_, tls) = authority();
    let elsewhere = Server::with_tls(tls, |_| Some(Reply::Full(200, Vec::new(), COMPONENT.to_vec())));
    let sending = sending(format!("https://{}/blob", elsewhere.address));
    let error = pull(&sending, Settings::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} cannot be reached", elsewhere.address));
    assert!(crate::said(&error).contains("invalid peer certificate"), "{}", crate::said(&error));
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_to_plain_http_is_refused_even_on_this_machine() {
    let elsewhere = Server::honest();
    let sending = sending(format!("http://{}/blob", elsewhere.address));
    let text = pull(&sending, Settings::default()).await.unwrap_err().to_string();
    let expected = format!("to http://{}, and only https is followed", elsewhere.address);
    assert!(text.ends_with(&expected), "{text}");
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn a_manifest_comes_from_the_registry_itself() {
    let (server, digest) = stocked(Server::with(|asked| {
        asked.is_manifest().then(|| Reply::redirect("https://elsewhere.invalid/manifest".to_owned()))
    }));
    let text = refused(&server, digest).await;
    let expected = "to elsewhere.invalid, which only a blob may do, and only with `blob_redirects`";
    assert!(text.ends_with(expected), "{text}");
}

#[tokio::test]
async fn redirects_at_home_are_followed_a_few_times() {
    let (server, digest) = stocked(Server::with(|asked| {
        let again = asked.is_blob() && asked.path.contains("/a/");
        again.then(|| Reply::redirect(asked.path.replace("/a/", "/b/")))
    }));
    let artifact = server.registry().pull(&server.at("a:1").at(digest)).await.unwrap();
    assert_eq!(artifact.bytes, COMPONENT);
    let (server, digest) =
        stocked(Server::with(|asked| asked.is_blob().then(|| Reply::redirect(asked.path.clone()))));
    let text = refused(&server, digest).await;
    assert!(text.ends_with("more than 3 times"), "{text}");
    let (server, digest) = stocked(Server::with(|asked| asked.is_blob().then(|| Reply::status(302))));
    let text = refused(&server, digest).await;
    assert!(text.ends_with("without saying where"), "{text}");
}
