//! The server and the command line. `app` wires all and is the only module that sees all; the arrows between the
//! others are in docs/architecture.md.

pub mod blob;
pub mod runner;
pub mod scan;
pub mod store;
