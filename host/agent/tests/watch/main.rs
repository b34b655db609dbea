//! The watcher against the real kernel: a package that tries everything, and a supervisor that keeps what was reported.
//!
//! No sandbox is around it here, so what holds in these tests holds by the watcher alone. One binary, so that
//! everything is linked once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod ends;
mod files;
mod harness;
mod identity;
mod network;
mod processes;
mod races;
