//! TLS as RFC 5425 and RFC 9662 want it for syslog: TLS 1.2 or 1.3, the
//! receiver's certificate verified, no early data.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use thiserror::Error;

mod unverified;

/// What a user says about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The CAs, in PEM, that may sign the receiver's certificate; the system's
    /// where there is none.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its key, in PEM.
    pub identity: Option<Identity>,
    /// The name in the receiver's certificate, where it is not the host's.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those that lead from it to its CA.
    pub cert_file: PathBuf,
    /// The certificate's private key.
    pub key_file: PathBuf,
}

/// Why TLS cannot be set up. `Display` names the file or the value.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not valid PEM: {reason}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file holds nothing of the kind that is needed.
    #[error("{} holds no {wanted} in PEM form (a block that begins with -----BEGIN)", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is needed.
        wanted: &'static str,
    },
    /// A CA certificate cannot be used.
    #[error("{} holds a CA certificate that cannot be used: {source}", path.display())]
    BadCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The system has no CA certificates.
    #[error("the system has no CA certificates: set tls_ca_file")]
    NoSystemRoots,
    /// The certificate and the key do not fit.
    #[error("the key {} does not belong to the certificate {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate or the key cannot be used.
    #[error("the certificate {} with the key {} cannot be used: {source}", cert.display(), key.display())]
    BadIdentity {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The server name is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The verifier could not be built from the CAs.
    #[error("cannot verify certificates: {0}")]
    Verifier(String),
}

/// TLS towards one receiver.
#[derive(Clone)]
pub struct TlsTarget {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl fmt::Debug for TlsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTarget")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl TlsTarget {
    /// Reads the files and checks that they fit together. `host` is the name
    /// in the receiver's certificate unless the options have another.
    ///
    /// # Errors
    ///
    /// Where a file is missing, empty, not PEM or of the wrong kind, the key
    /// is not the certificate's, or the name is not one.
    pub fn new(options: &TlsOptions, host: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = if options.only_tls13 {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for TLS 1.2 and 1.3");
        let builder = if options.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(unverified::AcceptAny::new(provider)))
        } else {
            let roots = Arc::new(roots(options.ca_file.as_deref())?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| TlsError::Verifier(error.to_string()))?;
            builder.with_webpki_verifier(verifier)
        };
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates(&identity.cert_file)?;
                let key = key(&identity.key_file)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| identity.error(source))?
            }
        };
        let name = options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| TlsError::ServerName(name.to_owned()))?;
        Ok(Self {
            config: Arc::new(config),
            server_name,
        })
    }

    /// A client that has not said anything yet.
    pub(crate) fn client(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.server_name.clone())
    }
}

impl Identity {
    fn error(&self, source: rustls::Error) -> TlsError {
        let cert = self.cert_file.clone();
        let key = self.key_file.clone();
        match source {
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
                TlsError::KeyMismatch { cert, key }
            }
            source => TlsError::BadIdentity { cert, key, source },
        }
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| TlsError::BadCa {
                path: path.to_owned(),
                source,
            })?;
        }
    } else {
        // A system's store may hold certificates that no verifier takes.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoSystemRoots);
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(path, "certificate", error))?;
    if certificates.is_empty() {
        return Err(pem_error(path, "certificate", pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| pem_error(path, "private key", error))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn pem_error(path: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::NoItemsFound => TlsError::Missing { path, wanted },
        error => TlsError::NotPem {
            path,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
