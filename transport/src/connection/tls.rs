//! A TLS connection over a TCP socket.
//!
//! Positions count bytes of the encrypted stream, so a batch is acknowledged with the
//! last encrypted byte of its last frame.
//!
//! A TLS 1.3 connection is confirmed before it is used. In TLS 1.3, a client completes
//! the handshake before the server has verified its certificate. The server's kernel
//! would acknowledge a batch sent then, and discard it with the connection. The first
//! batch therefore waits until the server has sent something (a session ticket, which
//! nearly all servers send), or for a short time (`attempt.rs`).
//!
//! RFC 8446, section 5.5 limits how many records one key may encrypt, and rustls
//! enforces the limit by refusing to write. A connection that is near the limit is
//! replaced when nothing is in flight.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

use rustls::{ClientConnection, ProtocolVersion, SupportedCipherSuite};

use super::tcp::Tcp;
use super::{MAX_READS, OnData, READ_BUFFER, ReadProgress};
use crate::Error;
use crate::tls::Client;

/// The maximum number of bytes of plaintext in a record (RFC 8446, section 5.1).
const MAX_RECORD: usize = 16 * 1024;
/// The number of records before the limit of its keys at which a connection is
/// replaced: more than one write produces, with room for alerts.
const KEY_LIMIT_MARGIN: u64 = 64;

#[derive(Debug)]
pub(super) struct Tls {
    pub(super) tcp: Tcp,
    client: ClientConnection,
    diagnosis: crate::tls::Diagnosis,
    /// The encrypted bytes that the kernel has not taken yet.
    pending: Vec<u8>,
    /// The number of records produced by writes.
    records: u64,
}

impl Tls {
    pub(super) fn new(tcp: Tcp, client: Client) -> Self {
        let Client {
            connection,
            diagnosis,
        } = client;
        Self {
            tcp,
            client: connection,
            diagnosis,
            pending: Vec::new(),
            records: 0,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.client.is_handshaking()
    }

    /// Returns whether the peer is known to have accepted our handshake. In TLS 1.2
    /// the peer's Finished message proves that. In TLS 1.3 only later data does:
    /// a session ticket, if the server issues any.
    pub(super) fn is_confirmed(&self) -> bool {
        self.client.protocol_version() != Some(ProtocolVersion::TLSv1_3)
            || self.client.tls13_tickets_received() > 0
    }

    /// Returns whether the peer asked for a client certificate and none is
    /// configured.
    pub(super) fn lacks_identity(&self) -> bool {
        self.diagnosis.lacks_identity()
    }

    /// Returns whether the handshake resumed an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.client.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Accepts as many of `bytes` as TLS encrypts at once, and returns their number.
    /// Accepts nothing during the handshake, or while earlier data waits for the
    /// kernel.
    pub(super) fn write(&mut self, bytes: &[u8], peer: SocketAddr) -> Result<usize, Error> {
        self.flush(peer)?;
        if !self.pending.is_empty() || self.is_handshaking() {
            return Ok(0);
        }
        let before = self.wire_end();
        let taken = self
            .client
            .writer()
            .write(bytes)
            .map_err(|source| Error::Broken { peer, source })?;
        self.records += taken.div_ceil(MAX_RECORD) as u64;
        self.flush(peer)?;
        // With exhausted keys, rustls accepts bytes without producing records.
        if self.wire_end() - before < taken as u64 {
            return Err(Error::Stalled { peer });
        }
        Ok(taken)
    }

    /// Returns whether the keys are close to their limit of records. rustls updates
    /// the keys of TLS 1.3 itself. TLS 1.2 has no key update, and AES-GCM is limited
    /// to 2^24 records per key (RFC 8446, section 5.5).
    pub(super) fn is_near_key_limit(&self) -> bool {
        match self.client.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => {
                let limit = suite.common.confidentiality_limit;
                self.records >= limit.saturating_sub(KEY_LIMIT_MARGIN)
            }
            _ => false,
        }
    }

    /// Passes encrypted data to the kernel. The rest stays in `pending`, so that the
    /// end position of everything encrypted is known.
    pub(super) fn flush(&mut self, peer: SocketAddr) -> Result<(), Error> {
        let Self {
            tcp,
            client,
            pending,
            ..
        } = self;
        if !pending.is_empty() {
            let written = tcp.write(pending, peer)?;
            pending.drain(..written);
        }
        while client.wants_write() {
            client
                .write_tls(&mut RecordWriter { tcp, pending })
                .map_err(|source| Error::Broken { peer, source })?;
        }
        Ok(())
    }

    /// Returns the end position on the wire of everything accepted so far.
    pub(super) fn wire_end(&self) -> u64 {
        self.tcp.written + self.pending.len() as u64
    }

    pub(super) fn read(
        &mut self,
        peer: SocketAddr,
        on_data: &mut OnData<'_>,
    ) -> Result<ReadProgress, Error> {
        let mut buffer = [0; READ_BUFFER];
        for _ in 0..MAX_READS {
            match self.client.read_tls(&mut self.tcp.socket) {
                Ok(0) => return Err(Error::Truncated { peer }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Sends answers, for example to key updates.
                    self.flush(peer)?;
                    return Ok(ReadProgress::Drained);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer, source }),
            }
            if let Err(source) = self.diagnosis.process(&mut self.client) {
                // Sends the alert, if the peer still reads.
                let _ = self.flush(peer);
                return Err(Error::Tls {
                    peer,
                    certificate: self.diagnosis.take(),
                    source,
                });
            }
            loop {
                match self.client.reader().read(&mut buffer) {
                    // The peer has sent close_notify.
                    Ok(0) => return Err(Error::Closed { peer }),
                    Ok(count) => on_data(&buffer[..count])?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(source) => return Err(Error::Broken { peer, source }),
                }
            }
        }
        Ok(ReadProgress::MorePending)
    }

    /// Sends `close_notify` (RFC 5425, section 4.4) and FIN.
    pub(super) fn shut_down(&mut self, peer: SocketAddr) {
        self.client.send_close_notify();
        // Best effort: the send buffer may be full, or the connection gone.
        let _ = self.flush(peer);
        self.tcp.shut_down();
    }
}

/// A writer that accepts everything: data that the kernel does not take is
/// appended to `pending`.
struct RecordWriter<'a> {
    tcp: &'a mut Tcp,
    pending: &'a mut Vec<u8>,
}

impl Write for RecordWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        if self.pending.is_empty() {
            written = self.tcp.write_vectored(records)?;
        }
        let mut before = 0;
        for record in records {
            let taken = written.saturating_sub(before).min(record.len());
            self.pending.extend_from_slice(&record[taken..]);
            before += record.len();
        }
        Ok(before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
