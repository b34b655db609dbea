//! What a hostile registry can do, and what is said about it; and what an honest one of another make holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests too, which clippy.toml's exceptions do not see"
)]

mod access;
mod apps;
#[path = "../support/authority.rs"]
mod authority;
mod content;
mod elsewhere;
mod helpers;
mod server;
mod signatures;
mod time;
mod writing;

use lanner_oci::{Digest, OciError};
use serde_json::{Value, json};
use server::{MANIFEST, Server};

/// The smallest component there is.
pub(crate) const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// A manifest with one layer, as `oras` pushes a file.
pub(crate) fn plain(layer: &Value) -> Value {
    let config = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] })
}

/// A server that holds the component under `a:1`.
pub(crate) fn stocked(server: Server) -> (Server, Digest) {
    server.blob(COMPONENT);
    server.blob(b"{}");
    let digest = server.manifest("1", MANIFEST, &plain(&descriptor("application/wasm", COMPONENT)));
    (server, digest)
}

/// The whole chain of an error's texts, as it is printed at the edge.
pub(crate) fn said(error: &OciError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(one) = source {
        text = format!("{text}: {one}");
        source = one.source();
    }
    text
}

/// Pulls `a:1` at the digest that it has, and gives what is said about that.
pub(crate) async fn refused(server: &Server, digest: Digest) -> String {
    let pulled = server.registry().pull(&server.at("a:1").at(digest)).await;
    said(&pulled.expect_err("it was pulled"))
}
