//! TLS as RFC 5425 and RFC 9662 want it for syslog: TLS 1.2 or 1.3, the
//! receiver's certificate verified, no early data.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};
use thiserror::Error;

pub use self::fingerprint::{Fingerprint, FingerprintError};
pub use self::pem::Pem;
use self::pem::Stamp;
pub(crate) use self::verifier::Verdict;
use self::verifier::Verifier;
use crate::endpoint::Host;

mod certificate;
mod fingerprint;
mod handshake;
mod pem;
mod verifier;

/// How many servers a sink remembers a session of.
const SESSIONS: usize = 16;

/// What a user says about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The CAs that may sign the receiver's certificate; the system's where
    /// there is none.
    pub ca: Option<Pem>,
    /// Our certificate chain and its key.
    pub identity: Option<Identity>,
    /// The name in the receiver's certificate, where it is not the host's.
    pub server_name: Option<String>,
    /// The fingerprints that the receiver's certificate may have. Without a
    /// `ca` one of these is all that it needs.
    pub pins: Vec<Fingerprint>,
    /// Accept any certificate, but for the pins.
    pub insecure_skip_verify: bool,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those that lead from it to its CA.
    pub certificate: Pem,
    /// The certificate's private key.
    pub key: Pem,
}

/// Why TLS cannot be set up. `Display` names the PEM or the value.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{pem}: {source}")]
    Read {
        /// Which.
        pem: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not PEM.
    #[error("{pem} is not valid PEM: {reason}")]
    NotPem {
        /// Which.
        pem: String,
        /// What is wrong.
        reason: String,
    },
    /// It holds nothing of the kind that is needed.
    #[error("{pem} holds no {wanted} in PEM form (a block that begins with -----BEGIN)")]
    Missing {
        /// Which.
        pem: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A CA certificate cannot be used.
    #[error("{pem} holds a CA certificate that cannot be used: {source}")]
    BadCa {
        /// Which.
        pem: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The system has no CA certificates.
    #[error("the system has no CA certificates: set tls_ca_file")]
    NoSystemRoots,
    /// The certificate and the key do not fit.
    #[error("the key {key} does not belong to the certificate {certificate}")]
    KeyMismatch {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
    },
    /// The certificate or the key cannot be used.
    #[error("the certificate {certificate} with the key {key} cannot be used: {source}")]
    BadIdentity {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
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

/// TLS towards a receiver. Files that change are read again for the next
/// connection.
#[derive(Clone)]
pub struct TlsTarget {
    options: TlsOptions,
    /// The name in the receivers' certificates, where it is not their hosts'.
    server_name: Option<ServerName<'static>>,
    loaded: Arc<Mutex<Loaded>>,
}

/// What the files held when they were read last.
struct Loaded {
    config: Arc<ClientConfig>,
    verdict: Verdict,
    stamps: Vec<Stamp>,
}

/// A client that has not said anything yet.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection,
    /// Where its verifier says which certificate it refused.
    pub(crate) verdict: Verdict,
}

impl fmt::Debug for TlsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTarget")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl TlsTarget {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    ///
    /// Where a file is missing, empty, not PEM or of the wrong kind, the key
    /// is not the certificate's, or the name is not one.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let server_name = options
            .server_name
            .as_ref()
            .map(|name| {
                ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))
            })
            .transpose()?;
        let loaded = Loaded::read(&options, options.stamps())?;
        Ok(Self {
            options,
            server_name,
            loaded: Arc::new(Mutex::new(loaded)),
        })
    }

    /// Reads files again that have changed. None where none has. Where they
    /// cannot be used, what was read before stays in force.
    pub(crate) fn refresh(&self) -> Option<Result<(), TlsError>> {
        let mut loaded = self.loaded.lock();
        let stamps = self.options.stamps();
        if stamps == loaded.stamps {
            return None;
        }
        // Also where they cannot be used: to say it once is enough.
        loaded.stamps.clone_from(&stamps);
        Some(Loaded::read(&self.options, stamps).map(|new| *loaded = new))
    }

    /// A client for a server of this host.
    pub(crate) fn client(&self, host: &Host) -> Result<Client, rustls::Error> {
        let loaded = self.loaded.lock();
        let name = self
            .server_name
            .clone()
            .unwrap_or_else(|| host.server_name());
        Ok(Client {
            connection: ClientConnection::new(Arc::clone(&loaded.config), name)?,
            verdict: loaded.verdict.clone(),
        })
    }
}

impl Loaded {
    /// `stamps` are from before: a change meanwhile is noticed next time.
    fn read(options: &TlsOptions, stamps: Vec<Stamp>) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = if options.only_tls13 {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        // A fingerprint alone is enough (RFC 5425, section 4.2.2), also for a
        // certificate that nobody but its owner signed.
        let needs_chain =
            !options.insecure_skip_verify && (options.pins.is_empty() || options.ca.is_some());
        let chain = if needs_chain {
            let roots = Arc::new(pem::roots(options.ca.as_ref())?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let built = verifier.build();
            Some(built.map_err(|error| TlsError::Verifier(error.to_string()))?)
        } else {
            None
        };
        let verdict = Verdict::default();
        let verifier = Arc::new(Verifier {
            chain,
            pins: options.pins.clone(),
            provider: Arc::clone(&provider),
            verdict: verdict.clone(),
        });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = identity.certificate.certificates()?;
                let key = identity.key.key()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| identity.error(source))?
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        // Said by RFC 9662, section 5, and the default: others could repeat it.
        config.enable_early_data = false;
        Ok(Self {
            config: Arc::new(config),
            verdict,
            stamps,
        })
    }
}

impl TlsOptions {
    fn stamps(&self) -> Vec<Stamp> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|identity| [&identity.certificate, &identity.key]);
        self.ca.iter().chain(identity).map(Pem::stamp).collect()
    }
}

impl Identity {
    fn error(&self, source: rustls::Error) -> TlsError {
        let (certificate, key) = (self.certificate.to_string(), self.key.to_string());
        match source {
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
                TlsError::KeyMismatch { certificate, key }
            }
            source => TlsError::BadIdentity {
                certificate,
                key,
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests;
