//! The host with real WebAssembly: one binary, modules by topic, so that it is linked once.

#![expect(clippy::disallowed_methods, reason = "tests run cargo")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

mod filters;
mod functions;
mod puppet;
mod shifty;
mod sources;
