//! A TCP socket, with the count of acknowledged bytes.

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
    /// Whether the kernel signals acknowledgements.
    pub(super) signals_acknowledgements: bool,
    /// The number of bytes that the kernel has taken.
    pub(super) written: u64,
}

impl Tcp {
    /// Starts to connect. `acknowledgements` enables signals for
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

    /// Returns whether the connection is established.
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

    /// Writes several slices with one system call. Returns the number of bytes that
    /// the kernel has taken, which is zero if the send buffer is full.
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            // Without the flag, a closed connection raises SIGPIPE, which would
            // terminate a process that does not ignore it.
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
                    // A reset may have arrived directly after the FIN.
                    self.check_reset(peer)?;
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

    /// Returns the position up to which the peer's kernel has acknowledged
    /// everything.
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
        // The default maximum in Linux: half of the 6 MiB of `net.ipv4.tcp_rmem`.
        const DEFAULT: usize = 3 << 20;

        peer_window(&self.socket).unwrap_or(DEFAULT)
    }

    /// See [`super::Connection::probe_for_reset`].
    pub(super) fn probe_for_reset(&self) {
        // If this fails, only a reset that the peer sends unasked is noticed.
        let _ = probe_soon(&self.socket);
    }

    /// Returns an error if the connection was reset.
    pub(super) fn check_reset(&self, peer: SocketAddr) -> Result<(), Error> {
        match self.socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(source)) | Err(source) => Err(Error::Broken { peer, source }),
        }
    }

    /// Sends FIN.
    pub(super) fn shut_down(&self) {
        // An error means that the connection has already ended.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
