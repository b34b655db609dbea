//! The crate from outside, as one binary: the language, its diagnostics, hostile input, and Lanner's own rules.

mod diagnostics;
mod hostile;
mod language;
mod lanner_rules;
mod support;
