//! Passwords and tokens: challenges that never end, token services that are none, and to whom a secret is shown.

use std::path::PathBuf;

use lanner_oci::{Digest, OciError, Registry, Settings};
use serde_json::json;

use crate::server::{Asked, Reply, Server};
use crate::{COMPONENT, said, stocked};

fn challenge(text: String) -> Reply {
    Reply::Full(401, vec![("www-authenticate", text)], Vec::new())
}

/// A docker config with one password for `host`.
fn config(host: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, json!({ "auths": { host: { "auth": "YW5uYTpnZWhlaW0=" } } }).to_string()).unwrap();
    (folder, file)
}

async fn pull(server: &Server, digest: Digest, docker_config: Option<PathBuf>) -> Result<(), OciError> {
    let registry = Registry::new(Settings { docker_config, ..server.settings() }).unwrap();
    registry.pull(&server.at("a:1").at(digest)).await.map(|artifact| assert_eq!(artifact.bytes, COMPONENT))
}

#[tokio::test]
async fn a_registry_that_is_never_content_is_asked_twice() {
    let (server, digest) = stocked(Server::with(|_| Some(challenge("Basic realm=\"x\"".to_owned()))));
    let (_folder, file) = config(&server.address.to_string());
    let error = pull(&server, digest, Some(file)).await.unwrap_err();
    let expected = ": the password of the user \"anna\" is wrong, or the user may not do this";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(!error.is_transient());
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("authorization"), None, "a password is shown before it is asked for");
    assert_eq!(seen[1].header("authorization"), Some("Basic YW5uYTpnZWhlaW0="));
}

#[tokio::test]
async fn without_a_credential_the_file_is_named() {
    let (server, digest) = stocked(Server::with(|_| Some(challenge("Basic realm=\"x\"".to_owned()))));
    let (_folder, other) = config("other.invalid");
    for file in [None, Some(other), Some("/nowhere/config.json".into())] {
        let error = pull(&server, digest, file).await.unwrap_err();
        assert!(error.to_string().ends_with(": docker's config.json has no credential for it"), "{error}");
    }
    assert_eq!(server.seen().len(), 3);
    let (strange, digest) = stocked(Server::with(|_| Some(challenge("Negotiate".to_owned()))));
    let error = pull(&strange, digest, None).await.unwrap_err();
    assert!(
        error.to_string().ends_with(": it asks for neither a Basic nor a Bearer authorization"),
        "{error}"
    );
}

/// A registry with its own token service, which gives what `token` says.
fn with_tokens(token: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (Server, Digest) {
    stocked(Server::with(move |asked| {
        if asked.path.starts_with("/token") {
            return Some(token(asked));
        }
        let good = asked.header("authorization") == Some("Bearer t0ken");
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let text = format!("Bearer realm=\"{realm}\",service=\"s v\",scope=\"repository:other:*\"");
        (!good).then(|| challenge(text))
    }))
}

#[tokio::test]
async fn a_token_is_asked_for_with_our_scope_and_kept() {
    let (server, digest) = with_tokens(|_| Reply::Full(200, Vec::new(), br#"{"token":"t0ken"}"#.to_vec()));
    let (_folder, file) = config(&server.address.to_string());
    pull(&server, digest, Some(file)).await.unwrap();
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().filter(|asked| asked.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1, "the token is used again");
    assert_eq!(asked[0].path, "/token?service=s+v&scope=repository%3Aa%3Apull");
    assert_eq!(asked[0].header("authorization"), Some("Basic YW5uYTpnZWhlaW0="));
    assert!(
        seen.iter()
            .filter(|asked| asked.path.starts_with("/v2"))
            .all(|asked| { asked.header("authorization").is_none_or(|shown| shown == "Bearer t0ken") })
    );
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let (server, digest) = with_tokens(|_| {
        Reply::Full(200, Vec::new(), br#"{"access_token":"t0ken","expires_in":300}"#.to_vec())
    });
    let (_folder, file) = config("other.invalid");
    let config = json!({ "auths": { server.address.to_string(): { "identitytoken": "i&d" } } });
    std::fs::write(&file, config.to_string()).unwrap();
    pull(&server, digest, Some(file)).await.unwrap();
    let seen = server.seen();
    let asked = seen.iter().find(|asked| asked.path == "/token").unwrap();
    assert_eq!(asked.method, "POST");
    let form = "grant_type=refresh_token&refresh_token=i%26d&service=s+v&scope=repository%3Aa%3Apull&client_id=lanner";
    assert_eq!(String::from_utf8_lossy(&asked.body), form);
}

#[tokio::test]
async fn a_token_service_that_is_none_is_refused_with_its_reason() {
    let cases = [
        (Reply::status as fn(u16) -> Reply, 401, ": docker's config.json has no credential for it"),
        (Reply::status, 500, "answers the request for a token with status 500"),
        (
            |_| Reply::Full(200, Vec::new(), b"<html>".to_vec()),
            0,
            "with something that is none: it cannot be read",
        ),
        (
            |_| Reply::Full(200, Vec::new(), b"{}".to_vec()),
            0,
            "with something that is none: there is no token in it",
        ),
        (
            |_| Reply::Full(200, Vec::new(), br#"{"token":"a\r\nx: y"}"#.to_vec()),
            0,
            "with something that is none: the token cannot stand in a header",
        ),
        (|_| Reply::Full(200, Vec::new(), vec![b' '; 300_000]), 0, "the token has more than 262144 bytes"),
        (|_| Reply::redirect("/token".to_owned()), 0, "answers the request for a token with status 307"),
    ];
    for (reply, status, expected) in cases {
        let (server, digest) = with_tokens(move |_| reply(status));
        let error = pull(&server, digest, None).await.unwrap_err();
        assert!(said(&error).ends_with(expected), "{}", said(&error));
    }
}

#[tokio::test]
async fn a_token_service_elsewhere_speaks_https() {
    let elsewhere = Server::honest();
    let realm = format!("Bearer realm=\"http://{}/token\"", elsewhere.address);
    let (server, digest) = stocked(Server::with(move |_| Some(challenge(realm.clone()))));
    let (_folder, file) = config(&server.address.to_string());
    let error = pull(&server, digest, Some(file)).await.unwrap_err();
    let expected = format!("to http://{}, and only https is followed", elsewhere.address);
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert_eq!(elsewhere.seen().len(), 0);
}
