//! Any bytes as a signature's payload, as a bundle, as a key: nothing is ever by a key that did not sign it.

#![no_main]

use lanner_oci::{Bundle, Digest, PublicKey, SigningKey, SimpleSigning};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOY9VThcetLRmRohdNlQI2n7dgRsl
k0vjZmm3Hn6+/+6Sl5u8x4JTa1aIgOmQRXrLEaO4vJ52aTKc6Ol2Uc0gNg==
-----END PUBLIC KEY-----
";

fuzz_target!(|data: &[u8]| {
    let key = PublicKey::from_pem(KEY).expect("a good key");
    let digest = Digest::of(b"");
    let middle = data.len() / 2;
    if let Some((payload, annotation)) = data.split_at_checked(middle)
        && let Ok(annotation) = str::from_utf8(annotation)
        && let Some(signing) = SimpleSigning::new(payload.to_vec(), annotation)
    {
        assert!(!signing.is_by(&key, &digest));
    }
    if let Some(bundle) = Bundle::parse(data) {
        assert!(!bundle.is_by(&key, &digest));
    }
    if let Ok(text) = str::from_utf8(data) {
        let _ = PublicKey::from_pem(text);
        // A sealed key costs time by design; without a password it is not opened.
        let _ = SigningKey::from_pem(text, None);
    }
});
