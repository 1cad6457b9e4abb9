//! A UDP socket: each write is one datagram, and nothing is acknowledged.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;

use super::ReadProgress;
use crate::Error;

/// The maximum payload of a datagram over IPv4 in bytes: 65,535 minus the UDP and
/// IPv4 headers (RFC 5426, section 3.2).
pub const UDP_MAX_IPV4: usize = 65_507;
/// The maximum payload of a datagram over IPv6 in bytes: 65,535 minus the UDP
/// header.
pub const UDP_MAX_IPV6: usize = 65_527;

#[derive(Debug)]
pub(super) struct Udp {
    pub(super) socket: UdpSocket,
    /// The number of bytes that our own kernel has taken.
    pub(super) sent: u64,
}

impl Udp {
    pub(super) fn open(peer: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if peer.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(peer)?;
        Ok(Self { socket, sent: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8], peer: SocketAddr) -> Result<usize, Error> {
        let length = bytes.len();
        match self.socket.send(bytes) {
            Ok(_) => {
                self.sent += length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(source) if source.raw_os_error() == Some(libc::EMSGSIZE) => {
                Err(Error::DatagramTooLong { length, source })
            }
            Err(source) => Err(Error::Broken { peer, source }),
        }
    }

    /// Returns an error if an ICMP error has arrived. This ends the connection, and
    /// the name is resolved again: its address may have changed.
    pub(super) fn read(&self, peer: SocketAddr) -> Result<ReadProgress, Error> {
        match self.socket.take_error() {
            Ok(None) => Ok(ReadProgress::Drained),
            Ok(Some(source)) | Err(source) => Err(Error::Broken { peer, source }),
        }
    }
}
