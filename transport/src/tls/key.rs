//! Public keys of certificates of any X.509 version, and names for unsupported ones.

use rustls::pki_types::CertificateDer;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Header, Reader, SliceReader, Tag};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// The supported keys, whose signatures can be verified.
pub(super) const SUPPORTED: &str = "RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519";

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The names of algorithms and curves by OID, including unsupported ones.
const NAMES: [(&str, &str); 22] = [
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.113549.1.1.4", "RSA with MD5"),
    ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA with SHA-256"),
    ("1.2.840.113549.1.1.12", "RSA with SHA-384"),
    ("1.2.840.113549.1.1.13", "RSA with SHA-512"),
    ("1.2.840.113549.1.1.14", "RSA with SHA-224"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10045.2.1", "elliptic curve"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
    ("1.2.840.10045.4.3.2", "ECDSA with SHA-256"),
    ("1.2.840.10045.4.3.3", "ECDSA with SHA-384"),
    (
        "1.2.840.10045.4.3.4",
        "ECDSA with SHA-512 (usual for P-521)",
    ),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
];

/// Returns the `SubjectPublicKeyInfo` of a certificate (RFC 5280, section 4.1), or None
/// if it cannot be found. No other field of the certificate is parsed.
pub(super) fn spki<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let mut reader = SliceReader::new(certificate).ok()?;
    for _ in ["Certificate", "TBSCertificate"] {
        let header = Header::decode(&mut reader).ok()?;
        header.tag.assert_eq(Tag::Sequence).ok()?;
    }
    // Certificates of version 1 have no version field.
    if matches!(reader.peek_tag().ok()?, Tag::ContextSpecific { .. }) {
        reader.tlv_bytes().ok()?;
    }
    for _ in ["serialNumber", "signature", "issuer", "validity", "subject"] {
        reader.tlv_bytes().ok()?;
    }
    reader.tlv_bytes().ok()
}

/// Returns the contents of the `AlgorithmIdentifier` of a `SubjectPublicKeyInfo`, without
/// tag and length, and the bytes of the key.
pub(super) fn parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(spki).ok()?;
    Header::decode(&mut reader).ok()?;
    let mut algorithm = SliceReader::new(reader.tlv_bytes().ok()?).ok()?;
    let length = Header::decode(&mut algorithm).ok()?.length;
    let algorithm = algorithm.read_slice(length).ok()?;
    let key = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    Some((algorithm, key.subject_public_key.as_bytes()?))
}

/// Returns the name of a certificate's key if that key is not supported.
pub(super) fn unsupported(certificate: &CertificateDer<'_>) -> Option<String> {
    let key = SubjectPublicKeyInfoRef::from_der(spki(certificate)?).ok()?;
    match key.algorithm.oid {
        RSA => {
            let bits = modulus_bits(key.subject_public_key.as_bytes()?)?;
            let name = || format!("RSA with {bits} bits");
            (!(2048..=8192).contains(&bits)).then(name)
        }
        ED25519 => None,
        EC if matches!(key.algorithm.parameters_oid(), Ok(P256 | P384)) => None,
        _ => Some(algorithm(&key.algorithm)),
    }
}

/// Returns the length in bits of the modulus of an `RSAPublicKey` (RFC 8017, appendix
/// A.1.1).
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(key).ok()?;
    Header::decode(&mut reader).ok()?;
    let modulus: UintRef<'_> = reader.decode().ok()?;
    let first = modulus.as_bytes().first()?;
    Some(modulus.as_bytes().len() * 8 - first.leading_zeros() as usize)
}

/// Returns the name of an algorithm's curve or, without a curve, of the algorithm.
fn algorithm(algorithm: &AlgorithmIdentifierRef<'_>) -> String {
    let curve = algorithm.parameters_oid().ok();
    let oid = curve.filter(|_| algorithm.oid == EC);
    let oid = oid.unwrap_or(algorithm.oid).to_string();
    let known = NAMES.iter().find(|(number, _)| *number == oid);
    known.map_or(oid, |(_, name)| (*name).to_owned())
}

/// Returns the name of an algorithm from the contents of its `AlgorithmIdentifier`,
/// without tag and length.
pub(super) fn algorithm_of(contents: &[u8]) -> String {
    let decode = || {
        let mut reader = SliceReader::new(contents).ok()?;
        let oid = reader.decode().ok()?;
        let parameters = (!reader.is_finished()).then(|| reader.decode());
        let parameters = parameters.transpose().ok()?;
        Some(algorithm(&AlgorithmIdentifierRef { oid, parameters }))
    };
    decode().unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::tls::certificate::describe;

    /// Runs all code that parses a certificate before its chain is verified.
    fn parse_all(certificate: &[u8]) {
        let certificate = CertificateDer::from(certificate.to_vec());
        spki(&certificate).and_then(parts);
        unsupported(&certificate);
        describe(&certificate);
        algorithm_of(&certificate);
    }

    #[test]
    fn damaged_certificates_cause_no_panic() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let intact = certificate.der();
        let public = spki(intact).and_then(parts).unwrap();
        assert_eq!(public.1, rcgen::PublicKeyData::der_bytes(&key));
        assert_eq!(algorithm_of(public.0), "P-256");
        assert_eq!(unsupported(intact), None);
        for at in 0..intact.len() {
            parse_all(&intact[..at]);
            for value in [0x00, 0x30, 0x7F, 0x80, 0x84, 0xA0, 0xFF] {
                let mut damaged = intact.to_vec();
                damaged[at] = value;
                parse_all(&damaged);
            }
        }
    }
}
