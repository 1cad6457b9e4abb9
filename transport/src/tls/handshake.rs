//! A TLS handshake over a blocking socket, with details for the user.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, ProtocolVersion};

use super::{Client, Diagnosis, TlsFailure, TlsTarget, certificate};
use crate::endpoint::Host;

/// The time in which a receiver can reject our client certificate in TLS 1.3, where
/// our side of the handshake is done before the receiver decides.
const CONFIRM: Duration = Duration::from_millis(500);

/// The result of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The negotiated version and cipher suite, or the error.
    pub(crate) outcome: Result<String, HandshakeError>,
    /// Whether the receiver asked for a client certificate and none is configured.
    pub(crate) lacks_identity: bool,
    /// The chain that the receiver presented, its own certificate first.
    pub(crate) presented: Vec<String>,
}

/// The reason why a handshake failed.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    Tls(TlsFailure),
    Io(io::Error),
}

impl TlsTarget {
    /// Performs a handshake over a connection, whose socket timeouts apply, and closes
    /// the TLS session.
    pub(crate) fn handshake(&self, host: &Host, stream: &mut TcpStream) -> Handshake {
        let Client {
            mut connection,
            mut diagnosis,
        } = match self.client(host) {
            Ok(client) => client,
            Err(failure) => {
                return Handshake {
                    outcome: Err(HandshakeError::Tls(failure)),
                    lacks_identity: false,
                    presented: Vec::new(),
                };
            }
        };
        let outcome = finish(&mut connection, &mut diagnosis, stream);
        if outcome.is_ok() {
            connection.send_close_notify();
        }
        // Sends close_notify, or the alert for a failed check. Best effort.
        let _ = connection.write_tls(stream);
        let accepted = connection.peer_certificates().unwrap_or_default();
        let presented = accepted.iter().chain(&diagnosis.refused().chain);
        Handshake {
            outcome: outcome.map(|()| negotiated(&connection)),
            lacks_identity: diagnosis.lacks_identity(),
            presented: presented.map(certificate::describe).collect(),
        }
    }

    /// Returns whether the receiver's certificate chain is verified.
    pub(crate) fn verifies(&self) -> bool {
        !self.options.insecure_skip_verify
    }

    /// Returns the subjects of the configured CAs, or None if the system's CAs are
    /// used.
    pub(crate) fn trusted_subjects(&self) -> Option<Vec<String>> {
        let certificates = self.options.ca.as_ref()?.certificates().ok()?;
        Some(certificates.iter().map(certificate::subject).collect())
    }
}

fn finish(
    connection: &mut ClientConnection,
    diagnosis: &mut Diagnosis,
    stream: &mut TcpStream,
) -> Result<(), HandshakeError> {
    while connection.is_handshaking() {
        exchange(connection, diagnosis, stream).map_err(HandshakeError::with_timeout)?;
    }
    flush(connection, stream)
        .map_err(|error| HandshakeError::with_timeout(HandshakeError::Io(error)))?;
    let is_undecided = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && diagnosis.is_asked()
        && connection.tls13_tickets_received() == 0;
    if !is_undecided {
        return Ok(());
    }
    stream
        .set_read_timeout(Some(CONFIRM))
        .map_err(HandshakeError::Io)?;
    match exchange(connection, diagnosis, stream) {
        // No alert in time counts as acceptance, like a ticket.
        Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// Sends pending data, and reads and processes the answer.
fn exchange(
    connection: &mut ClientConnection,
    diagnosis: &mut Diagnosis,
    stream: &mut TcpStream,
) -> Result<(), HandshakeError> {
    flush(connection, stream).map_err(HandshakeError::Io)?;
    if connection.wants_read() && connection.read_tls(stream).map_err(HandshakeError::Io)? == 0 {
        return Err(HandshakeError::Io(ErrorKind::UnexpectedEof.into()));
    }
    diagnosis.process(connection).map_err(HandshakeError::Tls)
}

fn flush(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(stream)?;
    }
    Ok(())
}

/// Returns the negotiated version and cipher suite.
fn negotiated(connection: &ClientConnection) -> String {
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str());
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    format!("{} with {}", version.unwrap_or("?"), suite.unwrap_or("?"))
}

impl HandshakeError {
    /// Turns `WouldBlock`, which a socket returns after a timeout, into a clear error.
    fn with_timeout(self) -> Self {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::WouldBlock => {
                Self::Io(io::Error::new(ErrorKind::TimedOut, "no answer in time"))
            }
            other => other,
        }
    }
}
