//! The product from outside: one binary, a module a topic.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

mod chart;
mod cluster;
mod command_line;
mod examples;
mod falcosidekick;
mod filters;
mod functions;
mod kills;
mod machine;
mod sandbox;
mod service;
mod updates;
