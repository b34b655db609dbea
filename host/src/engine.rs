//! WebAssembly without product words: one engine, its limits, its clock, and compiled code kept by digest.
//!
//! Components come in as bytes and go out compiled; what they import and what they are for is the caller's business.
//! Compiling happens once for each digest and engine; loading what was kept is an `unsafe` act on bytes that must be
//! our own, so the cache is private to the user and every file is checked against a keyed digest before it is trusted.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, StoreLimits, StoreLimitsBuilder,
};

mod apart;
mod cache;
pub mod inspect;

pub use apart::{Apart, ApartError, main as compile_main};
use cache::Cache;

/// How long an epoch lasts: the grain of every CPU limit.
pub const EPOCH: Duration = Duration::from_millis(10);
/// Instances at the same time, over all components.
const INSTANCES: u32 = 600;

/// Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    cache: Option<Arc<Cache>>,
}

/// A component's bytes and their digest, which is taken once. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wasm {
    bytes: Bytes,
    /// `sha256:…`
    digest: Arc<str>,
}

/// What one instance may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: usize,
    /// CPU time of one call, in epochs.
    pub epochs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, epochs: 200 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the WebAssembly engine cannot start")]
    Start(#[source] wasmtime::Error),
    #[error("{name} is no WebAssembly component that this engine takes")]
    Component {
        name: String,
        #[source]
        source: wasmtime::Error,
    },
    #[error("{name}: {source}")]
    Apart {
        name: String,
        #[source]
        source: ApartError,
    },
}

impl Engine {
    /// `cache` is a folder for compiled code; without one, or with one that is not private, everything is compiled anew.
    pub fn new(cache: Option<&Path>) -> Result<Self, EngineError> {
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling()));
        let inner = wasmtime::Engine::new(&config).map_err(EngineError::Start)?;
        tick(&inner);
        let cache = cache.and_then(|folder| match Cache::open(folder, &inner) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
                None
            }
        });
        Ok(Self { inner, cache })
    }

    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Compiles a component, or loads it if this engine compiled the same bytes before.
    pub fn load(&self, name: &str, wasm: &Wasm) -> Result<Component, EngineError> {
        if let Some(component) = self.cache.as_ref().and_then(|c| c.get(&self.inner, wasm.hex())) {
            return Ok(component);
        }
        let compiled = Component::from_binary(&self.inner, wasm)
            .map_err(|source| EngineError::Component { name: name.to_owned(), source })?;
        if let Some(cache) = &self.cache {
            match compiled.serialize() {
                Ok(code) => cache.put(&code, wasm.hex()),
                Err(error) => tracing::warn!(%error, "compiled code could not be kept"),
            }
        }
        Ok(compiled)
    }

    /// The same for bytes that nobody vouches for: what has to be compiled is compiled apart.
    pub async fn load_apart(&self, name: &str, wasm: &Wasm, apart: &Apart) -> Result<Component, EngineError> {
        if let Some(component) = self.cache.as_ref().and_then(|c| c.get(&self.inner, wasm.hex())) {
            return Ok(component);
        }
        let name = || name.to_owned();
        let code = apart.compile(wasm).await.map_err(|source| EngineError::Apart { name: name(), source })?;
        // SAFETY: the code comes straight from our own child, made by the compiler of this very program.
        let component = unsafe { Component::deserialize(&self.inner, &code) }
            .map_err(|source| EngineError::Component { name: name(), source })?;
        if let Some(cache) = &self.cache {
            cache.put(&code, wasm.hex());
        }
        Ok(component)
    }
}

impl Wasm {
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes))).into();
        Self { bytes, digest }
    }

    /// `sha256:…`
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn hex(&self) -> &str {
        self.digest.strip_prefix("sha256:").unwrap_or(&self.digest)
    }
}

impl Deref for Wasm {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Limits {
    pub fn store(&self) -> StoreLimits {
        StoreLimitsBuilder::new()
            .memory_size(self.memory_bytes)
            .table_elements(20_000)
            // A Python filter is about as many modules as it has libraries.
            .instances(64)
            .memories(10)
            .tables(20)
            .trap_on_grow_failure(true)
            .build()
    }
}

/// What compiled code depends on: the same here and in the child that compiles apart.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).wasm_component_model_async(true).epoch_interruption(true);
    config
}

fn pooling() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 4)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 4)
        .total_stacks(INSTANCES * 2)
        .max_memory_size(256 << 20)
        // Pages of a finished instance that are kept for the next one: fewer system calls and faults for each request.
        .linear_memory_keep_resident(if PoolingAllocationConfig::is_pagemap_scan_available() {
            // The kernel (6.7 or later) tells which pages were written, and only those count.
            1 << 20
        } else {
            256 << 10
        })
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(16);
    pool
}

/// Advances the engine's epochs for as long as anything compiled by it can run, whoever holds that.
///
/// A late tick is skipped, not made up for: two at once would halve the time of whoever runs right now.
fn tick(engine: &wasmtime::Engine) {
    let engine = engine.weak();
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    };
    // Without a clock a runaway guest could not be stopped; but a machine that has no thread left runs nothing.
    let _ = std::thread::Builder::new().name("epochs".into()).spawn(run);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store, Trap};

    use super::*;

    /// `(module (func (export "f") (loop (br 0))))`
    const ENDLESS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    /// Functions and filters keep what was compiled, and not the engine's own handle.
    #[test]
    fn the_clock_goes_on_when_the_handle_is_gone() {
        let engine = Engine::new(None).unwrap();
        let wasmtime = engine.wasmtime().clone();
        drop(engine);
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let module = Module::from_binary(&wasmtime, ENDLESS).unwrap();
            let mut store = Store::new(&wasmtime, ());
            store.set_epoch_deadline(3);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let result = runtime.block_on(async {
                let instance = Instance::new_async(&mut store, &module, &[]).await?;
                instance.get_typed_func::<(), ()>(&mut store, "f")?.call_async(&mut store, ()).await
            });
            ended.send(result.unwrap_err().downcast::<Trap>().ok()).unwrap();
        });
        assert_eq!(end.recv_timeout(Duration::from_secs(20)).unwrap(), Some(Trap::Interrupt));
    }
}
