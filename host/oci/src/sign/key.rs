//! Keys: ECDSA on P-256 with SHA-256, and Ed25519, as cosign makes and takes them. It knows no registry.

use std::fmt;

use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::der::pem::decode_vec;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::SignatureError;
use super::sealed;
use crate::text::shown;

/// Short for the SHA-256 of a public key's DER: enough to tell keys apart in a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    key: Verifying,
}

/// A private key. It is wiped from memory when it is dropped, and no output shows it.
pub struct SigningKey {
    public: PublicKey,
    key: Signing,
}

#[derive(Clone)]
enum Verifying {
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

enum Signing {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

/// Longer texts are no key of ours.
const MAX_PEM: usize = 16 << 10;
const ID_BYTES: usize = 8;

impl KeyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PublicKey {
    /// A PEM text `PUBLIC KEY`.
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let (label, der) = decode(pem)?;
        match label {
            "PUBLIC KEY" => Self::from_der(&der),
            other => Err(SignatureError::Label { expected: "PUBLIC KEY", found: other.to_owned() }),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Self::new(Verifying::P256(key));
        }
        let ed25519 = ed25519_dalek::VerifyingKey::from_public_key_der(der);
        let key = ed25519.map_err(|_| SignatureError::KeyKind)?;
        match key.is_weak() {
            true => Err(SignatureError::WeakKey),
            false => Self::new(Verifying::Ed25519(key)),
        }
    }

    fn new(key: Verifying) -> Result<Self, SignatureError> {
        use fmt::Write as _;
        let der = match &key {
            Verifying::P256(key) => key.to_public_key_der(),
            Verifying::Ed25519(key) => key.to_public_key_der(),
        };
        // Written anew, so that a key has one id however its file spells it.
        let der = der.map_err(|_| SignatureError::KeyKind)?;
        let mut id = String::new();
        for byte in Sha256::digest(der.as_bytes()).iter().take(ID_BYTES) {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        Ok(Self { id: KeyId(id), key })
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whether `signature` (DER for ECDSA, 64 bytes for Ed25519) is this key's on these bytes.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Verifying::P256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature);
                signature.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Verifying::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
        }
    }
}

impl SigningKey {
    /// PKCS#8 (`PRIVATE KEY`), SEC 1 (`EC PRIVATE KEY`), or cosign's own sealed form, which needs its password.
    pub fn from_pem(pem: &str, password: Option<&str>) -> Result<Self, SignatureError> {
        let (label, der) = decode(pem)?;
        match (label, password) {
            ("PRIVATE KEY", _) => Self::from_pkcs8(&der),
            ("EC PRIVATE KEY", _) => {
                let key = p256::SecretKey::from_sec1_der(&der).map_err(|_| SignatureError::KeyKind)?;
                Self::new(Signing::P256(key.into()))
            }
            ("ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY", Some(password)) => {
                Self::from_pkcs8(&sealed::open(&der, password)?)
            }
            ("ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY", None) => {
                Err(SignatureError::PasswordNeeded)
            }
            (other, _) => Err(SignatureError::Label { expected: "PRIVATE KEY", found: other.to_owned() }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, SignatureError> {
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Self::new(Signing::P256(key));
        }
        let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(|_| SignatureError::KeyKind)?;
        Self::new(Signing::Ed25519(key))
    }

    fn new(key: Signing) -> Result<Self, SignatureError> {
        let public = match &key {
            Signing::P256(key) => Verifying::P256(*key.verifying_key()),
            Signing::Ed25519(key) => Verifying::Ed25519(key.verifying_key()),
        };
        Ok(Self { public: PublicKey::new(public)?, key })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Signing::P256(key) => {
                let signature: p256::ecdsa::Signature = p256::ecdsa::signature::Signer::sign(key, message);
                signature.to_der().as_bytes().to_vec()
            }
            Signing::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

fn decode(pem: &str) -> Result<(&str, Zeroizing<Vec<u8>>), SignatureError> {
    if pem.len() > MAX_PEM {
        return Err(SignatureError::Pem("it is too long".to_owned()));
    }
    // Editors leave blank lines; the format's readers are strict.
    let decoded = decode_vec(pem.trim().as_bytes());
    let (label, der) = decoded.map_err(|e| SignatureError::Pem(shown(&e.to_string())))?;
    Ok((label, Zeroizing::new(der)))
}
