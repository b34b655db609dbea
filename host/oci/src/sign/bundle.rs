//! What newer cosigns sign: a sigstore bundle with a DSSE envelope around an in-toto statement. Of bundles, those are read
//! that a key signed; certificates and transparency logs need a network, or trust in somebody's word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::PublicKey;
use crate::digest::Digest;

/// All versions of the type begin so.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The statement that means a signature. Another one by the same key (a provenance, a list of parts) is no consent.
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const MAX_SIGNATURES: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer {
    media_type: String,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// A bundle as it was found: the bytes that were signed, what they say, and the signatures.
pub struct Bundle {
    signed: Vec<u8>,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Bundle {
    /// Nothing if it is none that a key can have signed.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let outer: Outer = serde_json::from_slice(json).ok()?;
        let envelope = outer.dsse_envelope;
        let few = (1..=MAX_SIGNATURES).contains(&envelope.signatures.len());
        if !outer.media_type.starts_with(BUNDLE) || envelope.payload_type != IN_TOTO || !few {
            return None;
        }
        let payload = STANDARD.decode(&envelope.payload).ok()?;
        let signatures =
            envelope.signatures.iter().map(|one| STANDARD.decode(&one.sig).ok()).collect::<Option<_>>()?;
        Some(Self { signed: pre_authentication(IN_TOTO, &payload), payload, signatures })
    }

    pub fn is_by(&self, key: &PublicKey, digest: &Digest) -> bool {
        self.signatures.iter().any(|signature| key.verifies(&self.signed, signature))
            && self.speaks_of(digest)
    }

    fn speaks_of(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        serde_json::from_slice::<Statement>(&self.payload).is_ok_and(|statement| {
            STATEMENTS.contains(&statement.kind.as_str())
                && statement.predicate_type == SIGN
                && statement.subject.iter().any(|s| s.digest.get("sha256") == Some(&hex))
        })
    }
}

/// DSSE's encoding of a type and a payload into the bytes that are signed.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
