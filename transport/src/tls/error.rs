//! Reasons why TLS cannot be set up: files, names, keys.

use std::io;

use thiserror::Error;

use super::blocks::Binary;
use super::key;

/// Why TLS cannot be set up. `Display` names the PEM or the value.
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
    /// The file has another form than PEM.
    #[error(
        "{pem} is {form}, and has to be PEM: convert it with `{}`", form.command(wanted)
    )]
    Binary {
        /// The file.
        pem: String,
        /// The kind of block that is needed.
        wanted: &'static str,
        /// Its form.
        form: Binary,
    },
    /// The private key needs a passphrase.
    #[error(
        "the private key in {pem} is encrypted, and there is no key for a passphrase: decrypt it with `openssl pkey -in FILE -out NEW`"
    )]
    EncryptedKey {
        /// The file.
        pem: String,
    },
    /// The text has no block of the kind that is needed.
    #[error("{pem} holds no {wanted} in PEM form ({})", blocks(found))]
    Missing {
        /// The text's name.
        pem: String,
        /// The kind of block that is needed.
        wanted: &'static str,
        /// The labels of the blocks that it has; may be empty.
        found: String,
    },
    /// A CA certificate cannot be used.
    #[error("{pem} holds a CA certificate that cannot be used: {reason}")]
    BadCa {
        /// The text's name.
        pem: String,
        /// The problem.
        reason: String,
    },
    /// The kind of key is not supported.
    #[error(
        "{pem} has a key that is not supported ({key}), allowed are {}",
        key::SUPPORTED
    )]
    UnsupportedKey {
        /// The text's name.
        pem: String,
        /// The kind of key.
        key: String,
    },
    /// The private key is not supported, or is damaged.
    #[error(
        "the private key in {pem} is not supported or damaged, allowed are RSA with 2048 to 4096 bits, P-256, P-384 or Ed25519"
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
    #[error("{pem} holds a certificate that is not valid DER")]
    BadCertificate {
        /// The certificate.
        pem: String,
    },
    /// The server name is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The verifier could not be built from the CAs.
    #[error("cannot verify certificates: {0}")]
    Verifier(String),
}

fn blocks(labels: &str) -> String {
    if labels.is_empty() {
        "a block that begins with -----BEGIN".to_owned()
    } else {
        format!("its blocks are {labels}")
    }
}
