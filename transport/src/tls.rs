//! TLS as RFC 5425 and RFC 9662 want it for syslog: TLS 1.2 or 1.3, the
//! receiver's certificate verified, no early data.

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

/// How many servers a sink remembers a session of.
const SESSIONS: usize = 16;

/// What a user says about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The CAs that may sign the receiver's certificate, and certificates that
    /// a receiver may present itself; the system's CAs where there is none.
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

/// TLS towards a receiver. Files that change are read again for the next
/// connection.
#[derive(Clone)]
pub struct TlsTarget {
    options: TlsOptions,
    /// The name in the receivers' certificates, where it is not their hosts'.
    server_name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
    loaded: Arc<Mutex<Loaded>>,
}

/// The content of the files when they were read last.
struct Loaded {
    config: Arc<ClientConfig>,
    notes: Notes,
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
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    ///
    /// Where a file is missing, empty, not PEM or of the wrong kind, the key
    /// is not the certificate's, or the name is not one.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        Self::with_provider(options, rustls::crypto::ring::default_provider())
    }

    /// The same with cipher suites and keys of this provider.
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

    /// Reads files again that have changed. None where none has. Where they
    /// cannot be used, what was read before stays in force.
    pub(crate) fn refresh(&self) -> Option<Result<(), TlsError>> {
        let mut loaded = self.loaded.lock();
        let file_states = self.options.file_states();
        if file_states == loaded.file_states {
            return None;
        }
        // Also where they cannot be used: to say it once is enough.
        loaded.file_states.clone_from(&file_states);
        let new = Loaded::read(&self.options, file_states, &self.provider);
        Some(new.map(|new| *loaded = new))
    }

    /// A client for a server of this host.
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
    /// `file_states` are from before: a change meanwhile is noticed next time.
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
        // OpenSSL ends the resumption of a session with a client certificate
        // (`internal_error`) unless the server set a session id context, which
        // rsyslog does not.
        config.resumption = if options.identity.is_some() {
            Resumption::disabled()
        } else {
            Resumption::in_memory_sessions(SESSIONS)
        };
        // RFC 9662, section 5, and the default: others could repeat it.
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

    /// The certificates that are trusted. A fingerprint alone is enough
    /// (RFC 5425, section 4.2.2), also for a certificate that only its owner
    /// signed.
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
    /// Checks that the key is the certificate's, and that both can be used.
    ///
    /// # Errors
    ///
    /// Where that is not so, or one of them cannot be read.
    pub fn check(&self) -> Result<(), TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        self.load(&provider).map(drop)
    }

    /// A certificate of any version of X.509: the receiver decides on it.
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
