//! One handshake, and everything about it that people want to know.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use rustls::ClientConnection;

use super::{Client, TlsTarget, certificate};
use crate::endpoint::Host;

/// What came of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The version and the cipher suite; or what went wrong.
    pub(crate) outcome: Result<String, io::Error>,
    /// The chain that the receiver presented, its own certificate first.
    pub(crate) presented: Vec<String>,
}

impl TlsTarget {
    /// Shakes hands over a connection, whose timeouts bound it, and says goodbye.
    pub(crate) fn shake_hands(&self, host: &Host, stream: &mut TcpStream) -> Handshake {
        let Client {
            mut connection,
            verdict,
        } = match self.client(host) {
            Ok(client) => client,
            Err(error) => {
                return Handshake {
                    outcome: Err(io::Error::other(error)),
                    presented: Vec::new(),
                };
            }
        };
        let mut outcome = Ok(());
        while outcome.is_ok() && connection.is_handshaking() {
            outcome = connection.complete_io(stream).map(drop);
        }
        let outcome = outcome.map_err(bounded).map(|()| agreed(&connection));
        if outcome.is_ok() {
            connection.send_close_notify();
            // Who does not hear it has what it needs.
            let _ = connection.write_tls(stream);
        }
        let refused = verdict.take_chain();
        let accepted = connection.peer_certificates().unwrap_or_default();
        let presented = accepted.iter().chain(&refused);
        Handshake {
            outcome,
            presented: presented.map(certificate::describe).collect(),
        }
    }

    /// Whether the receiver's chain of certificates is looked at.
    pub(crate) fn verifies(&self) -> bool {
        !self.options.insecure_skip_verify
    }

    /// The subjects of the CAs that may sign the receiver's certificate; none
    /// where those are the system's.
    pub(crate) fn trusted(&self) -> Option<Vec<String>> {
        let certificates = self.options.ca.as_ref()?.certificates().ok()?;
        Some(certificates.iter().map(certificate::subject).collect())
    }
}

fn agreed(connection: &ClientConnection) -> String {
    let version = connection.protocol_version();
    let version = version.and_then(|version| version.as_str());
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    format!("{} with {}", version.unwrap_or("?"), suite.unwrap_or("?"))
}

/// A timeout of a socket has a name that says nothing.
fn bounded(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    }
}
