//! PEM from a file or from memory: parsing, and detection of changes.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::notes::Refused;
use super::{Refusal, TlsError, blocks, key};

/// Certificates or a key in PEM format. `Debug` and `Display` do not show the content.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The path of a file, which is read again when it changes.
    File(PathBuf),
    /// A text in memory.
    Text {
        /// The name of the text in errors.
        name: String,
        /// The text in PEM format.
        text: Vec<u8>,
    },
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({self})")
    }
}

/// The metadata of a file from which a change is detected. None if there is no file. A
/// symbolic link that is switched to a different file, as Kubernetes does for Secrets,
/// is detected as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState(Option<[i64; 4]>);

impl Pem {
    /// Returns the current state of the file. A text in memory never changes.
    pub(super) fn file_state(&self) -> FileState {
        let fields = |data: Metadata| {
            [
                data.mtime(),
                data.mtime_nsec(),
                data.ino().cast_signed(),
                data.size().cast_signed(),
            ]
        };
        match self {
            Self::File(path) => FileState(fs::metadata(path).ok().map(fields)),
            Self::Text { .. } => FileState(None),
        }
    }

    /// Checks that the PEM contains usable CA certificates.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM cannot be read or contains no usable CA certificate.
    pub fn check_ca(&self) -> Result<(), TlsError> {
        self.roots().map(drop)
    }

    /// Returns the CAs as trust anchors, and their certificates.
    pub(super) fn roots(&self) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
        let certificates = self.certificates()?;
        // A bundle may contain unsupported CAs beside the one that is needed.
        let mut keys = certificates.iter().map(key::unsupported);
        if let Some(Some(key)) = keys.next()
            && keys.all(|key| key.is_some())
        {
            let pem = self.to_string();
            return Err(TlsError::UnsupportedKey { pem, key });
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| TlsError::BadCa {
                pem: self.to_string(),
                reason: reason(&error),
            })?;
        }
        Ok((roots, certificates))
    }

    /// Returns the certificates, of which there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        const WANTED: &str = "certificate";
        let text = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error(WANTED, &text, &error))?;
        if certificates.is_empty() {
            return Err(self.error(WANTED, &text, &pem::Error::NoItemsFound));
        }
        Ok(certificates)
    }

    /// Returns the first private key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = self.read()?;
        PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| self.error("private key", &text, &error))
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, TlsError> {
        let bytes = match self {
            Self::File(path) => {
                fs::read(path)
                    .map(Cow::Owned)
                    .map_err(|source| TlsError::Read {
                        pem: self.to_string(),
                        source,
                    })?
            }
            Self::Text { text, .. } => Cow::Borrowed(&text[..]),
        };
        Ok(blocks::repair(bytes))
    }

    /// Explains why the text has no valid block of the kind `wanted`.
    fn error(&self, wanted: &'static str, text: &[u8], error: &pem::Error) -> TlsError {
        let pem = self.to_string();
        if let Some(form) = blocks::binary(text) {
            return TlsError::Binary { pem, wanted, form };
        }
        if wanted == "private key" && blocks::holds_encrypted_key(text) {
            return TlsError::EncryptedKey { pem };
        }
        match error {
            pem::Error::NoItemsFound => TlsError::Missing {
                pem,
                wanted,
                found: blocks::labels(text),
            },
            error => TlsError::NotPem {
                pem,
                reason: blocks::reason(error),
            },
        }
    }
}

/// Returns the system's CAs.
pub(super) fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Ignores certificates that the verifier cannot parse.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots);
    }
    Ok(roots)
}

fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            Refusal::new(error, &Refused::default()).to_string()
        }
        error => error.to_string(),
    }
}
