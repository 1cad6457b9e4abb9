//! The receiver's signature of the handshake, with which it proves that it has
//! its certificate's key.
//!
//! rustls verifies it where its parser takes the certificate. It takes X.509
//! version 3 alone; where neither a chain nor a name is checked, any version
//! will do, and only the key in it matters. A certificate whose chain was
//! verified therefore never gets to the lenient reading here.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};

use super::key;

/// Verifies the signature of a `ServerKeyExchange` (RFC 5246, section 7.4.3). A
/// scheme leaves the curve open in TLS 1.2, so the key decides.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return verify_tls12_signature(message, certificate, signed, supported);
    }
    let spki = key::spki(certificate).and_then(key::parts);
    let (public_key_algorithm, key) = spki.ok_or(CertificateError::BadEncoding)?;
    let offered = supported.mapping.iter();
    let mut offered = offered.filter(|(scheme, _)| *scheme == signed.scheme);
    let (_, algorithms) = offered
        .next()
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let algorithm = algorithms
        .iter()
        .find(|algorithm| algorithm.public_key_alg_id().as_ref() == public_key_algorithm)
        .ok_or_else(
            || CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: Vec::new(),
                public_key_algorithm_id: public_key_algorithm.to_vec(),
            },
        )?;
    algorithm
        .verify_signature(key, message, signed.signature())
        .map_err(|_| CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// Verifies the signature of a `CertificateVerify` (RFC 8446, section 4.4.3). A
/// scheme has one curve in TLS 1.3, and PKCS #1 version 1.5 is not allowed:
/// rustls sees to both.
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return verify_tls13_signature(message, certificate, signed, supported);
    }
    let spki = key::spki(certificate).ok_or(CertificateError::BadEncoding)?;
    let spki = SubjectPublicKeyInfoDer::from(spki);
    verify_tls13_signature_with_raw_key(message, &spki, signed, supported)
}
