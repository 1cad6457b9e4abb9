//! One connection to one address: TCP, TLS over TCP, or UDP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UdpSocket};
use rustls::{ClientConnection, ProtocolVersion};

use crate::socket::{announce_acknowledgements, forget_announcements, tune, unacknowledged};
use crate::{Error, Target, Transport};

/// How much the TLS stream encrypts at a time: four records of the size that
/// TLS allows at most (RFC 8446, section 5.1).
const TLS_WRITE: usize = 64 * 1024;
/// How much is read of what a peer says, at a time.
const READ: usize = 4096;
/// How often a peer that talks is listened to before the others get their turn.
const READS_PER_TURN: usize = 16;

/// A connection, from the first SYN on.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: SocketAddr,
    kind: Kind,
    established: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(Stream),
    Tls(Box<Tls>),
    Udp { socket: UdpSocket, sent: u64 },
}

#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    /// Whether the kernel says when something is acknowledged.
    announced: bool,
    /// Bytes that the kernel took.
    written: u64,
}

#[derive(Debug)]
struct Tls {
    stream: Stream,
    client: ClientConnection,
    /// Encrypted bytes that the kernel did not take yet.
    pending: Vec<u8>,
}

/// How far the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The handshakes go on.
    Connecting,
    /// Our side of the TLS 1.3 handshake is done, and the peer said nothing
    /// since. It may yet refuse our certificate (RFC 8446, section 4.4.2.4);
    /// what is sent before it does is lost.
    Unconfirmed,
    /// Ready for messages.
    Ready,
}

/// How much of what the peer said was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Everything.
    Everything,
    /// A turn's worth; the socket will not say again that there is more.
    Part,
}

impl Connection {
    /// Begins to connect to `peer`.
    pub(crate) fn open(target: &Target, peer: SocketAddr) -> Result<Self, Error> {
        let connect_error = |source| Error::Connect { peer, source };
        let tcp = || -> io::Result<Stream> {
            let socket = TcpStream::connect(peer)?;
            tune(&socket, target.keepalive, target.user_timeout)?;
            Ok(Stream {
                announced: announce_acknowledgements(&socket).is_ok(),
                socket,
                written: 0,
            })
        };
        let kind = match &target.transport {
            Transport::Tcp => Kind::Tcp(tcp().map_err(connect_error)?),
            Transport::Tls(tls) => Kind::Tls(Box::new(Tls {
                client: tls.client().map_err(|source| Error::Tls { peer, source })?,
                stream: tcp().map_err(connect_error)?,
                pending: Vec::new(),
            })),
            Transport::Udp => Kind::Udp {
                socket: udp(peer).map_err(connect_error)?,
                sent: 0,
            },
        };
        Ok(Self {
            peer,
            kind,
            established: false,
        })
    }

    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What the event loop has to watch.
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match &mut self.kind {
            Kind::Tcp(stream) => &mut stream.socket,
            Kind::Tls(tls) => &mut tls.stream.socket,
            Kind::Udp { socket, .. } => socket,
        }
    }

    /// Goes on with the handshakes, as far as they go without waiting.
    pub(crate) fn advance(&mut self) -> Result<Progress, Error> {
        let peer = self.peer;
        let socket = match &self.kind {
            Kind::Udp { .. } => return Ok(Progress::Ready),
            Kind::Tcp(stream) => &stream.socket,
            Kind::Tls(tls) => &tls.stream.socket,
        };
        if !self.established {
            let connect_error = |source| Error::Connect { peer, source };
            if let Some(source) = socket.take_error().map_err(connect_error)? {
                return Err(connect_error(source));
            }
            match socket.peer_addr() {
                Ok(_) => self.established = true,
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(Progress::Connecting);
                }
                Err(source) => return Err(connect_error(source)),
            }
        }
        let Kind::Tls(tls) = &mut self.kind else {
            return Ok(Progress::Ready);
        };
        tls.flush(peer)?;
        match tls.read(peer) {
            // The peer's alert, if any, came before its end and says more.
            Err(Error::Closed { .. } | Error::Truncated { .. }) => {
                return Err(Error::ClosedInHandshake { peer });
            }
            other => other?,
        };
        tls.flush(peer)?;
        Ok(if tls.client.is_handshaking() {
            Progress::Connecting
        } else if tls.confirmed() {
            Progress::Ready
        } else {
            Progress::Unconfirmed
        })
    }

    /// Takes as many of `bytes` as go without waiting, and says how many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let peer = self.peer;
        match &mut self.kind {
            Kind::Tcp(stream) => stream.write(bytes, peer),
            Kind::Tls(tls) => tls.write(bytes, peer),
            Kind::Udp { socket, sent } => match socket.send(bytes) {
                Ok(_) => {
                    *sent += bytes.len() as u64;
                    Ok(bytes.len())
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(source) if source.raw_os_error() == Some(libc::EMSGSIZE) => {
                    Err(Error::DatagramTooLong {
                        length: bytes.len(),
                        source,
                    })
                }
                Err(source) => Err(Error::Broken { peer, source }),
            },
        }
    }

    /// Whether each write is a message of its own.
    pub(crate) const fn is_datagram(&self) -> bool {
        matches!(self.kind, Kind::Udp { .. })
    }

    /// Hands over what [`Connection::write`] took and the kernel did not.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let peer = self.peer;
        match &mut self.kind {
            Kind::Tls(tls) => tls.flush(peer),
            Kind::Tcp(_) | Kind::Udp { .. } => Ok(()),
        }
    }

    /// The position on the wire behind everything taken so far.
    pub(crate) fn taken(&self) -> u64 {
        match &self.kind {
            Kind::Tcp(stream) => stream.written,
            Kind::Tls(tls) => tls.stream.written + tls.pending.len() as u64,
            Kind::Udp { sent, .. } => *sent,
        }
    }

    /// The position on the wire up to which the peer's kernel has everything.
    /// For UDP, that up to which our own kernel has.
    pub(crate) fn acknowledged(&self) -> Result<u64, Error> {
        let stream = match &self.kind {
            Kind::Tcp(stream) => stream,
            Kind::Tls(tls) => &tls.stream,
            Kind::Udp { sent, .. } => return Ok(*sent),
        };
        if stream.announced {
            forget_announcements(&stream.socket);
        }
        let outstanding = unacknowledged(&stream.socket).map_err(|source| Error::Broken {
            peer: self.peer,
            source,
        })?;
        Ok(stream.written.saturating_sub(outstanding))
    }

    /// Whether the event loop wakes when something is acknowledged. Otherwise
    /// [`Connection::acknowledged`] has to be asked again and again.
    pub(crate) fn announces(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.announced,
            Kind::Tls(tls) => tls.stream.announced,
            Kind::Udp { .. } => true,
        }
    }

    /// Reads and forgets what the peer says: syslog has no answers. What is
    /// learnt is that the peer ended the connection ([`Error::Closed`],
    /// [`Error::Broken`]), or nothing.
    pub(crate) fn read(&mut self) -> Result<Heard, Error> {
        let peer = self.peer;
        match &mut self.kind {
            Kind::Tcp(stream) => stream.drain(peer),
            Kind::Tls(tls) => {
                let heard = tls.read(peer)?;
                // Answers to key updates and the like.
                tls.flush(peer)?;
                Ok(heard)
            }
            Kind::Udp { socket, .. } => {
                // An ICMP error ends the connection: the name may have another
                // address by now.
                match socket.take_error() {
                    Ok(None) => Ok(Heard::Everything),
                    Ok(Some(source)) | Err(source) => Err(Error::Broken { peer, source }),
                }
            }
        }
    }

    /// Says goodbye: `close_notify` (RFC 5425, section 4.4) and FIN. Nothing
    /// can be written afterwards.
    pub(crate) fn shut_down(&mut self) {
        let peer = self.peer;
        let stream = match &mut self.kind {
            Kind::Tcp(stream) => stream,
            Kind::Tls(tls) => {
                tls.client.send_close_notify();
                // A peer that takes nothing now does not get its goodbye.
                let _ = tls.flush(peer);
                &mut tls.stream
            }
            Kind::Udp { .. } => return,
        };
        let _ = stream.socket.shutdown(Shutdown::Write);
    }
}

impl Stream {
    fn write(&mut self, bytes: &[u8], peer: SocketAddr) -> Result<usize, Error> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.socket.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer, source }),
            }
        }
        self.written += taken as u64;
        Ok(taken)
    }

    fn drain(&mut self, peer: SocketAddr) -> Result<Heard, Error> {
        let mut buffer = [0; READ];
        for _ in 0..READS_PER_TURN {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Error::Closed { peer }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Heard::Everything);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer, source }),
            }
        }
        Ok(Heard::Part)
    }
}

impl Tls {
    fn write(&mut self, bytes: &[u8], peer: SocketAddr) -> Result<usize, Error> {
        let mut taken = 0;
        while taken < bytes.len() {
            self.flush(peer)?;
            if !self.pending.is_empty() {
                break;
            }
            let part = &bytes[taken..bytes.len().min(taken + TLS_WRITE)];
            taken += self
                .client
                .writer()
                .write(part)
                .map_err(|source| Error::Broken { peer, source })?;
            self.encrypt();
        }
        self.flush(peer)?;
        Ok(taken)
    }

    /// Moves what the TLS stream wants sent into `pending`.
    fn encrypt(&mut self) {
        while self.client.wants_write() {
            self.client
                .write_tls(&mut self.pending)
                .expect("writing to memory does not fail");
        }
    }

    fn flush(&mut self, peer: SocketAddr) -> Result<(), Error> {
        self.encrypt();
        let written = self.stream.write(&self.pending, peer)?;
        self.pending.drain(..written);
        Ok(())
    }

    /// Whether the peer is known to have taken our handshake. In TLS 1.2 its
    /// Finished says so; in TLS 1.3 only what it sends afterwards, and that is
    /// a session ticket in all servers that issue any.
    fn confirmed(&self) -> bool {
        self.client.protocol_version() != Some(ProtocolVersion::TLSv1_3)
            || self.client.tls13_tickets_received() > 0
    }

    fn read(&mut self, peer: SocketAddr) -> Result<Heard, Error> {
        let mut buffer = [0; READ];
        for _ in 0..READS_PER_TURN {
            match self.client.read_tls(&mut self.stream.socket) {
                Ok(0) => return Err(Error::Truncated { peer }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Heard::Everything);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer, source }),
            }
            if let Err(source) = self.client.process_new_packets() {
                // The peer is told which check failed, if it still listens.
                let _ = self.flush(peer);
                return Err(Error::Tls { peer, source });
            }
            loop {
                match self.client.reader().read(&mut buffer) {
                    // close_notify: everything before it was read by the peer.
                    Ok(0) => return Err(Error::Closed { peer }),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(source) => return Err(Error::Broken { peer, source }),
                }
            }
        }
        Ok(Heard::Part)
    }
}

fn udp(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if peer.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok(socket)
}
