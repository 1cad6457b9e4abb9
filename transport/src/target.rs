//! Where to deliver to, and who wants to know how it goes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use syslog::Policy;

use crate::Error;
use crate::tls::TlsTarget;

/// A receiver, and everything that is needed to reach it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it speaks.
    pub transport: Transport,
    /// The bounds of every wait.
    pub policy: Policy,
    /// After how much silence the kernel asks whether the peer is still there
    /// (TCP keepalive).
    pub keepalive: Duration,
    /// After how much time without acknowledgement the kernel gives a
    /// connection up (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
}

/// What a receiver speaks.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Syslog over TCP (RFC 6587).
    Tcp,
    /// Syslog over TLS (RFC 5425).
    Tls(TlsTarget),
    /// Syslog over UDP (RFC 5426). Nothing is acknowledged.
    Udp,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Endpoint {
    /// The endpoint at a host, which is an IP address or a name.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let host = host
            .parse()
            .map_or_else(|_| Host::Name(host.to_owned()), Host::Address);
        Self { host, port }
    }

    /// The address, where no name has to be looked up.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name or the address, without the port.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Something that happened to a sink's connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// There is a connection, and it is ready for messages.
    Connected(SocketAddr),
    /// An address of several failed; the next is tried at once.
    AttemptFailed(&'a Error),
    /// No address could be connected to.
    ConnectFailed {
        /// Why the last address failed.
        error: &'a Error,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The connection ended.
    Disconnected {
        /// Why.
        error: &'a Error,
        /// How many batches have to be sent again.
        unfinished: usize,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The connection before ended with acknowledged bytes that its receiver
    /// may not have read: they are sent again.
    SendingAgain {
        /// How many bytes of frames.
        bytes: usize,
    },
    /// A message is longer than a datagram can be, and was given up.
    MessageRefused(&'a Error),
    /// The sink was closed with batches undelivered.
    ClosedUndelivered {
        /// How many batches.
        batches: usize,
    },
}

/// Is told of every [`Event`], on the event loop's thread: it must not block.
pub trait Observer: Send {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}
