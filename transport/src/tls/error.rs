//! Errors of the TLS configuration: files, names, keys.

use std::io;

use thiserror::Error;

use super::blocks::Binary;
use super::key;

/// The reason why a TLS configuration is invalid. `Display` includes the name of the
/// PEM or the value.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{pem}: {source}")]
    Read {
        /// The file.
        pem: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The text is not PEM.
    #[error("{pem} is not valid PEM: {reason}")]
    NotPem {
        /// The text's name.
        pem: String,
        /// The problem.
        reason: String,
    },
    /// The file has a binary format instead of PEM.
    #[error(
        "{pem} is {form}, must be PEM: convert it with `{}`", form.command(wanted)
    )]
    Binary {
        /// The file.
        pem: String,
        /// The required kind of block: `certificate` or `private key`.
        wanted: &'static str,
        /// The file's format.
        form: Binary,
    },
    /// The private key needs a passphrase.
    #[error(
        "the private key in {pem} is encrypted, which is not supported: decrypt it with `openssl pkey -in FILE -out NEW`"
    )]
    EncryptedKey {
        /// The file.
        pem: String,
    },
    /// The text has no block of the required kind.
    #[error("{pem} contains no {wanted} in PEM format ({})", blocks(found))]
    Missing {
        /// The text's name.
        pem: String,
        /// The required kind of block: `certificate` or `private key`.
        wanted: &'static str,
        /// The labels of the blocks in the text, separated by commas. May be empty.
        found: String,
    },
    /// A CA certificate cannot be used.
    #[error("{pem} contains an unusable CA certificate: {reason}")]
    BadCa {
        /// The text's name.
        pem: String,
        /// The problem.
        reason: String,
    },
    /// The kind of key is not supported.
    #[error("{pem} has an unsupported key ({key}), must be {}", key::SUPPORTED)]
    UnsupportedKey {
        /// The text's name.
        pem: String,
        /// The kind of key.
        key: String,
    },
    /// The private key is damaged or not supported.
    #[error(
        "the private key in {pem} is damaged or not supported, must be RSA with 2048 to 4096 bits, P-256, P-384 or Ed25519"
    )]
    BadKey {
        /// The key.
        pem: String,
    },
    /// The system has no CA certificates.
    #[error("the system has no CA certificates, and no CA is configured")]
    NoSystemRoots,
    /// The certificate and the key do not belong together.
    #[error("the private key in {key} does not belong to the certificate in {certificate}")]
    KeyMismatch {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
    },
    /// The certificate cannot be read.
    #[error("{pem} contains a certificate that is not valid DER")]
    BadCertificate {
        /// The certificate.
        pem: String,
    },
    /// The server name is neither a DNS name nor an IP address.
    #[error("invalid server name {0:?}: must be a DNS name or an IP address")]
    ServerName(String),
    /// The verifier could not be built from the CAs.
    #[error("cannot verify certificates: {0}")]
    Verifier(String),
}

fn blocks(labels: &str) -> String {
    if labels.is_empty() {
        "no line begins with -----BEGIN".to_owned()
    } else {
        format!("found: {labels}")
    }
}
