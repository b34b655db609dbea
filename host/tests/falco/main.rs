//! Falco's doors against the real flow, store and sockets: the runner and Falco are played by the tests.
//!
//! `doors` and `grpc` show each way in, `faults` cuts, delays, doubles, reorders, corrupts, restarts and overloads them by seed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic"
)]

mod doors;
mod faults;
mod grpc;
mod stage;
mod tls;
