//! cosign's own form of a private key: JSON with PKCS#8 in NaCl's secretbox, its key derived from a password by scrypt.
//!
//! The parameters of scrypt are bounded before they are used: a file could ask for all the memory there is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::SignatureError;

#[derive(Deserialize)]
struct Sealed {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    params: Parameters,
    salt: String,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// cosign writes N of 2^15 or 2^16 with r = 8 and p = 1; this is 64 MiB, and leaves it room to double.
const MAX_N: u32 = 1 << 17;
const MAX_R: u32 = 8;
const MAX_P: u32 = 4;

pub(super) fn open(json: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, SignatureError> {
    let bad = |what: &'static str| SignatureError::Sealed(what);
    let sealed: Sealed = serde_json::from_slice(json).map_err(|_| bad("it is no JSON of cosign's form"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(bad("it is not made by scrypt and nacl/secretbox"));
    }
    let Parameters { n, r, p } = sealed.kdf.params;
    if !n.is_power_of_two()
        || !(2..=MAX_N).contains(&n)
        || !(1..=MAX_R).contains(&r)
        || !(1..=MAX_P).contains(&p)
    {
        return Err(bad("the parameters of scrypt are out of bounds"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| bad("a part is no base64"));
    let salt = decode(&sealed.kdf.salt)?;
    let nonce: [u8; 24] =
        decode(&sealed.cipher.nonce)?.try_into().map_err(|_| bad("the nonce has not 24 bytes"))?;
    let log_n = u8::try_from(n.ilog2()).map_err(|_| bad("the parameters of scrypt are out of bounds"))?;
    let parameters =
        scrypt::Params::new(log_n, r, p).map_err(|_| bad("the parameters of scrypt are out of bounds"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), &salt, &parameters, key.as_mut())
        .map_err(|_| bad("the parameters of scrypt are out of bounds"))?;
    let secretbox = XSalsa20Poly1305::new(Key::from_slice(key.as_ref()));
    let opened = secretbox.decrypt(Nonce::from_slice(&nonce), decode(&sealed.ciphertext)?.as_slice());
    opened.map(Zeroizing::new).map_err(|_| SignatureError::Password)
}
