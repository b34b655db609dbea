//! One revision that can be asked: compiled, linked, with its limits, its settings and its health.
//!
//! Each call meets a fresh instance, so no state of one scan can leak into the next and a trap costs one batch. What a
//! filter answers is checked; what it may not do is stopped by limits on CPU time, memory, and the amount that it may
//! make the host copy.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lanner_core::revision::Description;
use lanner_core::{Decision, Revision};
use serde_json::Value;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Store, StoreLimits, Trap, UpdateDeadline};

use super::convert::{self, shown};
use super::generated::exports::lanner::platform::filter as wit;
use super::generated::lanner::platform::{logging, types};
use super::generated::{AlertFilter, AlertFilterPre};
use super::health::{Health, IN_A_ROW};
use crate::engine::{EPOCH, Engine, Limits};

/// CPU time for a batch: the built-in filter takes less than a millisecond.
const LIMITS: Limits = Limits { memory_bytes: 64 << 20, epochs: 200 };
/// Bytes that an answer may make the host copy: 256 decisions with the longest reason and all tags are a fourth.
const MAX_COPIED: usize = 2 << 20;
const MAX_SCHEMA: usize = 64 * 1024;
/// Log lines of one call.
const MAX_LINES: u32 = 20;

pub(super) struct Member {
    pub(super) revision: Revision,
    settings: String,
    engine: wasmtime::Engine,
    /// Or why it cannot be asked.
    code: Result<AlertFilterPre<Data>, String>,
    health: Mutex<Health>,
}

/// What one instance has.
pub(super) struct Data {
    filter: String,
    limits: StoreLimits,
    epochs_run: u64,
    lines: u32,
}

impl Member {
    /// Links a component; the error says what of the world it lacks.
    pub(super) fn new(engine: &Engine, component: &Component, revision: Revision) -> Result<Self, String> {
        let code = link(engine, component).map_err(|e| shown(&format!("{e:#}")))?;
        Ok(Self::with(engine, revision, Ok(code)))
    }

    /// One that cannot be asked: its alerts are kept, and no scan is clean without it.
    pub(super) fn broken(engine: &Engine, revision: Revision, why: String) -> Self {
        Self::with(engine, revision, Err(why))
    }

    fn with(engine: &Engine, revision: Revision, code: Result<AlertFilterPre<Data>, String>) -> Self {
        let settings = revision.spec.settings.to_string();
        Self { revision, settings, engine: engine.wasmtime().clone(), code, health: Mutex::default() }
    }

    /// One decision for each alert of the batch, in the batch's order; or why its answer does not count.
    pub(super) async fn ask(&self, batch: &wit::Batch) -> Result<Vec<Decision>, String> {
        let mut store = self.store();
        let decisions = async {
            let instance = self.code()?.instantiate_async(&mut store).await.map_err(|e| failure(&e))?;
            let call = instance.lanner_platform_filter().call_evaluate(&mut store, batch, &self.settings);
            call.await.map_err(|e| failure(&e))
        };
        convert::decisions(batch, decisions.await?, &self.revision)
    }

    pub(super) async fn describe(&self) -> Result<Description, String> {
        let mut store = self.store();
        let instance = self.code()?.instantiate_async(&mut store).await.map_err(|e| failure(&e))?;
        let call = instance.lanner_platform_filter().call_describe(&mut store).await;
        let said = call.map_err(|e| failure(&e))?;
        let settings_schema = match said.settings_schema.as_str() {
            "" => Value::Null,
            text if text.len() > MAX_SCHEMA => {
                return Err(format!("its settings schema has {} bytes, more than {MAX_SCHEMA}", text.len()));
            }
            text => serde_json::from_str(text).map_err(|e| format!("its settings schema is no JSON: {e}"))?,
        };
        Ok(Description {
            name: shown(&said.name),
            version: shown(&said.version),
            author: shown(&said.author),
            summary: shown(&said.summary),
            settings_schema,
        })
    }

    /// The outer error: the filter failed; the inner one: it refuses its settings.
    pub(super) async fn validate(&self) -> Result<Result<(), String>, String> {
        let mut store = self.store();
        let instance = self.code()?.instantiate_async(&mut store).await.map_err(|e| failure(&e))?;
        let call = instance.lanner_platform_filter().call_validate_settings(&mut store, &self.settings);
        Ok(call.await.map_err(|e| failure(&e))?.map_err(|refusal| shown(&refusal)))
    }

    /// Notes how a batch went; whether the filter is to be taken out now.
    pub(super) fn note(&self, went_well: bool) -> bool {
        let mut health = self.health();
        if went_well {
            health.succeeded();
            return false;
        }
        health.failed(Instant::now())
    }

    /// Why it is not asked at the moment.
    pub(super) fn out(&self) -> Option<String> {
        let out = self.health().is_out();
        out.then(|| {
            format!("the filter is out of service after {IN_A_ROW} failures in a row; it is tried again")
        })
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn code(&self) -> Result<&AlertFilterPre<Data>, String> {
        self.code.as_ref().map_err(Clone::clone)
    }

    fn store(&self) -> Store<Data> {
        let filter = self.revision.name.to_string();
        let data = Data { filter, limits: LIMITS.store(), epochs_run: 0, lines: 0 };
        let mut store = Store::new(&self.engine, data);
        store.limiter(|data| &mut data.limits);
        store.set_hostcall_fuel(MAX_COPIED);
        // A filter that takes its time gives way to others in each epoch, and is stopped when it had enough of them.
        store.epoch_deadline_callback(|mut store| {
            let data = store.data_mut();
            data.epochs_run += 1;
            if data.epochs_run > LIMITS.epochs {
                Err(Trap::Interrupt.into())
            } else {
                Ok(UpdateDeadline::Yield(1))
            }
        });
        store.set_epoch_deadline(1);
        store
    }
}

fn link(engine: &Engine, component: &Component) -> wasmtime::Result<AlertFilterPre<Data>> {
    let mut linker = Linker::new(engine.wasmtime());
    AlertFilter::add_to_linker::<_, HasSelf<Data>>(&mut linker, |data| data)?;
    AlertFilterPre::new(linker.instantiate_pre(component)?)
}

fn failure(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            format!(
                "the filter took more than {} ms of CPU time",
                u128::from(LIMITS.epochs) * EPOCH.as_millis()
            )
        }
        Some(trap) => {
            let text = trap.to_string();
            format!("the filter trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text))
        }
        None => shown(&format!("the filter failed: {}", error.root_cause())),
    }
}

impl types::Host for Data {}

impl logging::Host for Data {
    fn log(&mut self, level: logging::Level, message: String) {
        self.lines += 1;
        if self.lines <= MAX_LINES {
            let message = shown(&message);
            tracing::debug!(filter = self.filter, ?level, message, "filter");
        }
    }
}
