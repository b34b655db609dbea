//! A function of many shapes, and a stage for it: an app, a store, and a registry that does what a test says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use lanner::blob::FileBlob;
use lanner::engine::{Apart, Engine, Wasm};
use lanner::function::{CanarySettings, FunctionError, Functions, Settings};
use lanner::http::{Body, Caller};
use lanner::scan::ports::{Job, Left, ReportSender, Runner};
use lanner::scan::{Ports, Reach, Scans};
use lanner::source::{Local, Origin, OriginError, Origins, Source};
use lanner_core::{Name, Owner};
use tokio_util::sync::CancellationToken;

use crate::puppet::{Bench, built};

/// The function that answers with these at most 16 bytes, and misbehaves as they begin.
pub(crate) fn shaped(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let wasm = BUILT.get_or_init(|| std::fs::read(built("shifty", "wasm32-wasip2")).unwrap());
    let at = wasm.windows(7).position(|w| w == b"SHIFTY:").unwrap() + 7;
    let mut wasm = wasm.clone();
    wasm[at..at + 16].copy_from_slice(format!("{name:<16}").as_bytes());
    wasm
}

/// What the registry holds, and how it is today.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    inner: Arc<Mutex<Held>>,
}

#[derive(Clone, Default)]
struct Held {
    wasm: Vec<u8>,
    away: bool,
    /// The pull or the signature is refused so.
    pull: Option<&'static str>,
    signature: Option<&'static str>,
    asked: u64,
}

impl Shelf {
    pub(crate) fn put(&self, wasm: Vec<u8>) {
        *self.inner.lock().unwrap() = Held { wasm, ..Held::default() };
    }

    pub(crate) fn refuse_pull(&self, why: &'static str) {
        self.inner.lock().unwrap().pull = Some(why);
    }

    pub(crate) fn refuse_signature(&self, why: &'static str) {
        self.inner.lock().unwrap().signature = Some(why);
    }

    pub(crate) fn away(&self, away: bool) {
        self.inner.lock().unwrap().away = away;
    }

    pub(crate) fn asked(&self) -> u64 {
        self.inner.lock().unwrap().asked
    }

    fn today(&self) -> Result<Held, OriginError> {
        let mut held = self.inner.lock().unwrap();
        held.asked += 1;
        if held.away {
            return Err(OriginError::Away { what: "the registry is away".into(), source: None });
        }
        Ok(held.clone())
    }
}

impl Origin for Shelf {
    fn resolve(&self, _: Source) -> BoxFuture<'_, Result<String, OriginError>> {
        // A manifest's digest is not the component's.
        async move { Ok(digest(digest(&self.today()?.wasm).as_bytes())) }.boxed()
    }

    fn pull(&self, _: Source, _: String) -> BoxFuture<'_, Result<Wasm, OriginError>> {
        async move {
            let held = self.today()?;
            held.pull.map_or_else(|| Ok(Wasm::new(held.wasm)), |why| Err(OriginError::bad(why)))
        }
        .boxed()
    }

    fn verify(&self, _: Source, _: String) -> BoxFuture<'_, Result<Option<String>, OriginError>> {
        async move { self.today()?.signature.map_or(Ok(None), |why| Err(OriginError::bad(why))) }.boxed()
    }

    fn trusts(&self, _: &Source, _: Option<&str>) -> bool {
        self.inner.lock().unwrap().signature.is_none()
    }
}

struct Idle;

impl Runner for Idle {
    fn run(&self, _: Job, _: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        async move { cancel.cancelled().await }.boxed()
    }

    fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) functions: Functions,
    pub(crate) shelf: Shelf,
}

pub(crate) const REGISTRY: &str = "{ registry = \"r.example\", package = \"team:c\", version = \"1\" }";
pub(crate) const NO_CANARY: CanarySettings = CanarySettings { percent: 0, time: Duration::ZERO, requests: 0 };

/// One component, asked for everything.
pub(crate) fn app(folder: &Path, source: &str, rest: &str) {
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/...\"\n\
         component = \"c\"\n[component.c]\nsource = {source}\n[component.c.tool.lanner]\nreuse = 64\n{rest}\n"
    );
    std::fs::write(folder.join("spin.toml"), text).unwrap();
}

impl Stage {
    pub(crate) async fn open(
        folder: &Path,
        shelf: &Shelf,
        canary: CanarySettings,
    ) -> Result<Self, FunctionError> {
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        left(&data).await;
        let bench = Bench::new(&data).await;
        let blob = FileBlob::open(data.join("s"), lanner_archive::Limits::default(), 1 << 20).unwrap();
        let (store, filter) = (bench.store.clone(), Arc::new(bench.policy));
        let ports = Ports { store: store.clone(), blob: Arc::new(blob), runner: Arc::new(Idle), filter };
        let max_age = Duration::from_secs(60);
        let limits = lanner::scan::Settings {
            queue: 1,
            parallel: 1,
            keep: 1,
            max_age,
            patience: lanner::scan::Patience::default(),
            witness: None,
        };
        let engine = Engine::new(Some(&data.join("cache"))).unwrap();
        let settings = Settings {
            folder: data.join("functions"),
            apart: Apart {
                program: env!("CARGO_BIN_EXE_lanner").into(),
                memory_bytes: 4 << 30,
                cpu: Duration::from_secs(30),
            },
            max_bytes: 8 << 20,
            keep: 5,
            poll: None,
            canary,
            sources: Default::default(),
        };
        let local = Local { max_bytes: 8 << 20, signed_only: vec![] };
        let origins = Origins { local: Arc::new(local), registry: Arc::new(shelf.clone()) };
        let app = folder.join("spin.toml");
        let scans = Scans::new(ports, limits);
        let functions = Functions::open(&engine, &scans, Some(&app), settings, store, origins).await?;
        Ok(Self { folder: folder.to_owned(), functions, shelf: shelf.clone() })
    }

    /// Status and text of one GET.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        get(&self.functions, path).await
    }

    /// The revisions' numbers and states, oldest first.
    pub(crate) fn states(&self) -> Vec<(u64, &'static str)> {
        let (_, revisions) = self.functions.one(&name()).unwrap();
        revisions.iter().map(|r| (r.number, r.state.as_str())).collect()
    }
}

pub(crate) async fn get(functions: &Functions, path: &str) -> (StatusCode, String) {
    let request = Request::get(format!("http://h{path}")).body(Body::default()).unwrap();
    let caller = Caller { owner: Owner::local(), reach: Reach::All, request_id: "t".into() };
    let answer = functions.handle(request, caller).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default();
    (status, String::from_utf8(body).unwrap())
}

pub(crate) fn name() -> Name {
    "c".parse().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    Wasm::new(bytes.to_vec()).digest().to_owned()
}

/// Waits for the one before to leave the data: instances that wait for requests hold it until they have noticed.
async fn left(data: &Path) {
    let Ok(lock) = std::fs::File::options().write(true).open(data.join("lock")) else { return };
    for _ in 0..500 {
        if lock.try_lock().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} is not let go", data.display());
}
