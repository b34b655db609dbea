//! The product from outside: one binary, a module a topic.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

mod chart;
mod chart_bucket;
mod cluster;
mod cluster_auth;
mod cluster_filters;
mod command_line;
mod escape;
mod examples;
mod falcosidekick;
mod filters;
mod functions;
mod image;
mod kills;
mod machine;
mod sandbox;
mod scale;
mod service;
mod updates;
