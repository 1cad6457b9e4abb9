//! Reasons for rejecting a receiver's certificate, and hints.

use rustls::CertificateError;
use rustls::pki_types::{ServerName, UnixTime};
use thiserror::Error;
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::der::DateTime;

use super::certificate::{self, Name};
use super::key;
use super::notes::Refused;
use super::words::words;
use crate::hint::{Hint, hint};

/// The reason why a receiver's certificate is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The fingerprint matches none of the configured pins.
    #[error("the certificate's fingerprint matches none of the configured pins")]
    NotPinned,
    /// The certificate is not signed by a trusted CA.
    #[error("no trusted CA signed the certificate")]
    UnknownIssuer,
    /// The certificate is self-signed and not configured as a CA.
    #[error("the certificate is self-signed and not a configured CA")]
    SelfSigned,
    /// The certificate is a CA certificate that is not configured itself.
    #[error("the receiver's own certificate is a CA certificate (CA:TRUE)")]
    CaCertificate,
    /// The certificate has no names.
    #[error(
        "the certificate has no subjectAltName to compare with {host}; its common name (CN) is not compared"
    )]
    NoName {
        /// The host or server name.
        host: String,
    },
    /// The certificate contains the host's IP address as a DNS name.
    #[error("the certificate contains {host} as a DNS name, not as an IP address")]
    AddressAsDnsName {
        /// The host.
        host: String,
    },
    /// The host is an IP address, and the certificate has only DNS names.
    #[error("the certificate is not valid for {host}, only for {names}")]
    OnlyDnsNames {
        /// The host.
        host: String,
        /// The certificate's names.
        names: String,
    },
    /// The certificate is for different names.
    #[error("the certificate is not valid for {host}, only for {names}")]
    OtherName {
        /// The host or server name.
        host: String,
        /// The certificate's names.
        names: String,
    },
    /// A certificate has expired.
    #[error("{subject} expired at {at} (the current time is {now})")]
    Expired {
        /// The certificate.
        subject: Subject,
        /// The end of its validity.
        at: String,
        /// The time of the check.
        now: String,
    },
    /// A certificate is not valid yet.
    #[error("{subject} is not valid before {at} (the current time is {now})")]
    NotYetValid {
        /// The certificate.
        subject: Subject,
        /// The beginning of its validity.
        at: String,
        /// The time of the check.
        now: String,
    },
    /// The extended key usage does not include server authentication.
    #[error("the certificate's extended key usage does not include server authentication")]
    NotForServers,
    /// A certificate has an X.509 version without names and constraints.
    #[error("{0} is X.509 version 1 or 2")]
    OldVersion(Subject),
    /// A certificate has a kind of key that is not supported.
    #[error("{subject} has an unsupported key: {key}")]
    UnsupportedKey {
        /// The certificate.
        subject: Subject,
        /// The kind of key.
        key: String,
    },
    /// A certificate is signed with an unsupported algorithm.
    #[error("a certificate of the chain has an unsupported signature: {0}")]
    UnsupportedSignature(String),
    /// A certificate of the chain is not signed by its issuer's key.
    #[error("a certificate of the chain has an invalid signature")]
    BadSignature,
    /// The handshake is not signed by the certificate's key.
    #[error("the receiver does not have the certificate's private key")]
    KeyNotProven,
    /// The handshake is signed with an algorithm for a different kind of key.
    #[error("the receiver signed with an algorithm that does not match the certificate's key")]
    WrongAlgorithm,
    /// A certificate of the chain has an unsupported critical extension.
    #[error("a certificate of the chain has an unsupported critical extension")]
    CriticalExtension,
    /// The certificate is invalid for another reason.
    #[error("the certificate is invalid: {0}")]
    Other(String),
}

/// A role in the receiver's chain of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The receiver's own certificate.
    Receiver,
    /// A CA certificate of the chain.
    Ca,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Receiver => "the certificate",
            Self::Ca => "a CA certificate of the chain",
        })
    }
}

impl Refusal {
    /// Explains an error of rustls. In some cases the rejected chain gives a more
    /// specific reason than the error.
    pub(super) fn new(error: &CertificateError, refused: &Refused) -> Self {
        let leaf = refused.chain.first();
        let key = leaf.and_then(key::unsupported);
        let leaf = leaf.and_then(certificate::parse);
        let leaf = leaf.as_ref();
        match error {
            CertificateError::ApplicationVerificationFailure => Self::NotPinned,
            CertificateError::UnknownIssuer => match leaf {
                Some(leaf) if leaf.issuer == leaf.subject => Self::SelfSigned,
                _ => Self::UnknownIssuer,
            },
            CertificateError::NotValidForNameContext { expected, .. } => name(expected, leaf),
            CertificateError::ExpiredContext { time, not_after } => Self::Expired {
                subject: subject(leaf, |leaf| leaf.validity.not_after, *not_after),
                at: date(*not_after),
                now: date(*time),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::NotYetValid {
                subject: subject(leaf, |leaf| leaf.validity.not_before, *not_before),
                at: date(*not_before),
                now: date(*time),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::NotForServers
            }
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                public_key_algorithm_id,
                ..
            } => match key {
                Some(key) if refused.for_signature => Self::UnsupportedKey {
                    subject: Subject::Receiver,
                    key,
                },
                None if refused.for_signature => Self::WrongAlgorithm,
                _ => Self::UnsupportedKey {
                    subject: Subject::Ca,
                    key: key::algorithm_of(public_key_algorithm_id),
                },
            },
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                ..
            } => Self::UnsupportedSignature(key::algorithm_of(signature_algorithm_id)),
            CertificateError::BadSignature if refused.for_signature => match key {
                Some(key) => Self::UnsupportedKey {
                    subject: Subject::Receiver,
                    key,
                },
                None => Self::KeyNotProven,
            },
            CertificateError::BadSignature => {
                match refused.chain.iter().skip(1).find_map(key::unsupported) {
                    Some(key) => Self::UnsupportedKey {
                        subject: Subject::Ca,
                        key,
                    },
                    None => Self::BadSignature,
                }
            }
            CertificateError::Other(other) => match other.0.downcast_ref() {
                Some(webpki::Error::CaUsedAsEndEntity) => Self::CaCertificate,
                Some(webpki::Error::UnsupportedCertVersion) => Self::OldVersion(match leaf {
                    Some(leaf) if leaf.version == Version::V3 => Subject::Ca,
                    _ => Subject::Receiver,
                }),
                Some(webpki::Error::UnsupportedCriticalExtension) => Self::CriticalExtension,
                Some(error) => Self::Other(words(error, ' ')),
                None => Self::Other(other.to_string()),
            },
            error => Self::Other(words(error, ' ')),
        }
    }

    /// Returns advice for the reader of the log, if there is any.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotPinned => {
                hint!(
                    "if this is the receiver's certificate, add its fingerprint to ",
                    Pins
                )
            }
            Self::UnknownIssuer => {
                hint!(
                    "set ",
                    Ca,
                    " to the CA that signed the receiver's certificate"
                )
            }
            Self::SelfSigned => {
                hint!(
                    "if this is the receiver's certificate, set ",
                    Ca,
                    " to exactly this certificate"
                )
            }
            Self::CaCertificate => {
                hint!(
                    "if this is the receiver's certificate, set ",
                    Ca,
                    " to exactly this certificate, or reissue it without CA:TRUE"
                )
            }
            Self::NoName { .. } => {
                hint!(
                    "reissue the certificate with a subjectAltName for the host, or set ",
                    Ca,
                    " to exactly this certificate"
                )
            }
            Self::AddressAsDnsName { .. } => {
                hint!(
                    "reissue the certificate with the address as an IP address (openssl: subjectAltName=IP:...)"
                )
            }
            Self::OnlyDnsNames { .. } => {
                hint!(
                    "set ",
                    ServerName,
                    " to one of the certificate's DNS names, or use a DNS name instead of the IP address"
                )
            }
            Self::OtherName { .. } => {
                hint!(
                    "set ",
                    ServerName,
                    " to one of the names in the receiver's certificate"
                )
            }
            Self::Expired {
                subject: Subject::Receiver,
                ..
            } => hint!("renew the receiver's certificate"),
            Self::Expired {
                subject: Subject::Ca,
                ..
            } => hint!("renew the CA certificate that the receiver sends with its certificate"),
            Self::NotYetValid { .. } => {
                hint!(
                    "check the clocks of this machine and of the machine that created the certificate"
                )
            }
            Self::NotForServers => {
                hint!("reissue the receiver's certificate with the extended key usage serverAuth")
            }
            Self::OldVersion(Subject::Receiver) => {
                hint!(
                    "reissue the certificate as version 3 with a subjectAltName, or set ",
                    Ca,
                    " to exactly this certificate"
                )
            }
            Self::OldVersion(Subject::Ca) => hint!("reissue the CA certificate as version 3"),
            Self::UnsupportedKey { .. } | Self::UnsupportedSignature(_) => {
                hint!(
                    "reissue the certificates with RSA (2048 to 8192 bits), P-256, P-384 or Ed25519 keys, signed with SHA-256 or SHA-384"
                )
            }
            Self::BadSignature => {
                hint!(
                    Ca,
                    " may contain a different CA with the same name; or a CA's RSA key is outside the range of 2048 to 8192 bits"
                )
            }
            Self::KeyNotProven => {
                hint!(
                    "the receiver's certificate and key may not belong together, or an attacker may impersonate the receiver"
                )
            }
            Self::WrongAlgorithm | Self::CriticalExtension | Self::Other(_) => return None,
        })
    }
}

/// Explains why the certificate is not valid for the expected name.
fn name(expected: &ServerName<'_>, leaf: Option<&TbsCertificate>) -> Refusal {
    let host = expected.to_str().into_owned();
    let Some(names) = leaf.and_then(certificate::names) else {
        return Refusal::NoName { host };
    };
    let is_address = matches!(expected, ServerName::IpAddress(_));
    if is_address && names.contains(&Name::Dns(host.clone())) {
        return Refusal::AddressAsDnsName { host };
    }
    let only_dns = names.iter().all(|name| matches!(name, Name::Dns(_)));
    let has_names = !names.is_empty();
    let names = certificate::list(&names, ", ");
    match () {
        () if !has_names => Refusal::NoName { host },
        () if is_address && only_dns => Refusal::OnlyDnsNames { host, names },
        () => Refusal::OtherName { host, names },
    }
}

/// Returns the role of the certificate to which a date belongs.
fn subject(
    leaf: Option<&TbsCertificate>,
    date: impl Fn(&TbsCertificate) -> x509_cert::time::Time,
    at: UnixTime,
) -> Subject {
    match leaf {
        Some(leaf) if date(leaf).to_unix_duration().as_secs() != at.as_secs() => Subject::Ca,
        _ => Subject::Receiver,
    }
}

/// Formats a time as in RFC 3339.
fn date(time: UnixTime) -> String {
    let since = std::time::Duration::from_secs(time.as_secs());
    DateTime::from_unix_duration(since).map_or_else(
        |_| format!("{} s after 1970", time.as_secs()),
        |date| date.to_string(),
    )
}
