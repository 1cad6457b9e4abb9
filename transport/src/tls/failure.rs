//! Failures of TLS with a receiver, and hints.

use rustls::{AlertDescription, ClientConnection, Error, InvalidMessage, PeerIncompatible};
use thiserror::Error;

use super::refusal::Refusal;
use super::words::words;
use crate::hint::{Hint, hint};

/// The reason why a TLS handshake failed or a TLS stream broke.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFailure {
    /// We reject the receiver's certificate.
    #[error(transparent)]
    Certificate(Refusal),
    /// The receiver speaks a different protocol.
    #[error("the receiver's answer is not TLS")]
    NotTls,
    /// The receiver supports none of the offered versions of TLS.
    #[error("the receiver supports none of the offered TLS versions")]
    Version {
        /// Whether only TLS 1.3 was offered.
        only_tls13: bool,
    },
    /// The receiver supports none of the offered cipher suites, groups or signature
    /// algorithms.
    #[error(
        "the receiver supports none of the offered cipher suites, groups or signature algorithms (alert {0})"
    )]
    NothingInCommon(Alert),
    /// The receiver requires a client certificate, and none is configured.
    #[error("the receiver requires a client certificate (alert {0})")]
    ClientCertificateRequired(Alert),
    /// The receiver rejected our certificate.
    #[error("the receiver rejected the client certificate (alert {0})")]
    ClientCertificateRefused(Alert),
    /// The receiver ended the connection for another reason.
    #[error("the receiver ended the connection with alert {0}")]
    Alert(Alert),
    /// The receiver violated the TLS protocol, or does not support a required feature.
    #[error("the receiver's TLS is not compatible: {0}")]
    Protocol(String),
    /// An internal error occurred.
    #[error("internal TLS error: {0}")]
    Internal(String),
}

/// A TLS alert sent by a receiver. `Display` shows the alert's name in the RFCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(AlertDescription);

impl std::fmt::Display for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            Some(_) => f.write_str(&words(&self.0, '_')),
            None => write!(f, "{}", u8::from(self.0)),
        }
    }
}

/// The state of the handshake when it failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Whether the receiver has chosen a version and a cipher suite.
    pub(super) answered: bool,
    /// The state of client authentication.
    pub(super) client: ClientAuth,
    /// Whether only TLS 1.3 was offered.
    pub(super) only_tls13: bool,
}

/// The state of client authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// The receiver did not request a certificate.
    NotRequested,
    /// The receiver requested a certificate, but none is configured.
    Missing,
    /// The receiver requested a certificate, and ours was sent.
    Presented,
}

/// Returns whether the receiver has chosen a version and a cipher suite.
pub(super) fn is_answered(connection: &ClientConnection) -> bool {
    connection.protocol_version().is_some()
}

impl TlsFailure {
    /// Explains an error of rustls, except for rejected certificates.
    pub(super) fn new(error: &Error, progress: Progress) -> Self {
        let only_tls13 = progress.only_tls13;
        match error {
            Error::AlertReceived(alert) => Self::alert(*alert, progress),
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord if !progress.answered => {
                Self::NotTls
            }
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version { only_tls13 },
            Error::PeerIncompatible(reason) => Self::Protocol(words(reason, ' ')),
            Error::PeerMisbehaved(reason) => Self::Protocol(words(reason, ' ')),
            Error::InvalidMessage(reason) => Self::Protocol(describe_invalid(reason)),
            Error::InappropriateMessage { got_type, .. } => {
                Self::Protocol(format!("unexpected {}", words(got_type, ' ')))
            }
            Error::InappropriateHandshakeMessage { got_type, .. } => {
                Self::Protocol(format!("unexpected {}", words(got_type, ' ')))
            }
            Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::NoCertificatesPresented => Self::Protocol(words(error, ' ')),
            Error::General(text) => Self::Internal(text.clone()),
            Error::Other(error) => Self::Internal(error.to_string()),
            error => Self::Internal(words(error, ' ')),
        }
    }

    fn alert(alert: AlertDescription, progress: Progress) -> Self {
        use AlertDescription as A;
        let is_about_certificate = matches!(
            alert,
            A::HandshakeFailure
                | A::NoCertificate
                | A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::DecryptError
                | A::CertificateRequired
        );
        let Progress {
            answered,
            client,
            only_tls13,
        } = progress;
        let shown = Alert(alert);
        match (alert, client) {
            (A::ProtocolVersion, _) => Self::Version { only_tls13 },
            (A::HandshakeFailure | A::InsufficientSecurity, _) if !answered => {
                Self::NothingInCommon(shown)
            }
            (_, ClientAuth::Presented) if is_about_certificate => {
                Self::ClientCertificateRefused(shown)
            }
            // GnuTLS sends decode_error for an empty list of certificates in TLS 1.2.
            (_, ClientAuth::Missing) if is_about_certificate || alert == A::DecodeError => {
                Self::ClientCertificateRequired(shown)
            }
            _ => Self::Alert(shown),
        }
    }

    /// Returns advice for the reader of the log, if there is any.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Certificate(refusal) => return refusal.hint(),
            Self::NotTls => hint!(
                "the receiver may not speak TLS on this port: see ",
                Transport
            ),
            Self::Version { only_tls13: false } => hint!("enable TLS 1.2 or 1.3 on the receiver"),
            Self::Version { only_tls13: true } => {
                hint!(
                    "set ",
                    MinVersion,
                    " to 1.2, or enable TLS 1.3 on the receiver"
                )
            }
            Self::NothingInCommon(_) => {
                hint!(
                    "the receiver must support TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305; one of the groups X25519, P-256 and P-384; and a certificate with a key of RSA, P-256, P-384 or Ed25519 (P-521 is not supported)"
                )
            }
            Self::ClientCertificateRequired(_) => hint!("set ", ClientIdentity),
            Self::ClientCertificateRefused(Alert(AlertDescription::UnknownCA)) => {
                hint!(
                    "the receiver does not trust the CA that signed the certificate in ",
                    ClientCertificate,
                    ", or the intermediate certificates are missing in the file"
                )
            }
            Self::ClientCertificateRefused(Alert(AlertDescription::CertificateExpired)) => {
                hint!("renew the certificate in ", ClientCertificate)
            }
            Self::ClientCertificateRefused(_) => {
                hint!(
                    "the receiver rejects the certificate in ",
                    ClientCertificate,
                    "; see its log for the reason"
                )
            }
            Self::Alert(Alert(AlertDescription::UnrecognisedName)) => {
                hint!(
                    "set ",
                    ServerName,
                    " to a name that is configured on the receiver"
                )
            }
            Self::Alert(_) => hint!("see the receiver's log for the reason"),
            Self::Protocol(_) | Self::Internal(_) => return None,
        })
    }
}

/// Returns the name of the rule that a message violates, and the invalid part.
fn describe_invalid(reason: &InvalidMessage) -> String {
    let name = words(reason, ' ');
    match reason {
        InvalidMessage::MissingData(part) | InvalidMessage::TrailingData(part) => {
            format!("{name} in {part}")
        }
        _ => name,
    }
}
