//! Credential helpers: programs of the operator's that answer, fail, hang, or talk too much.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lanner_oci::{Limits, OciError, Registry, Settings};
use serde_json::json;

use crate::server::{Reply, Server};
use crate::{said, stocked};

/// A helper that answers does so at once, but the machine may be busy.
const PATIENT: u64 = 60;

/// Pulls with a helper that is this shell script, from a registry that wants Anna's password.
async fn pull_with(script: &str, seconds: u64) -> Result<(), OciError> {
    let (server, digest) = stocked(Server::with(|asked| {
        let challenge = vec![("www-authenticate", "Basic realm=\"x\"".to_owned())];
        let good = asked.header("authorization") == Some("Basic YW5uYTpnZWhlaW0=");
        (!good).then(|| Reply::Full(401, challenge, Vec::new()))
    }));
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "credHelpers": { server.address.to_string(): "test" } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    if !script.is_empty() {
        write_program(&folder.path().join("docker-credential-test"), script);
    }
    let limits = Limits { helper: Duration::from_secs(seconds), ..Limits::default() };
    let settings = Settings {
        docker_config: Some(folder.path().join("config.json")),
        helper_folder: Some(folder.path().to_owned()),
        limits,
        ..server.settings()
    };
    let registry = Registry::new(settings).unwrap();
    registry.pull(&server.at("a:1").at(digest)).await.map(drop)
}

fn write_program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_helper_is_asked_for_the_registry_on_its_input() {
    let script = r#"read -r server; test "$1" = get || exit 3
        case "$server" in 127.0.0.1:*) printf '{"ServerURL":"%s","Username":"anna","Secret":"geheim"}' "$server";; esac"#;
    pull_with(script, PATIENT).await.unwrap();
}

#[tokio::test]
async fn a_helper_that_has_nothing_means_nobody() {
    let error =
        pull_with("echo 'credentials not found in native keychain'; exit 1", PATIENT).await.unwrap_err();
    assert!(error.to_string().ends_with(": docker's config.json has no credential for it"), "{error}");
}

#[tokio::test]
async fn a_bad_helper_is_refused_with_its_reason_and_without_its_secret() {
    let cases = [
        ("", "docker-credential-test cannot be started: No such file or directory"),
        ("echo 'no display'; exit 1", "docker-credential-test failed: \"no display\""),
        ("echo geheim", "docker-credential-test answered with something that is no credential"),
        ("exec cat /dev/zero", "docker-credential-test wrote more than 65536 bytes"),
    ];
    for (script, expected) in cases {
        let text = said(&pull_with(script, PATIENT).await.unwrap_err());
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[tokio::test]
async fn a_helper_that_waits_for_somebody_is_given_up() {
    let began = Instant::now();
    let text = said(&pull_with("exec sleep 60", 1).await.unwrap_err());
    assert_eq!(text, "docker-credential-test did not answer within 1 s (`helper`)");
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}
