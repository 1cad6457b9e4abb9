//! TLS for syslog as specified by RFC 5425 and RFC 9662: TLS 1.2 or 1.3, with the
//! receiver's certificate verified and without early data.
//!
//! The cryptography is ring, which builds with a C compiler alone.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

pub use self::blocks::Binary;
pub(crate) use self::client::{Client, Diagnosis};
use self::configured::Configured;
pub use self::error::TlsError;
pub use self::failure::{Alert, TlsFailure};
pub use self::fingerprint::{Fingerprint, FingerprintError};
pub(crate) use self::handshake::HandshakeError;
use self::notes::{ClientCertificate, Notes};
use self::pem::FileState;
pub use self::pem::Pem;
pub use self::refusal::{Refusal, Subject};
use self::verifier::{Trust, Verifier};
use crate::endpoint::Host;

mod blocks;
mod certificate;
mod client;
mod configured;
mod error;
mod failure;
mod fingerprint;
mod handshake;
mod key;
mod notes;
mod pem;
mod refusal;
mod signature;
mod verifier;
mod words;

/// The maximum number of servers for which a sink caches a TLS session.
const SESSIONS: usize = 16;

/// The TLS settings of a target.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The CAs that may sign the receiver's certificate, and certificates that the
    /// receiver may present itself. The system's CAs if None.
    pub ca: Option<Pem>,
    /// The client's certificate chain and private key.
    pub identity: Option<Identity>,
    /// The name in the receiver's certificate, if it differs from the host.
    pub server_name: Option<String>,
    /// The pinned fingerprints: the receiver's certificate must have one of them.
    /// Without a `ca`, a matching fingerprint is sufficient.
    pub pins: Vec<Fingerprint>,
    /// Whether to skip the verification of the certificate's chain and name. Pins are
    /// still checked.
    pub insecure_skip_verify: bool,
    /// Whether to require TLS 1.3.
    pub only_tls13: bool,
}

/// A client certificate and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, followed by its intermediate certificates.
    pub certificate: Pem,
    /// The certificate's private key.
    pub key: Pem,
}

/// The TLS configuration for a receiver. Files that have changed are read again
/// before the next connection.
#[derive(Clone)]
pub struct TlsTarget {
    options: TlsOptions,
    /// The name in the servers' certificates, if it differs from their hosts.
    server_name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
    loaded: Arc<Mutex<Loaded>>,
}

/// The configuration from the files as last read.
struct Loaded {
    config: Arc<ClientConfig>,
    notes: Notes,
    /// The states of the files when they were read.
    file_states: Vec<FileState>,
}

impl fmt::Debug for TlsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTarget")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl TlsTarget {
    /// Reads the files and checks that they are consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is missing, empty, not PEM or of the wrong kind, if
    /// the key does not belong to the certificate, or if the server name is invalid.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        Self::with_provider(options, rustls::crypto::ring::default_provider())
    }

    /// Like [`TlsTarget::new`], with a different crypto provider.
    pub(crate) fn with_provider(
        options: TlsOptions,
        provider: CryptoProvider,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider);
        let server_name = options
            .server_name
            .as_ref()
            .map(|name| {
                ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))
            })
            .transpose()?;
        let loaded = Loaded::read(&options, options.file_states(), &provider)?;
        Ok(Self {
            options,
            server_name,
            provider,
            loaded: Arc::new(Mutex::new(loaded)),
        })
    }

    /// Reads the files again if one has changed. Returns None if none has changed.
    /// After an error, the previous configuration stays in use.
    pub(crate) fn refresh(&self) -> Option<Result<(), TlsError>> {
        let mut loaded = self.loaded.lock();
        let file_states = self.options.file_states();
        if file_states == loaded.file_states {
            return None;
        }
        // Updated even after an error, so that each error is reported once.
        loaded.file_states.clone_from(&file_states);
        let new = Loaded::read(&self.options, file_states, &self.provider);
        Some(new.map(|new| *loaded = new))
    }

    /// Creates a client for a server of this host.
    pub(crate) fn client(&self, host: &Host) -> Result<Client, TlsFailure> {
        let loaded = self.loaded.lock();
        let name = self
            .server_name
            .clone()
            .unwrap_or_else(|| host.server_name());
        let connection = ClientConnection::new(Arc::clone(&loaded.config), name)
            .map_err(|error| TlsFailure::Internal(error.to_string()))?;
        let has_identity = self.options.identity.is_some();
        Ok(Client {
            connection,
            diagnosis: Diagnosis::new(loaded.notes.clone(), has_identity, self.options.only_tls13),
        })
    }
}

impl Loaded {
    /// Reads the files. `file_states` must be taken before, so that a change during
    /// the read is noticed by the next [`TlsTarget::refresh`].
    fn read(
        options: &TlsOptions,
        file_states: Vec<FileState>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let versions: &[&SupportedProtocolVersion] = if options.only_tls13 {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let notes = Notes::default();
        let verifier = Arc::new(Verifier {
            trust: options.trust(provider)?,
            pins: options.pins.clone(),
            provider: Arc::clone(provider),
            notes: notes.clone(),
        });
        let certified = options.identity.as_ref();
        let certified = certified.map(|identity| identity.load(provider));
        let ours = ClientCertificate {
            certified: certified.transpose()?.map(Arc::new),
            notes: notes.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(ours));
        // OpenSSL aborts the resumption of a session with a client certificate
        // (`internal_error`) unless the server has set a session id context, which
        // rsyslog does not do.
        config.resumption = if options.identity.is_some() {
            Resumption::disabled()
        } else {
            Resumption::in_memory_sessions(SESSIONS)
        };
        // Early data can be replayed by an attacker (RFC 9662, section 5). Off is
        // also the default.
        config.enable_early_data = false;
        Ok(Self {
            config: Arc::new(config),
            notes,
            file_states,
        })
    }
}

impl TlsOptions {
    fn file_states(&self) -> Vec<FileState> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|identity| [&identity.certificate, &identity.key]);
        self.ca
            .iter()
            .chain(identity)
            .map(Pem::file_state)
            .collect()
    }

    /// Returns the trusted certificates, or None if the chain is not verified. A
    /// fingerprint alone is sufficient (RFC 5425, section 4.2.2), also for a
    /// self-signed certificate.
    fn trust(&self, provider: &Arc<CryptoProvider>) -> Result<Option<Trust>, TlsError> {
        let is_pin_enough = self.ca.is_none() && !self.pins.is_empty();
        if self.insecure_skip_verify || is_pin_enough {
            return Ok(None);
        }
        let (roots, configured) = match &self.ca {
            Some(ca) => ca.roots()?,
            None => (pem::system_roots()?, Vec::new()),
        };
        let roots = Arc::new(roots);
        let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Verifier(error.to_string()))?;
        let configured = Configured(configured);
        Ok(Some(Trust { chain, configured }))
    }
}

impl Identity {
    /// Checks that the certificate and the key can be used and belong together.
    ///
    /// # Errors
    ///
    /// Returns an error if one of them cannot be read or is not supported, or if they
    /// do not belong together.
    pub fn check(&self) -> Result<(), TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        self.load(&provider).map(drop)
    }

    /// Loads the certificate and the key. Any version of X.509 is accepted: the
    /// receiver decides which ones it supports.
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = self.certificate.certificates()?;
        let certificate = &chain[0];
        let pem = || self.certificate.to_string();
        if let Some(key) = key::unsupported(certificate) {
            return Err(TlsError::UnsupportedKey { pem: pem(), key });
        }
        let spki = key::spki(certificate).map(<[u8]>::to_vec);
        let spki = spki.ok_or_else(|| TlsError::BadCertificate { pem: pem() })?;
        let key = provider.key_provider.load_private_key(self.key.key()?);
        let key = key.map_err(|_| TlsError::BadKey {
            pem: self.key.to_string(),
        })?;
        match key.public_key() {
            Some(public) if public.as_ref() != spki => Err(TlsError::KeyMismatch {
                certificate: pem(),
                key: self.key.to_string(),
            }),
            _ => Ok(CertifiedKey::new(chain, key)),
        }
    }
}

#[cfg(test)]
mod tests;
