//! The host with real WebAssembly: one binary, modules by topic, so that it is linked once.

#![expect(clippy::disallowed_methods, reason = "tests run cargo")]

mod filters;
mod puppet;
