//! Observations that the errors of rustls do not include. The callbacks of rustls make
//! them, and the owner of the connection takes them directly afterwards.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

/// Observations of the connection that is processing received records. All connections
/// of a target share them, because a session can only be resumed with the same verifier.
/// The connections run on one thread, so the observations cannot mix.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    refused: Option<Refused>,
    asked: bool,
}

/// A rejected chain, with the receiver's own certificate first.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the handshake's signature was invalid, not the chain.
    pub(super) for_signature: bool,
}

impl Notes {
    pub(super) fn refuse(&self, refused: Refused) {
        self.0.lock().refused = Some(refused);
    }

    pub(super) fn take_refused(&self) -> Option<Refused> {
        self.0.lock().refused.take()
    }

    /// Returns whether the receiver asked for a client certificate, and resets that.
    pub(super) fn take_asked(&self) -> bool {
        std::mem::take(&mut self.0.lock().asked)
    }
}

/// Supplies our certificate, if configured, and notes each request for it.
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
