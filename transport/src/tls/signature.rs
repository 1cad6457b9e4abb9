//! The verification of the handshake's signature, by which the receiver proves that it
//! has its certificate's private key.
//!
//! rustls verifies the signature if it can parse the certificate, which must be X.509
//! version 3. If neither the chain nor the name is checked, other versions are accepted
//! too, since only the key matters: for these, this module extracts the key with a
//! lenient parser. A certificate with a verified chain never reaches this parser.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};

use super::key;

/// Verifies the signature of a `ServerKeyExchange` (RFC 5246, section 7.4.3). In TLS 1.2
/// a scheme does not determine the curve, so the key's curve is used.
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

/// Verifies the signature of a `CertificateVerify` (RFC 8446, section 4.4.3). In TLS 1.3
/// a scheme determines the curve, and PKCS #1 version 1.5 is not allowed: rustls
/// enforces both.
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
