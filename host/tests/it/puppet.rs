//! The filter that does what its settings say, built once; and a policy on a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lanner::engine::{Apart, Engine, Wasm};
use lanner::policy::{Configured, Module, Policy, PolicyError, Refusal, Settings, Spec, Upload, Uploaded};
use lanner::scan::ports::{About, Filter, Judge, Judged, Seen};
use lanner::source::{Local, Origins};
use lanner::store::SqliteStore;
use lanner_core::{Alert, Name, Priority, Process, ScanId};
use serde_json::Value;

/// The component.
pub(crate) fn component() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let module = std::fs::read(built("puppet", "wasm32-unknown-unknown")).unwrap();
        wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    })
}

/// Builds a guest of the tests; where its module or component is.
pub(crate) fn built(package: &str, triple: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = root.join("target/guests");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root.join("tests/guests")).args(["build", "--release", "--locked", "--quiet"]);
    cargo.args(["--package", package, "--target", triple, "--target-dir"]).arg(&target);
    let status = cargo.env_remove("CARGO_TARGET_DIR").status().unwrap();
    assert!(status.success(), "the guest was not built: rustup target add {triple}");
    target.join(triple).join("release").join(format!("{package}.wasm"))
}

/// The same code under another digest: an empty custom section of this name at the end.
pub(crate) fn variant(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [component(), &[0, length + 1, length], name.as_bytes()].concat()
}

pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) store: Arc<SqliteStore>,
}

pub(crate) fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.join("components"),
        apart: Apart {
            program: env!("CARGO_BIN_EXE_lanner").into(),
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(30),
        },
        max_bytes: 1 << 20,
        keep: 3,
        may_suppress_up_to: Default::default(),
        trial_scans: 5,
        baseline: false,
        poll: None,
    }
}

impl Bench {
    pub(crate) async fn new(folder: &Path) -> Self {
        Self::with(folder, settings(folder)).await
    }

    pub(crate) async fn with(folder: &Path, settings: Settings) -> Self {
        let origins = Origins::local(Local { max_bytes: 1 << 20, signed_only: vec![] });
        Self::open(folder, settings, origins, &[]).await.unwrap()
    }

    pub(crate) async fn open(
        folder: &Path,
        settings: Settings,
        origins: Origins,
        configured: &[Configured],
    ) -> Result<Self, PolicyError> {
        let engine = Engine::new(Some(&folder.join("cache"))).unwrap();
        let store = Arc::new(SqliteStore::open(folder).unwrap());
        let policy =
            Policy::open(&engine, settings, store.clone(), store.clone(), origins, configured).await?;
        Ok(Self { folder: folder.to_owned(), policy, store })
    }

    pub(crate) async fn upload(&self, name: &str, wasm: &[u8], spec: Spec) -> Result<Uploaded, Refusal> {
        let module = Module::Bytes(Wasm::new(wasm.to_vec()));
        let upload = Upload { name: name.parse().unwrap(), module, spec, by: "me".into(), dry_run: false };
        self.policy.upload(upload).await
    }

    pub(crate) fn session(&self) -> Box<dyn Judge> {
        self.policy.session(about())
    }

    pub(crate) async fn judge(&self, rules: &[&str]) -> Judged {
        self.session().judge(alerts(rules)).await
    }
}

pub(crate) fn about() -> About {
    let seen: Seen = [(alerts(&["r"])[0].fingerprint(), 4)].into();
    About { scan: ScanId::new(1, [1; 10]), manager: "npm".into(), subject: "a".into(), seen }
}

pub(crate) fn spec(settings: Value) -> Spec {
    Spec { settings: Some(settings), ..Spec::default() }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// One alert for each rule.
pub(crate) fn alerts(rules: &[&str]) -> Vec<Alert> {
    let alert = |(id, rule): (u64, &&str)| Alert {
        id,
        time: 1,
        last_time: 1,
        count: 1,
        rule: (*rule).into(),
        priority: Priority::Warning,
        output: "o".into(),
        output_fields: [("fd.name".to_owned(), "/x".into())].into(),
        tags: vec![],
        source: "syscall".into(),
        hostname: "h".into(),
        sensor: "builtin".into(),
        also_seen_by: vec![],
        ancestry: vec![Process { pid: 2, ..Process::default() }, Process { pid: 1, ..Process::default() }],
        package: None,
    };
    (1..).zip(rules).map(alert).collect()
}
