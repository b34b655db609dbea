//! A test's own certificate authority.

/// The authority's certificate in PEM, and a certificate of 127.0.0.1 by it, with its key.
pub(crate) fn certified() -> (String, rcgen::Certificate, rcgen::KeyPair) {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = parameters.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    (ca.pem(), certificate, key)
}
