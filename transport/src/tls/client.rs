//! The TLS client of one connection, and the diagnosis of its failures.

use rustls::{ClientConnection, Error, PeerMisbehaved};

use super::failure::{ClientAuth, Progress, TlsFailure, is_answered};
use super::notes::{Notes, Refused};
use super::refusal::{Refusal, Subject};
use super::{certificate, key};

/// A client whose handshake has not started.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection,
    pub(crate) diagnosis: Diagnosis,
}

/// The state from which failures of one connection are explained.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    notes: Notes,
    refused: Refused,
    /// Whether the receiver asked for a client certificate.
    asked: bool,
    has_identity: bool,
    only_tls13: bool,
}

impl Diagnosis {
    pub(super) fn new(notes: Notes, has_identity: bool, only_tls13: bool) -> Self {
        Self {
            notes,
            refused: Refused::default(),
            asked: false,
            has_identity,
            only_tls13,
        }
    }

    /// Processes the records that the connection has read.
    pub(crate) fn process(&mut self, connection: &mut ClientConnection) -> Result<(), TlsFailure> {
        let processed = connection.process_new_packets();
        self.asked |= self.notes.take_asked();
        match processed {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(&error, is_answered(connection))),
        }
    }

    fn explain(&mut self, error: &Error, answered: bool) -> TlsFailure {
        self.refused = self.notes.take_refused().unwrap_or_default();
        let leaf = self.refused.chain.first();
        match (error, leaf.and_then(key::unsupported)) {
            (Error::InvalidCertificate(error), _) => {
                TlsFailure::Certificate(Refusal::new(error, &self.refused))
            }
            // The receiver signed with an algorithm that we did not offer.
            (
                Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme),
                Some(key),
            ) => TlsFailure::Certificate(Refusal::UnsupportedKey {
                subject: Subject::Receiver,
                key,
            }),
            (error, _) => {
                let client = match (self.asked, self.has_identity) {
                    (false, _) => ClientAuth::NotRequested,
                    (true, false) => ClientAuth::Missing,
                    (true, true) => ClientAuth::Presented,
                };
                let progress = Progress {
                    answered,
                    client,
                    only_tls13: self.only_tls13,
                };
                TlsFailure::new(error, progress)
            }
        }
    }

    /// Returns whether the receiver asked for a client certificate.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked
    }

    /// Returns whether the receiver asked for a client certificate and none is
    /// configured.
    pub(crate) const fn lacks_identity(&self) -> bool {
        self.asked && !self.has_identity
    }

    /// Takes the description of the receiver's certificate, if it was rejected.
    pub(crate) fn take(&mut self) -> Option<String> {
        let refused = std::mem::take(&mut self.refused);
        refused.chain.first().map(certificate::describe)
    }

    /// Returns the rejected chain, which is empty if none was rejected.
    pub(super) fn refused(&self) -> &Refused {
        &self.refused
    }
}
