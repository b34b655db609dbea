//! The agent as the host meets it: a process at the other end of a stream, in real sandboxes on this machine.
//!
//! One binary, so that everything is linked once. A test of a kind of sandbox runs it as root and as an ordinary user
//! where the tests run as root, and as the present user otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests too, which clippy.toml's exceptions do not see"
)]

mod container;
mod flow;
mod host;
mod limits;
mod namespaces;
mod network;
