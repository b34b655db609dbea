//! The example filters and the projects of `lanner policy new`: their own tests, built as their authors would, and judging
//! on a running host.
//!
//! JavaScript and Python need a registry; where a tool is missing, the test says which and skips.

use std::path::{Path, PathBuf};
use std::process::Command;

use lanner_tests::serve::{Serve, curl_json};
use lanner_tests::{lanner, root, run, skipped};
use serde_json::{Value, json};

/// Whether these programs are there; if not, says so.
fn have(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|p| Command::new(p).arg("--version").output().is_err());
    if let Some(program) = missing {
        skipped(test, &format!("{program} is not installed"));
    }
    missing.is_none()
}

fn ran(command: &mut Command) -> String {
    let output = run(command).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// `lanner policy build`; cargo shares what the guests' build has compiled.
fn build(project: &Path, out: &Path) -> String {
    let mut command = Command::new(lanner().unwrap());
    command.args(["policy", "build"]).arg(project).arg("--out").arg(out);
    let said = ran(command.env("CARGO_TARGET_DIR", root().join("target/guests")));
    eprint!("{said}");
    said
}

/// An example in a folder of its own below `target`, where npm and pip may write; kept, so that they fetch once.
fn laid_out(name: &str) -> PathBuf {
    let folder = root().join("target/filters").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    ran(Command::new("cp").arg("-r").arg(root().join("functions").join(name).join(".")).arg(&folder));
    ran(Command::new("cp").arg("-rT").arg(root().join("proto/wit")).arg(folder.join("wit")));
    folder
}

struct Host {
    serve: Serve,
    folder: tempfile::TempDir,
}

impl Host {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { serve: Serve::start(&folder.path().join("data"), &[]).unwrap(), folder }
    }

    /// Uploads with settings, and the right to suppress anything.
    fn put(&self, name: &str, component: &Path, settings: &Value) -> (u16, Value) {
        let spec = self.folder.path().join("spec.json");
        let grant = json!({ "percent": 100, "priority": "EMERGENCY" });
        std::fs::write(&spec, json!({ "settings": settings, "may_suppress_up_to": grant }).to_string())
            .unwrap();
        let spec = format!("spec=@{};type=application/json", spec.display());
        let module = format!("module=@{};type=application/wasm", component.display());
        let url = format!("{}/v1/policies/{name}", self.serve.url);
        curl_json(&["-X", "PUT", "-F", &spec, "-F", &module, &url]).unwrap()
    }

    /// The rules whose alerts a filter would suppress in the trial that every upload goes through.
    fn suppresses(&self, name: &str, component: &Path, settings: &Value) -> Vec<String> {
        let (status, answer) = self.put(name, component, settings);
        assert_eq!(status, 201, "{answer}");
        let changes = answer["trial"]["changes"].as_array().unwrap().iter();
        let mut rules: Vec<String> = changes
            .filter(|c| c["then"]["suppressed"] == true)
            .map(|c| c["rule"].as_str().unwrap().to_owned())
            .collect();
        rules.dedup();
        rules
    }

    fn refusal(&self, name: &str, component: &Path, settings: &Value) -> String {
        let (status, answer) = self.put(name, component, settings);
        assert_eq!((status, answer["code"].as_str()), (422, Some("filter-settings")), "{answer}");
        answer["detail"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_example_in_rust_sets_priorities_by_team() {
    let host = Host::start();
    let component = host.folder.path().join("severity.wasm");
    build(&root().join("functions/filter-severity"), &component);
    let settings = json!({ "teams": { "web": { "packages": ["font-*"], "priorities": { "Refused host": "critical" } } } });
    let (status, answer) = host.put("severity", &component, &settings);
    assert_eq!(
        (status, answer["revision"]["description"]["name"].as_str()),
        (201, Some("severity")),
        "{answer}"
    );
    let changes = answer["trial"]["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{answer}");
    assert_eq!(
        (&changes[0]["rule"], &changes[0]["then"]["priority"]),
        (&json!("Refused host"), &json!("CRITICAL"))
    );
    let refusal = host.refusal("severity", &component, &json!({ "teams": {} }));
    assert_eq!(refusal, "the filter refuses its settings: teams names 0 teams: name 1 to 16");
}

#[test]
fn rules_are_written_in_the_settings() {
    let host = Host::start();
    let component = host.folder.path().join("rules.wasm");
    build(&root().join("functions/filter-rules"), &component);
    let rule = |when: &str| json!({ "rules": [{ "when": when, "then": "suppress", "because": "x" }] });
    let when = "alert.rule == \"Refused host\" && alert.package.startsWith(\"font\") && alert.ancestors.exists(a, a == \"npm\")";
    assert_eq!(host.suppresses("rules", &component, &rule(when)), ["Refused host"]);
    let refusal = host.refusal("rules", &component, &rule("alert.rol == \"x\""));
    assert!(refusal.contains("rules[0].when:1:6: alert has no rol"), "{refusal}");
    // As deep as is allowed: a filter's stack is small.
    let deep = format!("{}alert.count{} >= 0", "(".repeat(12), ")".repeat(12));
    let (status, answer) = host.put("rules", &component, &rule(&deep));
    assert_eq!(status, 201, "{answer}");
    let long = format!("{}1 > 0", "1+".repeat(50));
    let (status, answer) = host.put("rules", &component, &rule(&long));
    assert_eq!(status, 201, "{answer}");
}

#[test]
fn the_example_in_javascript_allows_hosts_until_a_day() {
    if !have("the_example_in_javascript_allows_hosts_until_a_day", &["node", "npm"]) {
        return;
    }
    let project = laid_out("filter-hosts");
    ran(Command::new("node").arg("--test").arg("filter.test.js").current_dir(&project));
    let host = Host::start();
    let component = host.folder.path().join("hosts.wasm");
    build(&project, &component);
    let until = |day: &str| json!({ "hosts": [{ "host": "cdn.invalid", "until": day, "because": "fonts" }] });
    assert_eq!(host.suppresses("hosts", &component, &until("9999-12-31")), ["Refused host"]);
    assert_eq!(host.suppresses("hosts", &component, &until("2020-12-31")), [""; 0]);
    let refusal = host.refusal("hosts", &component, &until("tomorrow"));
    assert!(refusal.contains("hosts[0].until: \"tomorrow\" is no day: give YYYY-MM-DD"), "{refusal}");
}

#[test]
fn the_example_in_python_knows_what_was_seen_before() {
    if !have("the_example_in_python_knows_what_was_seen_before", &["python3"]) {
        return;
    }
    let project = laid_out("filter-dedupe");
    ran(Command::new("python3").args(["-m", "unittest"]).current_dir(&project));
    let host = Host::start();
    let component = host.folder.path().join("dedupe.wasm");
    build(&project, &component);
    // Nothing of the trial was seen before.
    assert_eq!(host.suppresses("dedupe", &component, &json!({ "scans": 1, "never": "error" })), [""; 0]);
    let refusal = host.refusal("dedupe", &component, &json!({ "scans": 0, "never": "error" }));
    assert_eq!(refusal, "the filter refuses its settings: scans: give a whole number from 1 to 1000");
}

/// Writes a project, runs its test and builds it; the trial changes nothing, because no node makes files in memory there.
fn new_project(lang: &str, test: &[&str]) {
    let host = Host::start();
    let name = format!("new-{lang}");
    let mut command = Command::new(lanner().unwrap());
    ran(command.args(["policy", "new", &name, "--lang", lang]).current_dir(host.folder.path()));
    let project = host.folder.path().join(&name);
    let mut command = Command::new(test[0]);
    command.args(&test[1..]).current_dir(&project);
    ran(command.env("CARGO_TARGET_DIR", root().join("target/guests")));
    let component = host.folder.path().join("new.wasm");
    build(&project, &component);
    assert_eq!(host.suppresses(&name, &component, &json!({})), [""; 0]);
    let refusal = host.refusal(&name, &component, &json!({ "x": 1 }));
    assert_eq!(refusal, "the filter refuses its settings: this filter has no settings: give {}");
}

#[test]
fn a_new_project_in_rust_is_tested_built_and_taken() {
    new_project("rust", &["cargo", "test", "--quiet"]);
}

#[test]
fn a_new_project_in_javascript_is_tested_built_and_taken() {
    if have("a_new_project_in_javascript_is_tested_built_and_taken", &["node", "npm"]) {
        new_project("js", &["node", "--test", "filter.test.js"]);
    }
}

#[test]
fn a_new_project_in_python_is_tested_built_and_taken() {
    if have("a_new_project_in_python_is_tested_built_and_taken", &["python3"]) {
        new_project("python", &["python3", "-m", "unittest"]);
    }
}

#[test]
fn a_new_project_in_c_is_tested_built_and_taken() {
    if have("a_new_project_in_c_is_tested_built_and_taken", &["clang", "wasm-ld"]) {
        new_project("c", &["sh", "-c", "cc -Wall -Werror -o test test.c decide.c && ./test"]);
    }
}
