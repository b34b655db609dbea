//! The server and the command line. `app` wires all and is the only module that sees all; the arrows between the
//! others are in docs/architecture.md.

pub mod app;
pub mod blob;
pub mod capability;
pub mod cli;
pub mod config;
pub mod engine;
pub mod function;
pub mod http;
pub mod intake;
pub mod lifecycle;
pub mod manifest;
pub mod net;
pub mod oci;
pub mod policy;
pub mod relay;
pub mod rules_file;
pub mod runner;
pub mod scan;
pub mod source;
pub mod store;
pub mod tasks;
pub mod telemetry;
