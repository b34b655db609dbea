//! Signatures by keys, as cosign makes and checks them, without a network beside the registry itself: no transparency log,
//! no certificate authority. A signature says that the holder of a key agrees to one digest; it says nothing about the
//! place, so that a mirror's copy is as good as the original.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::error::OciError;
use crate::manifest::{Annotations, Descriptor, MANIFEST, Manifest};
use crate::reference::Pinned;
use crate::registry::Registry;
use crate::text::shown;

pub(crate) mod bundle;
mod collect;
mod key;
pub(crate) mod payload;
mod sealed;

pub use key::{KeyId, PublicKey, SigningKey};

use collect::{Found, MAX_SIGNATURES};
use payload::{SIGNATURE, SIMPLE_SIGNING};

/// Whose signature is needed.
#[derive(Clone, Debug)]
pub struct Verify {
    keys: Vec<PublicKey>,
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    AnyOf,
    AllOf,
}

/// The keys whose signatures were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub keys: Vec<KeyId>,
}

#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the key is no PEM: {0}")]
    Pem(String),
    #[error("the key is a {}, not a {expected}", shown(.found))]
    Label { expected: &'static str, found: String },
    #[error("the key is neither ECDSA P-256 nor Ed25519")]
    KeyKind,
    #[error("the key is one that anybody can sign for")]
    WeakKey,
    #[error("the key is sealed: its password is needed")]
    PasswordNeeded,
    #[error("the password is wrong, or the key's file is damaged")]
    Password,
    #[error("the sealed key cannot be opened: {0}")]
    Sealed(&'static str),
    #[error("there are no keys to verify with (`keys`)")]
    NoKeys,
    #[error("{digest} is not signed; keys tried: {}", list(.tried))]
    Unsigned { digest: Digest, tried: Vec<KeyId> },
    #[error("{digest} has {found} signatures, none of them by {}", list(.tried))]
    Wrong { digest: Digest, found: usize, tried: Vec<KeyId> },
    #[error("{digest} is signed by {}, but not by {}", list(.by), list(.missing))]
    Incomplete { digest: Digest, by: Vec<KeyId>, missing: Vec<KeyId> },
    #[error("there are more than {0} signatures: remove those that nobody needs")]
    TooMany(usize),
    #[error("the signature cannot be written")]
    Write(#[source] serde_json::Error),
}

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Verify {
    pub fn new(keys: Vec<PublicKey>, need: Need) -> Result<Self, SignatureError> {
        if keys.is_empty() { Err(SignatureError::NoKeys) } else { Ok(Self { keys, need }) }
    }

    pub fn any_of(keys: Vec<PublicKey>) -> Result<Self, SignatureError> {
        Self::new(keys, Need::AnyOf)
    }

    pub fn all_of(keys: Vec<PublicKey>) -> Result<Self, SignatureError> {
        Self::new(keys, Need::AllOf)
    }

    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Which of the keys signed, and whether that is enough.
    fn judge(&self, digest: &Digest, found: &[Found]) -> Result<Verified, SignatureError> {
        let signed = |key: &&PublicKey| found.iter().any(|one| one.is_by(key, digest));
        let ids = |keys: Vec<&PublicKey>| keys.into_iter().map(|key| key.id().clone()).collect::<Vec<_>>();
        let (by, missing): (Vec<_>, Vec<_>) = self.keys.iter().partition(signed);
        let (by, missing) = (ids(by), ids(missing));
        let digest = *digest;
        match self.need {
            Need::AnyOf if !by.is_empty() => Ok(Verified { keys: by }),
            Need::AllOf if missing.is_empty() => Ok(Verified { keys: by }),
            _ if found.is_empty() => Err(SignatureError::Unsigned { digest, tried: missing }),
            _ if by.is_empty() => Err(SignatureError::Wrong { digest, found: found.len(), tried: missing }),
            _ => Err(SignatureError::Incomplete { digest, by, missing }),
        }
    }
}

impl Registry {
    /// Whether the keys have signed this digest. What else is asked of it (that it can be pulled, that it runs) is apart.
    pub async fn verify(&self, at: &Pinned, verify: &Verify) -> Result<Verified, OciError> {
        self.within(self.verify_digest(at, verify)).await
    }

    async fn verify_digest(&self, at: &Pinned, verify: &Verify) -> Result<Verified, OciError> {
        let digest = at.digest();
        let mut found = self.tagged_signatures(at).await?;
        if let Ok(verified) = verify.judge(&digest, &found) {
            return Ok(verified);
        }
        found.extend(self.referred_signatures(at).await?);
        Ok(verify.judge(&digest, &found)?)
    }

    /// Adds a signature under the `.sig` tag, where cosign looks for it. Those that are there stay; one by the same key is
    /// not written twice.
    pub async fn sign(&self, at: &Pinned, key: &SigningKey) -> Result<(), OciError> {
        self.within(self.sign_digest(at, key)).await
    }

    async fn sign_digest(&self, at: &Pinned, key: &SigningKey) -> Result<(), OciError> {
        // Nobody signs what is not there: a slip in the digest would else stay unseen.
        self.manifest(at).await?;
        let digest = at.digest();
        let old = self.signature_manifest(at).await?;
        if old.is_some()
            && self.tagged_signatures(at).await?.iter().any(|one| one.is_by(key.public(), &digest))
        {
            return Ok(());
        }
        let place = at.reference();
        let name = format!("{}/{}", place.registry(), place.repository());
        let payload = payload::write(name, digest).map_err(SignatureError::Write)?;
        let mut layer = Descriptor::of(SIMPLE_SIGNING, &payload);
        layer.annotations.insert(SIGNATURE.to_owned(), STANDARD.encode(key.sign(&payload)));
        self.store_blob(place, &payload.into()).await?;
        let (mut layers, annotations) = match old {
            Some(old) => (old.layers, old.annotations),
            None => (Vec::new(), Annotations::new()),
        };
        if layers.len() >= MAX_SIGNATURES {
            return Err(SignatureError::TooMany(MAX_SIGNATURES).into());
        }
        layers.push(layer);
        let config = config(&layers).map_err(SignatureError::Write)?;
        let manifest = Manifest::new(Descriptor::of(IMAGE_CONFIG, &config), layers, annotations);
        self.store_blob(place, &config.into()).await?;
        let bytes = serde_json::to_vec(&manifest).map_err(SignatureError::Write)?;
        self.store_manifest(&place.tag_of(&digest, ".sig"), MANIFEST, bytes).await?;
        Ok(())
    }
}

/// An image's config that lists the layers, because tools for images want one.
fn config(layers: &[Descriptor]) -> serde_json::Result<Vec<u8>> {
    let digests: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "",
        "config": {},
        "created": "0001-01-01T00:00:00Z",
        "os": "",
        "rootfs": { "diff_ids": digests, "type": "layers" },
    }))
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(", ")
}
