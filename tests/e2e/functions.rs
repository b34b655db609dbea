//! Functions that misbehave, and functions that ask for what they were not granted.

use std::path::{Path, PathBuf};
use std::process::Command;

use lanner_tests::serve::{Serve, curl, curl_json};
use lanner_tests::{lanner, root, run};

/// The naughty guest, built once.
fn naughty() -> PathBuf {
    let target = root().join("target/guests");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root().join("tests/guests")).args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--target",
        "wasm32-wasip2",
    ]);
    let status = cargo.arg("--target-dir").arg(&target).env_remove("CARGO_TARGET_DIR").status().unwrap();
    assert!(status.success(), "the guest was not built: rustup target add wasm32-wasip2");
    target.join("wasm32-wasip2/release/naughty.wasm")
}

fn app(folder: &Path, component: &Path, grants: &str) -> PathBuf {
    let path = folder.join("spin.toml");
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"c\"\n\
         [component.c]\nsource = {:?}\n[component.c.tool.lanner]\n{grants}\n",
        component.display().to_string()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_function_that_misbehaves_gets_a_problem_and_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path(), &naughty(), "reuse = 8\nmemory_mib = 16\ntimeout_ms = 5000");
    let serve = Serve::start(&folder.path().join("data"), &["--app", app.to_str().unwrap()]).unwrap();
    let get = |path: &str| curl_json(&[&format!("{}{path}", serve.url)]).unwrap();
    let good = || assert_eq!(curl(&[&format!("{}/good", serve.url)]).unwrap(), (200, "good".to_owned()));
    good();
    for (path, statuses) in [("/trap", [500, 500]), ("/memory", [500, 500]), ("/loop", [500, 504])] {
        let (status, problem) = get(path);
        assert!(statuses.contains(&status), "{path}: {status} {problem}");
        assert!(problem["code"].as_str().unwrap().starts_with("function-"), "{path}: {problem}");
        good();
    }
    assert_eq!(curl(&[&format!("{}/outbound", serve.url)]).unwrap().1, "nothing");
    assert_eq!(serve.stop().unwrap(), Some(0));
}

#[test]
fn an_interface_that_was_not_granted_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let submit = root().join("target/guests/submit.wasm");
    let refusal = |grants: &str| {
        let app = app(folder.path(), &submit, grants);
        let mut serve = Command::new(lanner().unwrap());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"]);
        let output = run(serve.arg(folder.path().join("data")).arg("--app").arg(app)).unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refusal("capabilities = [\"jobs\"]");
    assert!(
        text.contains(
            "component c imports lanner:platform/sources@0.1.0, which is not granted: add \"sources\""
        ),
        "{text}"
    );
    assert!(refusal("capabilities = [\"job\"]").contains("is no manifest that can be served"));
}
