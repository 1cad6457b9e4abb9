//! PEM, from a file or from memory: what is in it, and whether it has changed.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Certificates or a key, in PEM. What it holds is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file, which is read again when it has changed.
    File(PathBuf),
    /// In memory.
    Text {
        /// What errors call it.
        name: String,
        /// The blocks.
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

/// What tells one state of a file from the next; none where there is no file.
/// A link that is set to another file, as Kubernetes does for Secrets, changes
/// it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 4]>);

impl Pem {
    /// What is in memory never changes.
    pub(super) fn stamp(&self) -> Stamp {
        let stamp = |data: Metadata| {
            [
                data.mtime(),
                data.mtime_nsec(),
                data.ino().cast_signed(),
                data.size().cast_signed(),
            ]
        };
        match self {
            Self::File(path) => Stamp(fs::metadata(path).ok().map(stamp)),
            Self::Text { .. } => Stamp(None),
        }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error("certificate", error))?;
        if certificates.is_empty() {
            return Err(self.error("certificate", pem::Error::NoItemsFound));
        }
        Ok(certificates)
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|error| self.error("private key", error))
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, TlsError> {
        match self {
            Self::File(path) => fs::read(path)
                .map(Cow::Owned)
                .map_err(|source| TlsError::Read {
                    pem: self.to_string(),
                    source,
                }),
            Self::Text { text, .. } => Ok(Cow::Borrowed(text)),
        }
    }

    fn error(&self, wanted: &'static str, error: pem::Error) -> TlsError {
        let pem = self.to_string();
        match error {
            pem::Error::NoItemsFound => TlsError::Missing { pem, wanted },
            error => TlsError::NotPem {
                pem,
                reason: error.to_string(),
            },
        }
    }
}

/// These CAs, or else the system's.
pub(super) fn roots(ca: Option<&Pem>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in pem.certificates()? {
            roots.add(certificate).map_err(|source| TlsError::BadCa {
                pem: pem.to_string(),
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
