//! The messages that cross a process border, generated from the `.proto` files beside this crate.
//!
//! The generated code is committed, so that nobody needs a protobuf compiler; `tests/bootstrap.rs` makes it anew and
//! fails when it differs. Nothing of ours is imported here, and nothing is interpreted: a message is bytes that
//! parsed, not yet a fact.

#![forbid(unsafe_code)]

/// The agent's stream to the host (`lanner/agent.proto`).
#[allow(clippy::all, clippy::pedantic, unused_qualifications, reason = "generated")]
pub mod agent {
    include!("gen/lanner.agent.v1.rs");
}

/// The longest message on the agent's stream, in bytes; a longer length prefix ends the stream.
pub const MAX_AGENT_MESSAGE: usize = 1024 * 1024;
