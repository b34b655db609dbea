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

/// Between a scan's pod and the host (`lanner/pod.proto`).
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated"
)]
pub mod pod {
    include!("gen/lanner.pod.v1.rs");
}

/// Falco's gRPC outputs (`falco/*.proto`): there up to Falco 0.43. The modules are nested as the packages are, because the
/// generated code names its neighbours by `super`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    non_camel_case_types,
    unused_qualifications,
    reason = "generated"
)]
pub mod falco {
    pub mod schema {
        include!("gen/falco.schema.rs");
    }
    pub mod outputs {
        include!("gen/falco.outputs.rs");
    }
    pub mod version {
        include!("gen/falco.version.rs");
    }
}

/// The longest message on the agent's stream, in bytes; a longer length prefix ends the stream.
pub const MAX_AGENT_MESSAGE: usize = 1024 * 1024;
