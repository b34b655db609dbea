//! Runners: each starts one isolated Job and reports what it sees. They know scans only as values: nothing here
//! settles one.

pub mod local;
