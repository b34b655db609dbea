//! The crate from outside, as one binary: the language, its diagnostics, hostile input, and Lanner's own rules.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; the lints know test functions only"
)]

mod diagnostics;
mod falco;
mod hostile;
mod language;
mod lanner_rules;
mod support;
