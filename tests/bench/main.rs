//! Ratios against a named baseline, measured in one run.
fn main() {}
