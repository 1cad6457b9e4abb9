//! Observations that rustls's errors leave out: its callbacks make them, and
//! whoever runs the connection takes them right afterwards.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

/// Observations of the connection that processes what it has read right now.
/// All connections of a target share them, since a session is resumed with the
/// same verifier only; they run on one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    refused: Option<Refused>,
    asked: bool,
}

/// The chain that was refused, the receiver's own certificate first.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the chain was in order, and the signature of the handshake not.
    pub(super) for_signature: bool,
}

impl Notes {
    pub(super) fn refuse(&self, refused: Refused) {
        self.0.lock().refused = Some(refused);
    }

    pub(super) fn take_refused(&self) -> Option<Refused> {
        self.0.lock().refused.take()
    }

    /// Whether the receiver asked for a client certificate.
    pub(super) fn take_asked(&self) -> bool {
        std::mem::take(&mut self.0.lock().asked)
    }
}

/// Our certificate, if there is one, and a note of each request for it.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    pub(super) certified: Option<Arc<CertifiedKey>>,
    pub(super) notes: Notes,
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.notes.0.lock().asked = true;
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}
