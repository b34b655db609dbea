//! What functions may ask of the host: each capability is the WIT glue of one interface, and calls one verb of `scan`.
//!
//! A function's store holds on whose behalf it runs; no interface has a way to say otherwise. What a component imports
//! must be granted by name before it is linked.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, StoreLimits};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::engine::inspect::Interface;
use crate::http::Caller;
use crate::manifest::Capability;
use crate::scan::Scans;
use crate::scan::ports::StoredSource;

mod alerts;
mod jobs;
mod logging;
mod outbound;
mod sources;
mod types;
pub(crate) mod view;

mod generated {
    wasmtime::component::bindgen!({
        world: "function",
        path: "../proto/wit",
        require_store_data_send: true,
        wasmtime_crate: wasmtime,
    });
}

/// A function's store: everything that belongs to one instance.
pub struct State {
    pub(crate) component: Arc<str>,
    pub(crate) scans: Scans,
    /// On whose behalf the current request is; nothing between requests.
    pub(crate) caller: Option<Caller>,
    /// The current request is a trial: whatever would change something is refused.
    pub(crate) dry: bool,
    /// Sources stored during the current request, by handle.
    pub(crate) sources: HashMap<u64, StoredSource>,
    pub(crate) limits: StoreLimits,
    /// Epochs in which the guest ran during this request; time spent waiting for the host is not among them.
    pub(crate) epochs_run: u64,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: outbound::Denied,
}

impl State {
    pub fn new(component: Arc<str>, scans: Scans, limits: StoreLimits) -> Self {
        Self {
            component,
            scans,
            caller: None,
            dry: false,
            sources: HashMap::new(),
            limits,
            epochs_run: 0,
            table: ResourceTable::new(),
            // No arguments, no environment, no folder, no socket.
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            hooks: outbound::Denied,
        }
    }

    /// Begins a request: nothing of the one before is left.
    pub fn begin(&mut self, caller: Caller, dry: bool) {
        self.dry = dry;
        self.sources.clear();
        self.epochs_run = 0;
        self.caller = Some(caller);
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// A component that asks for what it may not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GrantError {
    #[error(
        "component {component} imports {interface}, which is not granted: add \"{capability}\" to capabilities in \
         [component.{component}.tool.lanner]"
    )]
    NotGranted { component: String, interface: String, capability: &'static str },
    #[error("component {component} imports {interface}, which this host does not have")]
    Unknown { component: String, interface: String },
    #[error("component {component} exports no wasi:http handler")]
    NoHandler { component: String },
}

const PREFIX: &str = "lanner:platform/";

/// What can be said from the names alone, before anything is compiled: an interface that this host does not have, or that
/// is not granted and of which nobody uses only types.
pub fn check_names(name: &str, interface: &Interface, granted: &[Capability]) -> Result<(), GrantError> {
    for import in &interface.imports {
        if let Some((needed, word)) = asked(name, import)?
            && !granted.contains(&needed)
            && !(needed == Capability::Jobs && granted.contains(&Capability::Alerts))
        {
            return Err(not_granted(name, import, word));
        }
    }
    if interface.exports.iter().any(|e| is_handler(e)) { Ok(()) } else { Err(no_handler(name)) }
}

/// Refuses, by name, whatever is not granted; nothing has been instantiated by then.
pub fn check(
    name: &str,
    component: &Component,
    granted: &[Capability],
    engine: &Engine,
) -> Result<(), GrantError> {
    let kind = component.component_type();
    for (import, _) in kind.imports(engine) {
        let Some((needed, word)) = asked(name, import)? else { continue };
        // `alerts` uses a type of `jobs`; types give nobody anything, so only an interface with functions counts.
        let types_only = needed == Capability::Jobs
            && granted.contains(&Capability::Alerts)
            && imports_types_only(component_import(&kind, engine, import));
        if !granted.contains(&needed) && !types_only {
            return Err(not_granted(name, import, word));
        }
    }
    if kind.exports(engine).any(|(e, _)| is_handler(e)) { Ok(()) } else { Err(no_handler(name)) }
}

/// The capability that an import needs; none for WASI and for mere types.
fn asked(name: &str, import: &str) -> Result<Option<(Capability, &'static str)>, GrantError> {
    let unknown = || GrantError::Unknown { component: name.to_owned(), interface: shown(import) };
    let Some(own) = import.strip_prefix(PREFIX) else {
        return if import.starts_with("wasi:") { Ok(None) } else { Err(unknown()) };
    };
    Ok(Some(match own.split('@').next().unwrap_or_default() {
        "types" => return Ok(None),
        "jobs" => (Capability::Jobs, "jobs"),
        "sources" => (Capability::Sources, "sources"),
        "alerts" => (Capability::Alerts, "alerts"),
        "logging" => (Capability::Logging, "logging"),
        _ => return Err(unknown()),
    }))
}

fn not_granted(name: &str, import: &str, capability: &'static str) -> GrantError {
    GrantError::NotGranted { component: name.to_owned(), interface: shown(import), capability }
}

fn no_handler(name: &str) -> GrantError {
    GrantError::NoHandler { component: name.to_owned() }
}

fn is_handler(export: &str) -> bool {
    export.starts_with("wasi:http/handler@") || export.starts_with("wasi:http/incoming-handler@")
}

/// Names of imports are the component's author's words.
fn shown(import: &str) -> String {
    lanner_core::text::escaped(&lanner_core::text::bounded(import, 200))
}

fn component_import(
    kind: &wasmtime::component::types::Component,
    engine: &Engine,
    name: &str,
) -> Option<Vec<bool>> {
    use wasmtime::component::types::ComponentItem;
    let (_, item) = kind.imports(engine).find(|(n, _)| *n == name)?;
    match item.ty {
        ComponentItem::ComponentInstance(instance) => Some(
            instance.exports(engine).map(|(_, e)| matches!(e.ty, ComponentItem::ComponentFunc(_))).collect(),
        ),
        _ => None,
    }
}

fn imports_types_only(functions: Option<Vec<bool>>) -> bool {
    functions.is_some_and(|f| f.iter().all(|is_function| !is_function))
}

/// Everything that a function could be granted; which of it a component may import was checked before.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    generated::lanner::platform::sources::add_to_linker::<_, HasSelf<State>>(&mut linker, itself)?;
    generated::lanner::platform::jobs::add_to_linker::<_, HasSelf<State>>(&mut linker, itself)?;
    generated::lanner::platform::alerts::add_to_linker::<_, HasSelf<State>>(&mut linker, itself)?;
    generated::lanner::platform::logging::add_to_linker::<_, HasSelf<State>>(&mut linker, itself)?;
    generated::lanner::platform::types::add_to_linker::<_, HasSelf<State>>(&mut linker, itself)?;
    Ok(linker)
}

fn itself(state: &mut State) -> &mut State {
    state
}
