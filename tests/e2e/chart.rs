//! The Helm chart from outside: what it renders, what it refuses and what it keeps closed. `install` has it on a real
//! cluster, `score` what kube-score says of it, `table` its README.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lanner_tests::{root, run, skipped};
use serde_json::Value;

mod install;
mod render;
pub(crate) mod score;
mod table;

/// Nothing, and the reason is printed, where it was not built.
pub(crate) fn helm(test: &str) -> Option<Helm> {
    let program = root().join("target/cluster/helm");
    if program.is_file() {
        return Some(Helm { program, kubeconfig: PathBuf::from("/dev/null") });
    }
    skipped(test, "target/cluster/helm is not there: run tests/cluster/build.sh");
    None
}

pub(crate) struct Helm {
    program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Helm {
    fn run(&self, args: &[&str]) -> Output {
        // What a person has configured for their own Helm is not ours to use.
        let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
        let nowhere = std::env::temp_dir().join("lanner-helm");
        run(Command::new(&self.program)
            .args(args)
            .envs(homes.map(|name| (name, nowhere.as_path())))
            .env("KUBECONFIG", &self.kubeconfig))
        .unwrap()
    }

    /// Its output, or what it said when it failed.
    pub(crate) fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.run(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn must(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|error| panic!("helm {args:?}: {error}"))
    }

    /// `helm template` of the chart in the namespace `lanner`, as text.
    fn template(&self, args: &[&str]) -> Result<String, String> {
        let chart = chart();
        let fixed = ["template", "lanner", chart.to_str().unwrap(), "-n", "lanner"];
        self.try_run(&[&fixed, args].concat())
    }

    fn objects(&self, args: &[&str]) -> Objects {
        let text = self.template(args).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("documents.yaml");
        std::fs::write(&file, text).unwrap();
        self.read(&file)
    }

    /// A file of YAML documents, by a chart that prints them as JSON.
    fn read(&self, file: &Path) -> Objects {
        let input = format!("documents={}", file.display());
        let reader = root().join("tests/chart/json");
        let json = self.must(&["template", "json", reader.to_str().unwrap(), "--set-file", &input]);
        Objects(
            json.lines()
                .filter_map(|l| l.strip_prefix("- "))
                .map(|l| serde_json::from_str(l).unwrap())
                .collect(),
        )
    }
}

struct Objects(Vec<Value>);

impl Objects {
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |o| o["kind"] == kind)
    }

    fn find<'a>(&'a self, kind: &'a str, name: &str) -> Option<&'a Value> {
        self.of(kind).find(|o| o["metadata"]["name"] == name)
    }

    fn one<'a>(&'a self, kind: &'a str, name: &str) -> &'a Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }
}

pub(crate) fn chart() -> PathBuf {
    root().join("charts/lanner")
}

/// What must be said at least.
const LEAST: [&str; 2] = ["--set", "image.repository=registry.example/lanner"];

fn everything() -> PathBuf {
    root().join("tests/chart/everything.yaml")
}

/// A values file of JSON, which is YAML.
pub(crate) fn values(folder: &Path, name: &str, values: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, values.to_string()).unwrap();
    path.display().to_string()
}
