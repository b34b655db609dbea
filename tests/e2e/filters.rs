//! Hostile filters, uploaded to a running host: each is refused with its own code and sentence, the host lives on and its
//! memory stays bounded. And whoever is no admin uploads nothing.

use std::path::Path;

use lanner_tests::filters::{Expected, all, good};
use lanner_tests::serve::{Serve, curl, curl_json};
use serde_json::Value;

const WASM: &str = "content-type: application/wasm";

/// Bombs meet these limits in seconds.
const LIMITS: &str = "[policy]\ncompile_seconds = 10\ncompile_memory_mib = 1024\n";

fn start(folder: &Path, config: &str) -> Serve {
    let path = folder.join("lanner.toml");
    std::fs::write(&path, config).unwrap();
    Serve::start(&folder.join("data"), &["--config", path.to_str().unwrap()]).unwrap()
}

fn put(serve: &Serve, name: &str, bytes: &[u8], folder: &Path, headers: &[&str]) -> (u16, Value) {
    let file = folder.join("upload.wasm");
    std::fs::write(&file, bytes).unwrap();
    let (url, data) = (format!("{}/v1/policies/{name}", serve.url), format!("@{}", file.display()));
    let mut args = vec!["-X", "PUT", "-H", WASM, "--data-binary", &data, &url];
    args.extend(headers.iter().flat_map(|h| ["-H", h]));
    curl_json(&args).unwrap()
}

fn active(serve: &Serve) -> Value {
    let (status, list) = curl_json(&[&format!("{}/v1/policies", serve.url)]).unwrap();
    assert_eq!(status, 200, "{list}");
    list["active"].clone()
}

#[test]
fn hostile_filters_are_refused_each_with_its_code_and_the_host_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let serve = start(folder.path(), LIMITS);
    let before = active(&serve);
    let all = all().unwrap();
    let mut wrong = Vec::new();
    for hostile in &all {
        let dry = format!("{}?dry-run=true", hostile.name);
        let (status, answer) = put(&serve, &dry, &hostile.bytes, folder.path(), &[]);
        let (code, detail) =
            (answer["code"].as_str().unwrap_or_default(), answer["detail"].as_str().unwrap_or_default());
        let fits = match &hostile.expected {
            Expected::Refused { code: wanted, says } => {
                status == 422 && code.starts_with(wanted.as_str()) && detail.contains(says.as_str())
            }
            Expected::Contained => matches!(status, 200 | 422),
        };
        if !fits || detail.len() > 600 || detail.chars().any(char::is_control) {
            wrong.push(format!("{}: {:?}, not {status} {code}: {detail}", hostile.name, hostile.expected));
        }
        assert_eq!(active(&serve), before, "{}", hostile.name);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let peak = serve.peak_mib().unwrap();
    eprintln!("{} hostile filters; the host held at most {peak} MiB", all.len());
    assert!(peak < 1024, "the host held {peak} MiB");
    let (status, answer) = put(&serve, "good", &good().unwrap(), folder.path(), &[]);
    assert_eq!(status, 201, "{answer}");
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn a_refused_filter_leaves_a_failed_revision_and_a_line_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let serve = start(folder.path(), LIMITS);
    let before = active(&serve);
    let all = all().unwrap();
    let traps = all.iter().find(|h| h.name == "trap-in-evaluate").unwrap();
    assert_eq!(put(&serve, "mine", &traps.bytes, folder.path(), &[]).0, 422);
    assert_eq!(active(&serve), before);
    let (_, mine) = curl_json(&[&format!("{}/v1/policies/mine", serve.url)]).unwrap();
    assert_eq!(mine["revisions"][0]["state"], "failed", "{mine}");
    assert!(mine["revisions"][0]["reason"].as_str().unwrap().contains("unreachable"), "{mine}");
    let (_, audit) = curl_json(&[&format!("{}/v1/audit", serve.url)]).unwrap();
    assert_eq!(audit["changes"][0]["name"], "mine", "{audit}");
    assert!(audit["changes"][0]["detail"].as_str().unwrap().contains("unreachable"), "{audit}");
}

#[test]
fn a_component_that_is_too_large_is_refused_while_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let serve = start(folder.path(), "[policy]\nmax_mib = 1\n");
    let (status, answer) = put(&serve, "large", &vec![0; 3 << 20], folder.path(), &[]);
    assert_eq!((status, answer["code"].as_str()), (413, Some("too-large")), "{answer}");
}

#[test]
fn whoever_is_no_admin_uploads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = String::from(LIMITS);
    for role in ["submit", "read", "admin"] {
        let secret = folder.path().join(role);
        std::fs::write(&secret, format!("the secret of {role}\n")).unwrap();
        config += &format!(
            "[[credentials]]\nname = \"{role}\"\nroles = [\"{role}\"]\nsecret_file = \"{}\"\n",
            secret.display()
        );
    }
    let serve = start(folder.path(), &config);
    let policies = format!("{}/v1/policies", serve.url);
    let admin = "authorization: Bearer the secret of admin";
    let before = curl(&["-H", admin, &policies]).unwrap();
    assert_eq!(before.0, 200);
    let stored = files(&folder.path().join("data"));
    let hostile = all().unwrap().into_iter().take(3).map(|h| h.bytes);
    for bytes in hostile.chain([good().unwrap()]) {
        for role in ["submit", "read"] {
            let header = format!("authorization: Bearer the secret of {role}");
            let (status, answer) = put(&serve, "mine", &bytes, folder.path(), &[&header]);
            assert_eq!((status, answer["code"].as_str()), (403, Some("forbidden")), "{role}: {answer}");
            for verb in ["activate", "rollback"] {
                let url = format!("{policies}/baseline/{verb}");
                assert_eq!(curl(&["-X", "POST", "-H", &header, &url]).unwrap().0, 403, "{role} {verb}");
            }
            let url = format!("{policies}/baseline");
            assert_eq!(curl(&["-X", "DELETE", "-H", &header, &url]).unwrap().0, 403, "{role} DELETE");
        }
        assert_eq!(put(&serve, "mine", &bytes, folder.path(), &[]).0, 401);
    }
    assert_eq!(curl(&["-H", admin, &policies]).unwrap(), before);
    assert_eq!(curl(&["-H", admin, &format!("{policies}/mine")]).unwrap().0, 404);
    assert_eq!(files(&folder.path().join("data")), stored);
    let (status, answer) = put(&serve, "mine", &good().unwrap(), folder.path(), &[admin]);
    assert_eq!(status, 201, "{answer}");
}

/// Every file below a folder, by name; what is in the store's own files may move.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}
