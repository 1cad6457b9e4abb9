//! Reasons why a sink is not connected.

use std::io;
use std::net::SocketAddr;

use syslog::RelpError;
use thiserror::Error;

use crate::hint::{Hint, hint};
use crate::tls::TlsFailure;

/// Why an attempt to connect failed or a connection ended. Every one of them
/// is worth another try later.
#[derive(Debug, Error)]
pub enum Error {
    /// The host name could not be looked up.
    #[error("cannot look up the host name {host:?}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The resolver knows the name, and no address for it.
    #[error("the host name {host:?} has no address")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// The connection was refused or could not be made.
    #[error("cannot connect to {peer}")]
    Connect {
        /// The address tried.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody answered in time, or the TLS handshake did not end in time.
    #[error("cannot connect to {peer}: no answer within the connect timeout")]
    ConnectTimeout {
        /// The address, or the name while it was being looked up.
        peer: String,
    },
    /// The TLS handshake failed or the TLS stream was broken.
    #[error("TLS with {peer} failed{}", presented(certificate.as_deref()))]
    Tls {
        /// The peer's address.
        peer: SocketAddr,
        /// The receiver's certificate, where that was refused.
        certificate: Option<String>,
        /// The reason.
        source: TlsFailure,
    },
    /// The peer closed during the TLS handshake, or before RELP began.
    #[error("{peer} closed the connection during the handshake{}", after_request(*lacks_identity))]
    ClosedInHandshake {
        /// The peer's address.
        peer: SocketAddr,
        /// Whether it asked for a client certificate, and there is none.
        lacks_identity: bool,
    },
    /// The connection broke.
    #[error("the connection to {peer} broke")]
    Broken {
        /// The peer's address.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The peer closed a TLS connection without saying so before, which
    /// anybody on the way could have done.
    #[error("{peer} ended the connection without close_notify")]
    Truncated {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The peer closed in an orderly way.
    #[error("{peer} closed the connection")]
    Closed {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The connection to another server took the place of this one, which did
    /// not confirm that it had read everything.
    #[error("{peer} did not confirm that it has read everything before a better server took over")]
    Replaced {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The keys of TLS have protected as much as they may.
    #[error("the TLS keys of the connection to {peer} reached their limit")]
    Worn {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// TLS took bytes and did not send them.
    #[error("TLS to {peer} sends nothing any more")]
    Mute {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// A message is longer than a datagram can be.
    #[error("a message of {length} bytes does not fit a datagram")]
    DatagramTooLong {
        /// The message's length in bytes.
        length: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// RELP went wrong.
    #[error("RELP with {peer} failed")]
    Relp {
        /// The peer's address.
        peer: SocketAddr,
        /// What went wrong.
        source: RelpError,
    },
    /// The peer acknowledges nothing more.
    #[error("{peer} acknowledged nothing within the write timeout")]
    WriteTimeout {
        /// The peer's address.
        peer: SocketAddr,
    },
}

/// The kinds of errors, for counting them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ErrorKind {
    /// The name could not be looked up, or has no address.
    Resolve,
    /// No connection could be made.
    Connect,
    /// Something took too long.
    Timeout,
    /// TLS failed.
    Tls,
    /// RELP failed.
    Relp,
    /// The connection broke.
    Broken,
    /// The peer closed the connection.
    Closed,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Resolve,
        Self::Connect,
        Self::Timeout,
        Self::Tls,
        Self::Relp,
        Self::Broken,
        Self::Closed,
    ];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::Broken => "broken",
            Self::Closed => "closed",
        }
    }
}

fn presented(certificate: Option<&str>) -> String {
    certificate.map_or_else(String::new, |certificate| {
        format!(" (the receiver's certificate: {certificate})")
    })
}

const fn after_request(lacks_identity: bool) -> &'static str {
    if lacks_identity {
        ", after it asked for a client certificate"
    } else {
        ""
    }
}

impl Error {
    /// What kind of error it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => ErrorKind::Resolve,
            Self::Connect { .. } => ErrorKind::Connect,
            Self::ConnectTimeout { .. } | Self::WriteTimeout { .. } => ErrorKind::Timeout,
            Self::Tls { .. }
            | Self::ClosedInHandshake { .. }
            | Self::Worn { .. }
            | Self::Mute { .. } => ErrorKind::Tls,
            Self::Relp { .. } => ErrorKind::Relp,
            Self::Broken { .. } | Self::DatagramTooLong { .. } | Self::Truncated { .. } => {
                ErrorKind::Broken
            }
            Self::Closed { .. } | Self::Replaced { .. } => ErrorKind::Closed,
        }
    }

    /// The error and its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Returns advice for the reader of the log, if there is any.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Tls { source, .. } => return source.hint(),
            Self::ClosedInHandshake {
                lacks_identity: true,
                ..
            } => {
                hint!(
                    "the receiver may require a client certificate: set ",
                    ClientIdentity
                )
            }
            Self::ClosedInHandshake { .. } => {
                hint!(
                    "the receiver may not speak this transport on this port: see ",
                    Transport
                )
            }
            Self::DatagramTooLong { .. } => hint!("lower ", MaxMessageSize),
            _ => return None,
        })
    }
}
