//! A connection to one address of a server: syslog over TCP, TLS or UDP, or
//! RELP over TCP or TLS.

use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Source;
use socket2::SockRef;
use syslog::Relp;

use self::tcp::Tcp;
use self::tls::Tls;
use self::udp::Udp;
pub use self::udp::{UDP_MAX_IPV4, UDP_MAX_IPV6};
use crate::tls::TlsTarget;
use crate::{Endpoint, Error, Target, Transport};

mod tcp;
mod tls;
mod udp;

/// The size of the buffer for reading from a peer, in bytes.
const READ_BUFFER: usize = 4096;
/// The maximum number of reads from a peer before other sinks are served.
const MAX_READS: usize = 16;

/// A callback that receives the data from the peer.
type OnData<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// A connection, from the first SYN to the end.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: SocketAddr,
    link: Link,
    /// The RELP session, in which the peer's program acknowledges each message.
    relp: Option<Box<Relp>>,
    established: bool,
    /// Whether TLS must start once TCP is established. Not earlier: generating
    /// keys for a connection that is refused would waste processor time.
    needs_tls: bool,
}

#[derive(Debug)]
enum Link {
    Tcp(Tcp),
    Tls(Box<Tls>),
    Udp(Udp),
}

/// The progress of a connection's handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A handshake is in progress.
    Connecting,
    /// TCP is established, and [`Connection::start_tls`] comes next.
    Established,
    /// Our side of the TLS 1.3 handshake is done, but the peer has not sent
    /// anything since. The peer may still reject our certificate (RFC 8446,
    /// section 4.4.2.4), and data sent before that is lost.
    Unconfirmed,
    /// Ready for messages.
    Ready,
}

/// The result of reading from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadProgress {
    /// All available data was read.
    Drained,
    /// More data may be available. The socket signals no further event for it.
    MorePending,
}

impl Connection {
    /// Starts to connect to `peer`, an address of a server.
    pub(crate) fn open(target: &Target, peer: SocketAddr) -> Result<Self, Error> {
        let relp = match &target.transport {
            Transport::Relp { window, .. } => Some(Box::new(Relp::new(*window))),
            Transport::Tcp | Transport::Tls(_) | Transport::Udp => None,
        };
        let connect_error = |source| Error::Connect { peer, source };
        let link = if matches!(target.transport, Transport::Udp) {
            Link::Udp(Udp::open(peer).map_err(connect_error)?)
        } else {
            Link::Tcp(Tcp::open(target, peer, relp.is_none()).map_err(connect_error)?)
        };
        Ok(Self {
            peer,
            link,
            relp,
            established: false,
            needs_tls: target.transport.tls().is_some(),
        })
    }

    /// Starts the TLS handshake.
    pub(crate) fn start_tls(self, tls: &TlsTarget, server: &Endpoint) -> Result<Self, Error> {
        let client = tls.client(server.host()).map_err(|source| Error::Tls {
            peer: self.peer,
            certificate: None,
            source,
        })?;
        let link = match self.link {
            Link::Tcp(tcp) => Link::Tls(Box::new(Tls::new(tcp, client))),
            link @ (Link::Tls(_) | Link::Udp(_)) => link,
        };
        Ok(Self {
            link,
            needs_tls: false,
            ..self
        })
    }

    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the socket, to be registered with the event loop.
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match &mut self.link {
            Link::Tcp(tcp) => &mut tcp.socket,
            Link::Tls(tls) => &mut tls.tcp.socket,
            Link::Udp(udp) => &mut udp.socket,
        }
    }

    /// Continues the handshakes as far as possible without blocking.
    pub(crate) fn advance(&mut self) -> Result<Progress, Error> {
        let peer = self.peer;
        if !self.established {
            let established = match &self.link {
                Link::Tcp(tcp) => tcp.is_established(),
                Link::Tls(_) | Link::Udp(_) => Ok(true),
            };
            self.established = established.map_err(|source| Error::Connect { peer, source })?;
            if !self.established {
                return Ok(Progress::Connecting);
            }
        }
        if self.needs_tls {
            return Ok(Progress::Established);
        }
        if matches!(self.link, Link::Tls(_)) || self.relp.is_some() {
            self.flush()?;
            match self.read() {
                // An alert of the peer would have been the error instead.
                Err(Error::Closed { .. } | Error::Truncated { .. }) => {
                    let lacks_identity = self.lacks_identity();
                    return Err(Error::ClosedInHandshake {
                        peer,
                        lacks_identity,
                    });
                }
                other => other?,
            };
            self.flush()?;
        }
        Ok(match (&self.link, &self.relp) {
            (Link::Tls(tls), _) if tls.is_handshaking() => Progress::Connecting,
            // RELP's answer confirms the TLS handshake as well.
            (_, Some(relp)) if relp.is_open() => Progress::Ready,
            (_, Some(_)) => Progress::Connecting,
            (Link::Tls(tls), None) if !tls.is_confirmed() => Progress::Unconfirmed,
            _ => Progress::Ready,
        })
    }

    /// Returns whether the peer asked for a client certificate and none is
    /// configured.
    fn lacks_identity(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.lacks_identity())
    }

    /// Returns whether the TLS session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.is_resumed())
    }

    /// Accepts as many of `bytes` as possible without blocking, and returns their
    /// number. If [`Connection::is_message_based`], `bytes` must be one frame,
    /// which is accepted as a whole or not at all.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if let Some(relp) = &mut self.relp {
            if relp.send(bytes) {
                return Ok(bytes.len());
            }
            self.flush()?;
            let is_accepted = self.relp.as_mut().is_some_and(|relp| relp.send(bytes));
            return Ok(if is_accepted { bytes.len() } else { 0 });
        }
        let peer = self.peer;
        match &mut self.link {
            Link::Tcp(tcp) => tcp.write(bytes, peer),
            Link::Tls(tls) => tls.write(bytes, peer),
            Link::Udp(udp) => udp.write(bytes, peer),
        }
    }

    /// Returns whether each write is a separate message.
    pub(crate) const fn is_message_based(&self) -> bool {
        matches!(self.link, Link::Udp(_)) || self.relp.is_some()
    }

    /// Passes accepted data to the kernel that the kernel has not taken yet.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let peer = self.peer;
        let Self { link, relp, .. } = self;
        if let Some(relp) = relp {
            while !relp.output().is_empty() {
                let written = match link {
                    Link::Tcp(tcp) => tcp.write(relp.output(), peer)?,
                    Link::Tls(tls) => tls.write(relp.output(), peer)?,
                    Link::Udp(_) => 0,
                };
                if written == 0 {
                    return Ok(());
                }
                relp.on_written(written);
            }
        }
        match link {
            Link::Tls(tls) => tls.flush(peer),
            Link::Tcp(_) | Link::Udp(_) => Ok(()),
        }
    }

    /// Returns the end position of everything accepted by [`Connection::write`]:
    /// in bytes on the wire or, with RELP, in messages.
    pub(crate) fn wire_end(&self) -> u64 {
        match (&self.relp, &self.link) {
            (Some(relp), _) => relp.sent(),
            (None, Link::Tcp(tcp)) => tcp.written,
            (None, Link::Tls(tls)) => tls.wire_end(),
            (None, Link::Udp(udp)) => udp.sent,
        }
    }

    /// Returns the position up to which everything is acknowledged: by the peer's
    /// program with RELP, by the peer's kernel with TCP and TLS. With UDP, the
    /// position up to which our own kernel has taken everything.
    pub(crate) fn acknowledged(&self) -> Result<u64, Error> {
        match (&self.relp, &self.link) {
            (Some(relp), _) => Ok(relp.acknowledged()),
            (None, Link::Tcp(tcp)) => tcp.acknowledged(self.peer),
            (None, Link::Tls(tls)) => tls.tcp.acknowledged(self.peer),
            (None, Link::Udp(udp)) => Ok(udp.sent),
        }
    }

    /// Returns whether an acknowledgement wakes the event loop. Otherwise
    /// [`Connection::acknowledged`] must be polled.
    pub(crate) const fn signals_acknowledgements(&self) -> bool {
        match &self.link {
            Link::Udp(_) => true,
            Link::Tcp(tcp) => tcp.signals_acknowledgements || self.relp.is_some(),
            Link::Tls(tls) => tls.tcp.signals_acknowledgements || self.relp.is_some(),
        }
    }

    /// Reads the data from the peer. Without RELP the data is discarded. The end
    /// of the connection is returned as an error, such as [`Error::Closed`] or
    /// [`Error::Broken`].
    pub(crate) fn read(&mut self) -> Result<ReadProgress, Error> {
        let Self {
            peer, link, relp, ..
        } = self;
        let peer = *peer;
        let on_data = &mut |bytes: &[u8]| match relp {
            Some(relp) => relp
                .receive(bytes)
                .map_err(|source| Error::Relp { peer, source }),
            // A syslog receiver sends no data.
            None => Ok(()),
        };
        match link {
            Link::Tcp(tcp) => tcp.read(peer, on_data),
            Link::Tls(tls) => tls.read(peer, on_data),
            Link::Udp(udp) => udp.read(peer),
        }
    }

    /// Ends the stream of messages. With RELP this closes the session, which the
    /// peer confirms.
    pub(crate) fn close(&mut self) {
        if let Some(relp) = &mut self.relp {
            relp.close();
        }
    }

    /// Returns whether the peer has confirmed [`Connection::close`], if it must.
    pub(crate) fn is_closed(&self) -> bool {
        self.relp.as_ref().is_none_or(|relp| relp.is_closed())
    }

    /// Returns the receive window that the peer advertised last, in bytes. None
    /// with RELP and UDP, where acknowledged data cannot be lost unread or nothing
    /// is acknowledged.
    pub(crate) fn window(&self) -> Option<usize> {
        match (&self.relp, &self.link) {
            (Some(_), _) | (None, Link::Udp(_)) => None,
            (None, Link::Tcp(tcp)) => Some(tcp.window()),
            (None, Link::Tls(tls)) => Some(tls.tcp.window()),
        }
    }

    /// Returns whether the TLS keys are close to their limit of records and cannot
    /// be replaced. Nothing more must be written then.
    pub(crate) fn is_near_key_limit(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.is_near_key_limit())
    }

    /// Has the kernel probe the peer soon, after the peer has closed in an orderly
    /// way: a probe is answered by a reset if the first reset was lost.
    pub(crate) fn probe_for_reset(&self) {
        match &self.link {
            Link::Tcp(tcp) => tcp.probe_for_reset(),
            Link::Tls(tls) => tls.tcp.probe_for_reset(),
            Link::Udp(_) => {}
        }
    }

    /// Returns an error if the connection was reset after the peer closed it.
    pub(crate) fn check_reset(&self) -> Result<(), Error> {
        match &self.link {
            Link::Tcp(tcp) => tcp.check_reset(self.peer),
            Link::Tls(tls) => tls.tcp.check_reset(self.peer),
            Link::Udp(_) => Ok(()),
        }
    }

    /// Has the kernel discard unacknowledged data when the connection is dropped.
    /// Otherwise the kernel could still deliver this data, which is also sent
    /// again.
    pub(crate) fn abort(&self) {
        let socket = match &self.link {
            Link::Tcp(tcp) => &tcp.socket,
            Link::Tls(tls) => &tls.tcp.socket,
            Link::Udp(_) => return,
        };
        // If this fails, some messages may arrive twice.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Sends `close_notify` and FIN. Nothing can be written afterwards.
    pub(crate) fn shut_down(&mut self) {
        let peer = self.peer;
        match &mut self.link {
            Link::Tcp(tcp) => tcp.shut_down(),
            Link::Tls(tls) => tls.shut_down(peer),
            Link::Udp(_) => {}
        }
    }
}
