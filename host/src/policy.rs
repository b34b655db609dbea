//! The filters in force: loads them, asks them about alerts in batches, and overrules them when they fail.
//!
//! Each batch meets a fresh instance, so no state of one scan can leak into the next and a trap costs one batch. What a
//! filter answers is checked: unknown alerts, too few or too many decisions, a suppression without a reason make the
//! whole answer nonsense; then every alert of the batch is kept and the failure recorded. Filters import nothing but
//! logging, so stored alerts can be judged again.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanner_core::{Alert, FilterFailure, JudgedAlert};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Store, StoreLimits};

use crate::engine::{Engine, EngineError, Limits};
use crate::scan::ports::{Filter, Judged};

mod convert;

mod generated {
    wasmtime::component::bindgen!({
        world: "alert-filter",
        path: "../proto/wit",
        exports: { default: async },
        require_store_data_send: true,
        wasmtime_crate: wasmtime,
    });
}

use generated::lanner::platform::logging;
use generated::{AlertFilter, AlertFilterPre};

/// Alerts in one call.
const BATCH: usize = 256;
const SETTINGS: &str = "{}";
const BASELINE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/filter-baseline.wasm"));

/// The filters, in the order in which they are asked.
#[derive(Clone)]
pub struct Policy {
    filters: Arc<[Loaded]>,
}

struct Loaded {
    name: String,
    digest: String,
    engine: wasmtime::Engine,
    pre: AlertFilterPre<Data>,
    limits: Limits,
}

struct Data {
    filter: String,
    limits: StoreLimits,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "the filter {name} imports {interface}; a filter may import lanner:platform/logging and nothing else"
    )]
    Import { name: String, interface: String },
    #[error("the filter {name} does not fit the world alert-filter")]
    World {
        name: String,
        #[source]
        source: wasmtime::Error,
    },
    #[error("the filter {0} cannot be read")]
    Read(String, #[source] std::io::Error),
    #[error("the filter {0} refuses its settings: {1}")]
    Settings(String, String),
}

impl Policy {
    /// The built-in filter, or those at these paths instead.
    pub async fn load(engine: &Engine, paths: &[impl AsRef<Path>]) -> Result<Self, PolicyError> {
        let mut filters = Vec::new();
        for path in paths {
            let name =
                path.as_ref().file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let wasm =
                std::fs::read(path).map_err(|e| PolicyError::Read(path.as_ref().display().to_string(), e))?;
            filters.push(Loaded::new(engine, name, &wasm).await?);
        }
        if paths.is_empty() {
            filters.push(Loaded::new(engine, "baseline".into(), BASELINE).await?);
        }
        Ok(Self { filters: filters.into() })
    }

    async fn judge(&self, alerts: Vec<Alert>) -> Judged {
        let mut judged = Judged::default();
        let mut rest = alerts.into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch: Vec<JudgedAlert> = rest.by_ref().take(BATCH).map(JudgedAlert::unjudged).collect();
            for filter in self.filters.iter() {
                if let Err(reason) = filter.decide(&mut batch).await {
                    judged.failures.push(FilterFailure {
                        filter: filter.name.clone(),
                        digest: filter.digest.clone(),
                        reason,
                        alerts: batch.len() as u64,
                    });
                }
            }
            judged.alerts.extend(batch);
        }
        judged
    }
}

impl Filter for Policy {
    fn judge(&self, alerts: Vec<Alert>) -> BoxFuture<'static, Judged> {
        let policy = self.clone();
        async move { Self::judge(&policy, alerts).await }.boxed()
    }
}

impl Loaded {
    async fn new(engine: &Engine, name: String, wasm: &[u8]) -> Result<Self, PolicyError> {
        let loaded = engine.load(&name, wasm)?;
        for (interface, _) in loaded.component.component_type().imports(engine.wasmtime()) {
            let own = interface.strip_prefix("lanner:platform/").and_then(|i| i.split('@').next());
            if !matches!(own, Some("logging" | "types")) {
                return Err(PolicyError::Import { name, interface: interface.to_owned() });
            }
        }
        let world = |source| PolicyError::World { name: name.clone(), source };
        let mut linker = Linker::new(engine.wasmtime());
        AlertFilter::add_to_linker::<_, HasSelf<Data>>(&mut linker, |data| data).map_err(world)?;
        let pre = linker.instantiate_pre(&loaded.component).and_then(AlertFilterPre::new).map_err(world)?;
        // Two seconds of CPU time for a batch; the reference filter takes less than a millisecond.
        let limits = Limits { memory_bytes: 32 << 20, epochs: 200 };
        let filter = Self {
            name: name.clone(),
            digest: loaded.digest,
            engine: engine.wasmtime().clone(),
            pre,
            limits,
        };
        match filter.validate().await {
            Ok(Ok(())) => Ok(filter),
            Ok(Err(refusal)) => Err(PolicyError::Settings(name, convert::shown(&refusal))),
            Err(source) => Err(PolicyError::World { name, source }),
        }
    }

    fn store(&self) -> Store<Data> {
        let data = Data { filter: self.name.clone(), limits: self.limits.store() };
        let mut store = Store::new(&self.engine, data);
        store.limiter(|data| &mut data.limits);
        store.set_epoch_deadline(self.limits.epochs);
        store
    }

    async fn validate(&self) -> wasmtime::Result<Result<(), String>> {
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await?;
        instance.call_validate_settings(&mut store, SETTINGS).await
    }

    /// Adds this filter's decisions to a batch, or says why they do not count.
    async fn decide(&self, batch: &mut [JudgedAlert]) -> Result<(), String> {
        let mut store = self.store();
        let asked: Vec<_> = batch.iter().map(|j| convert::alert(&j.alert)).collect();
        let call = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            instance.call_evaluate(&mut store, &asked, SETTINGS).await
        };
        let decisions = call.await.map_err(|error| failure(&error))?;
        convert::check(batch, &decisions)?;
        for decision in decisions {
            if let Some(judged) = batch.iter_mut().find(|j| j.alert.id == decision.id) {
                judged.decisions.push(convert::decision(decision, &self.name, &self.digest));
            }
        }
        Ok(())
    }
}

fn failure(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::Interrupt) => "the filter took too much CPU time".into(),
        Some(trap) => format!("the filter trapped: {trap}"),
        None => convert::shown(&format!("the filter failed: {}", error.root_cause())),
    }
}

impl generated::lanner::platform::types::Host for Data {}

impl logging::Host for Data {
    fn log(&mut self, level: logging::Level, message: String) {
        let message = convert::shown(&message);
        tracing::debug!(filter = self.filter, ?level, message, "filter");
    }
}

#[cfg(test)]
mod tests {
    use lanner_core::{Action, Priority, Process, Responsible};

    use super::*;

    fn alert(id: u64, tags: &[&str]) -> Alert {
        let exe = "/home/u/app/node_modules/addon/build/Release/probe";
        Alert {
            id,
            time: 1,
            last_time: 1,
            count: 1,
            rule: "r".into(),
            priority: Priority::Warning,
            output: String::new(),
            output_fields: [("proc.exepath".to_owned(), exe.into())].into(),
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            source: "syscall".into(),
            hostname: "h".into(),
            sensor: "builtin".into(),
            ancestry: vec![
                Process { name: "probe".into(), ..Process::default() },
                Process { name: "make".into(), ..Process::default() },
            ],
            package: Some(Responsible { name: "addon".into(), folder: "node_modules/addon".into() }),
        }
    }

    #[tokio::test]
    async fn the_baseline_filter_suppresses_a_native_build_with_a_reason_and_never_a_credential() {
        let engine = Engine::new(None).unwrap();
        let policy = Policy::load(&engine, &[] as &[&str]).await.unwrap();
        let alerts = vec![
            alert(1, &["dropped_execution"]),
            alert(2, &["dropped_execution", "credentials"]),
            alert(3, &[]),
        ];
        let judged = policy.judge(alerts).await;
        assert_eq!(judged.failures, []);
        assert_eq!(
            judged.alerts.iter().map(JudgedAlert::suppressed).collect::<Vec<_>>(),
            [true, false, false]
        );
        let decision = &judged.alerts[0].decisions[0];
        assert_eq!((decision.action, decision.filter.as_str()), (Action::Suppress, "baseline"));
        assert!(decision.digest.starts_with("sha256:") && !decision.reason.is_empty());
    }

    #[tokio::test]
    async fn more_alerts_than_a_batch_are_all_judged_in_order() {
        let engine = Engine::new(None).unwrap();
        let policy = Policy::load(&engine, &[] as &[&str]).await.unwrap();
        let judged = policy.judge((1..=600).map(|id| alert(id, &[])).collect()).await;
        assert!(judged.alerts.iter().map(|a| a.alert.id).eq(1..=600));
        assert!(judged.alerts.iter().all(|a| a.decisions.len() == 1));
    }

    #[tokio::test]
    async fn what_is_no_filter_is_refused() {
        let engine = Engine::new(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        std::fs::write(&path, b"not wasm").unwrap();
        let error = Policy::load(&engine, &[&path]).await.err().unwrap().to_string();
        assert_eq!(error, "x is no WebAssembly component that this engine takes");
        std::fs::write(&path, b"\0asm\x0d\0\x01\0").unwrap();
        let error = Policy::load(&engine, &[&path]).await.err().unwrap().to_string();
        assert_eq!(error, "the filter x does not fit the world alert-filter");
    }
}
