//! One handshake, and everything about it that people want to know.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, ProtocolVersion};

use super::{Client, Diagnosis, TlsFailure, TlsTarget, certificate};
use crate::endpoint::Host;

/// How long a receiver that asked for a client certificate has to refuse it in
/// TLS 1.3, where our side of the handshake is done before it decides.
const CONFIRM: Duration = Duration::from_millis(500);

/// The result of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The version and the cipher suite, or the reason of the failure.
    pub(crate) outcome: Result<String, HandshakeError>,
    /// Whether the receiver asked for a client certificate, and there is none.
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
    /// Shakes hands over a connection, whose timeouts bound it, and says goodbye.
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
        // close_notify, or the alert that names the failed check. Nothing
        // depends on whether it arrives.
        let _ = connection.write_tls(stream);
        let accepted = connection.peer_certificates().unwrap_or_default();
        let presented = accepted.iter().chain(&diagnosis.refused().chain);
        Handshake {
            outcome: outcome.map(|()| agreed(&connection)),
            lacks_identity: diagnosis.lacks_identity(),
            presented: presented.map(certificate::describe).collect(),
        }
    }

    /// Whether the receiver's chain of certificates is verified.
    pub(crate) fn verifies(&self) -> bool {
        !self.options.insecure_skip_verify
    }

    /// The subjects of the CAs that may sign the receiver's certificate; none
    /// where those are the system's.
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
        turn(connection, diagnosis, stream).map_err(HandshakeError::bounded)?;
    }
    flush(connection, stream)
        .map_err(|error| HandshakeError::bounded(HandshakeError::Io(error)))?;
    let is_undecided = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && diagnosis.is_asked()
        && connection.tls13_tickets_received() == 0;
    if !is_undecided {
        return Ok(());
    }
    stream
        .set_read_timeout(Some(CONFIRM))
        .map_err(HandshakeError::Io)?;
    match turn(connection, diagnosis, stream) {
        // Its silence is as good as a ticket.
        Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// Sends what there is, and processes the answer.
fn turn(
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

fn agreed(connection: &ClientConnection) -> String {
    let version = connection.protocol_version();
    let version = version.and_then(|version| version.as_str());
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    format!("{} with {}", version.unwrap_or("?"), suite.unwrap_or("?"))
}

impl HandshakeError {
    /// A timeout of a socket has a name that says nothing.
    fn bounded(self) -> Self {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::WouldBlock => {
                Self::Io(io::Error::new(ErrorKind::TimedOut, "no answer in time"))
            }
            other => other,
        }
    }
}
