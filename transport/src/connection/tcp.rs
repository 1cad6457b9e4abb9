//! A TCP socket, and what its peer's kernel has acknowledged.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;
use socket2::SockRef;

use super::{MAX_READS, OnData, READ_BUFFER, ReadProgress};
use crate::socket::{
    clear_error_queue, enable_ack_signals, peer_window, probe_soon, tune, unacknowledged,
};
use crate::{Error, Target};

#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) socket: TcpStream,
    /// Whether the kernel says when something is acknowledged.
    pub(super) signals_acknowledgements: bool,
    /// Bytes that the kernel took.
    pub(super) written: u64,
}

impl Tcp {
    /// Begins to connect. `acknowledgements` says whether it will be asked for
    /// [`Tcp::acknowledged`].
    pub(super) fn open(
        target: &Target,
        peer: SocketAddr,
        acknowledgements: bool,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(peer)?;
        tune(&socket, target.keepalive, target.user_timeout)?;
        Ok(Self {
            signals_acknowledgements: acknowledgements && enable_ack_signals(&socket).is_ok(),
            socket,
            written: 0,
        })
    }

    /// Whether the connection is made.
    pub(super) fn is_established(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], peer: SocketAddr) -> Result<usize, Error> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = IoSlice::new(&bytes[taken..]);
            let written = self.write_vectored(&[rest]);
            match written.map_err(|source| Error::Broken { peer, source })? {
                0 => break,
                count => taken += count,
            }
        }
        Ok(taken)
    }

    /// What the kernel takes at once of several slices; zero bytes where it
    /// takes none now.
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            // A peer may be gone: SIGPIPE ends a process that does not ignore it.
            let socket = SockRef::from(&self.socket);
            match socket.send_vectored_with_flags(slices, libc::MSG_NOSIGNAL) {
                Ok(count) => {
                    self.written += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn read(
        &mut self,
        peer: SocketAddr,
        on_data: &mut OnData<'_>,
    ) -> Result<ReadProgress, Error> {
        let mut buffer = [0; READ_BUFFER];
        for _ in 0..MAX_READS {
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    // A reset may have come right behind the FIN.
                    self.check(peer)?;
                    return Err(Error::Closed { peer });
                }
                Ok(count) => on_data(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(ReadProgress::Drained);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer, source }),
            }
        }
        Ok(ReadProgress::MorePending)
    }

    /// The position up to which the peer's kernel has everything.
    pub(super) fn acknowledged(&self, peer: SocketAddr) -> Result<u64, Error> {
        if self.signals_acknowledgements {
            clear_error_queue(&self.socket);
        }
        let outstanding =
            unacknowledged(&self.socket).map_err(|source| Error::Broken { peer, source })?;
        Ok(self.written.saturating_sub(outstanding))
    }

    /// See [`super::Connection::window`].
    pub(super) fn window(&self) -> usize {
        // What Linux grants by default: half of `net.ipv4.tcp_rmem`'s 6 MiB.
        const UNKNOWN: usize = 3 << 20;

        peer_window(&self.socket).unwrap_or(UNKNOWN)
    }

    /// See [`super::Connection::probe_for_reset`].
    pub(super) fn probe_for_reset(&self) {
        // Without it a reset has to arrive by itself, as nearly all do.
        let _ = probe_soon(&self.socket);
    }

    /// Whether the connection was reset.
    pub(super) fn check(&self, peer: SocketAddr) -> Result<(), Error> {
        match self.socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(source)) | Err(source) => Err(Error::Broken { peer, source }),
        }
    }

    /// Says FIN.
    pub(super) fn shut_down(&self) {
        // A peer that is gone needs no goodbye.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
