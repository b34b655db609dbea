//! What cosign signs under the `.sig` tag: "simple signing", a small JSON with the digest of the artifact in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::PublicKey;
use crate::digest::Digest;

pub(super) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// On the layer: the signature of its bytes, in base64.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const TYPE: &str = "cosign container image signature";

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    /// What the signer says beside it. Nothing hangs on it.
    #[serde(default)]
    optional: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

/// One signature as it was found: the bytes, and what is said to be their signature.
pub struct SimpleSigning {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl SimpleSigning {
    /// Nothing if the annotation is no base64: it is then nobody's signature.
    pub fn new(payload: Vec<u8>, annotation: &str) -> Option<Self> {
        let signature = STANDARD.decode(annotation.trim()).ok()?;
        Some(Self { payload, signature })
    }

    /// Whether `key` signed these bytes, and they speak of `digest`. The signature is looked at first: what nobody signed
    /// is not read.
    pub fn is_by(&self, key: &PublicKey, digest: &Digest) -> bool {
        key.verifies(&self.payload, &self.signature)
            && serde_json::from_slice::<Payload>(&self.payload).is_ok_and(|payload| {
                payload.critical.kind == TYPE && payload.critical.image.docker_manifest_digest == *digest
            })
    }
}

/// The bytes to sign for an artifact; `name` is its registry and repository.
pub(super) fn write(name: String, digest: Digest) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Payload {
        critical: Critical {
            identity: Identity { docker_reference: name },
            image: Image { docker_manifest_digest: digest },
            kind: TYPE.to_owned(),
        },
        optional: serde_json::Value::Null,
    })
}
