//! Falco's doors against the real flow, store and sockets: the runner and Falco are played by the tests.
//!
//! `doors` and `grpc` show each way in, `faults` cuts, delays, doubles, reorders, corrupts, restarts and overloads them by seed.

mod doors;
mod faults;
mod grpc;
mod stage;
