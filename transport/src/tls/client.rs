//! One connection's TLS, and why it failed.

use rustls::{ClientConnection, Error, PeerMisbehaved};

use super::failure::{ClientAuth, Progress, TlsFailure, is_answered};
use super::notes::{Notes, Refused};
use super::refusal::{Refusal, Subject};
use super::{certificate, key};

/// A client that has not said anything yet.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection,
    pub(crate) diagnosis: Diagnosis,
}

/// Explains the failures of one connection.
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
            // A receiver that signs with a key that it was not offered.
            (
                Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme),
                Some(key),
            ) => TlsFailure::Certificate(Refusal::UnsupportedKey {
                subject: Subject::Receiver,
                key,
            }),
            (error, _) => {
                let client = match (self.asked, self.has_identity) {
                    (false, _) => ClientAuth::Unasked,
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

    /// Whether the receiver asked for a client certificate.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether the receiver asked for a client certificate, and there is none.
    pub(crate) const fn lacks_identity(&self) -> bool {
        self.asked && !self.has_identity
    }

    /// The receiver's certificate, where it was refused.
    pub(crate) fn take(&mut self) -> Option<String> {
        let refused = std::mem::take(&mut self.refused);
        refused.chain.first().map(certificate::describe)
    }

    /// The chain that was refused; empty where none was.
    pub(super) fn refused(&self) -> &Refused {
        &self.refused
    }
}
