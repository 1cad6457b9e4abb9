//! One connection to one address: syslog over TCP, TLS or UDP, or RELP over
//! TCP or TLS.

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

/// How much is read of what a peer says, at a time.
const READ_BUFFER: usize = 4096;
/// How often a peer that says much is listened to before others are served.
const MAX_READS: usize = 16;

/// Is told what the peer says.
type OnData<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// A connection, from the first SYN on.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: SocketAddr,
    link: Link,
    /// Where the peer's program acknowledges each message.
    relp: Option<Box<Relp>>,
    established: bool,
    /// TLS is to begin once TCP is ready: its keys cost more than an attempt
    /// that is refused.
    needs_tls: bool,
}

#[derive(Debug)]
enum Link {
    Tcp(Tcp),
    Tls(Box<Tls>),
    Udp(Udp),
}

/// How far the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The handshakes go on.
    Connecting,
    /// TCP is ready for TLS: [`Connection::start_tls`].
    Established,
    /// Our side of the TLS 1.3 handshake is done, and the peer said nothing
    /// since. It may yet refuse our certificate (RFC 8446, section 4.4.2.4);
    /// what is sent before it does is lost.
    Unconfirmed,
    /// Ready for messages.
    Ready,
}

/// How much of what the peer said was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadProgress {
    /// Everything.
    Drained,
    /// A turn's worth; the socket will not say again that there is more.
    MorePending,
}

impl Connection {
    /// Begins to connect to `peer`, an address of a server.
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

    /// Begins the TLS handshake.
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

    /// What the event loop has to watch.
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match &mut self.link {
            Link::Tcp(tcp) => &mut tcp.socket,
            Link::Tls(tls) => &mut tls.tcp.socket,
            Link::Udp(udp) => &mut udp.socket,
        }
    }

    /// Goes on with the handshakes, as far as they go without waiting.
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
                // The peer's alert, if any, came before its end and says more.
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
            // Its answer confirms everything below it.
            (_, Some(relp)) if relp.is_open() => Progress::Ready,
            (_, Some(_)) => Progress::Connecting,
            (Link::Tls(tls), None) if !tls.is_confirmed() => Progress::Unconfirmed,
            _ => Progress::Ready,
        })
    }

    /// Whether the peer asked for a client certificate, and there is none.
    fn lacks_identity(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.lacks_identity())
    }

    /// Whether TLS took up an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.is_resumed())
    }

    /// Takes as many of `bytes` as go without waiting, and says how many. With
    /// [`Connection::is_message_based`] they are one frame, taken whole or not.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if let Some(relp) = &mut self.relp {
            if relp.send(bytes) {
                return Ok(bytes.len());
            }
            self.flush()?;
            let taken = self.relp.as_mut().is_some_and(|relp| relp.send(bytes));
            return Ok(if taken { bytes.len() } else { 0 });
        }
        let peer = self.peer;
        match &mut self.link {
            Link::Tcp(tcp) => tcp.write(bytes, peer),
            Link::Tls(tls) => tls.write(bytes, peer),
            Link::Udp(udp) => udp.write(bytes, peer),
        }
    }

    /// Whether each write is a message of its own.
    pub(crate) const fn is_message_based(&self) -> bool {
        matches!(self.link, Link::Udp(_)) || self.relp.is_some()
    }

    /// Hands over what [`Connection::write`] took and the kernel did not.
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

    /// The position behind everything taken so far: on the wire, or in RELP's
    /// count of messages.
    pub(crate) fn accepted(&self) -> u64 {
        match (&self.relp, &self.link) {
            (Some(relp), _) => relp.sent(),
            (None, Link::Tcp(tcp)) => tcp.written,
            (None, Link::Tls(tls)) => tls.accepted(),
            (None, Link::Udp(udp)) => udp.sent,
        }
    }

    /// The position up to which the peer has everything: with RELP its
    /// program, else its kernel. For UDP, that up to which our own kernel has.
    pub(crate) fn acknowledged(&self) -> Result<u64, Error> {
        match (&self.relp, &self.link) {
            (Some(relp), _) => Ok(relp.acknowledged()),
            (None, Link::Tcp(tcp)) => tcp.acknowledged(self.peer),
            (None, Link::Tls(tls)) => tls.tcp.acknowledged(self.peer),
            (None, Link::Udp(udp)) => Ok(udp.sent),
        }
    }

    /// Whether the event loop wakes when something is acknowledged. Otherwise
    /// [`Connection::acknowledged`] has to be asked again and again.
    pub(crate) const fn signals_acknowledgements(&self) -> bool {
        match &self.link {
            Link::Udp(_) => true,
            Link::Tcp(tcp) => tcp.signals_acknowledgements || self.relp.is_some(),
            Link::Tls(tls) => tls.tcp.signals_acknowledgements || self.relp.is_some(),
        }
    }

    /// Reads what the peer says. Without RELP that is nothing, or that it ended
    /// the connection ([`Error::Closed`], [`Error::Broken`] and the like).
    pub(crate) fn read(&mut self) -> Result<ReadProgress, Error> {
        let Self {
            peer, link, relp, ..
        } = self;
        let peer = *peer;
        let on_data = &mut |bytes: &[u8]| match relp {
            Some(relp) => relp
                .receive(bytes)
                .map_err(|source| Error::Relp { peer, source }),
            // Syslog has no answers.
            None => Ok(()),
        };
        match link {
            Link::Tcp(tcp) => tcp.read(peer, on_data),
            Link::Tls(tls) => tls.read(peer, on_data),
            Link::Udp(udp) => udp.read(peer),
        }
    }

    /// Has nothing more to send. With RELP the peer is told, and answers.
    pub(crate) fn close(&mut self) {
        if let Some(relp) = &mut self.relp {
            relp.close();
        }
    }

    /// Whether nothing more is expected after [`Connection::close`].
    pub(crate) fn is_closed(&self) -> bool {
        self.relp.as_ref().is_none_or(|relp| relp.is_closed())
    }

    /// The largest receive window that the peer advertised lately, in bytes:
    /// where what it acknowledges may be lost unread, and the kernel knows.
    pub(crate) fn window(&self) -> Option<usize> {
        match (&self.relp, &self.link) {
            (Some(_), _) | (None, Link::Udp(_)) => None,
            (None, Link::Tcp(tcp)) => Some(tcp.window()),
            (None, Link::Tls(tls)) => Some(tls.tcp.window()),
        }
    }

    /// Whether TLS may protect hardly more with its keys, and cannot change
    /// them: nothing is to be written any more.
    pub(crate) fn is_near_key_limit(&self) -> bool {
        matches!(&self.link, Link::Tls(tls) if tls.is_near_key_limit())
    }

    /// The peer has closed in an orderly way: has the kernel find out soon
    /// whether there is still anybody, in case a reset gets lost on its path.
    pub(crate) fn probe_for_reset(&self) {
        match &self.link {
            Link::Tcp(tcp) => tcp.probe_for_reset(),
            Link::Tls(tls) => tls.tcp.probe_for_reset(),
            Link::Udp(_) => {}
        }
    }

    /// Whether a connection that its peer has closed was reset since.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.link {
            Link::Tcp(tcp) => tcp.check(self.peer),
            Link::Tls(tls) => tls.tcp.check(self.peer),
            Link::Udp(_) => Ok(()),
        }
    }

    /// Has the kernel discard what the peer has not acknowledged, once this is
    /// dropped: it would deliver that later, although it is sent again.
    pub(crate) fn abort(&self) {
        let socket = match &self.link {
            Link::Tcp(tcp) => &tcp.socket,
            Link::Tls(tls) => &tls.tcp.socket,
            Link::Udp(_) => return,
        };
        // If that fails, some messages arrive twice.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Says goodbye. Nothing can be written afterwards.
    pub(crate) fn shut_down(&mut self) {
        let peer = self.peer;
        match &mut self.link {
            Link::Tcp(tcp) => tcp.shut_down(),
            Link::Tls(tls) => tls.shut_down(peer),
            Link::Udp(_) => {}
        }
    }
}
