//! Errors of connections and connection attempts.

use std::io;
use std::net::SocketAddr;

use syslog::RelpError;
use thiserror::Error;

use crate::hint::{Hint, hint};
use crate::tls::TlsFailure;

/// The reason why a connection attempt failed or a connection ended. Every
/// error is temporary: the sink tries again later.
#[derive(Debug, Error)]
pub enum Error {
    /// The host name could not be resolved.
    #[error("cannot resolve the host name {host:?}")]
    Resolve {
        /// The host name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The host name exists, but has no address.
    #[error("the host name {host:?} has no address")]
    NoAddress {
        /// The host name.
        host: String,
    },
    /// The connection was refused or could not be established.
    #[error("cannot connect to {peer}")]
    Connect {
        /// The address that was tried.
        peer: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The look-up, the connection or the handshakes took longer than the
    /// connect timeout.
    #[error("cannot connect to {peer}: no answer within the connect timeout")]
    ConnectTimeout {
        /// The peer's address, or its host name during the look-up.
        peer: String,
    },
    /// The TLS handshake failed, or the TLS stream is invalid.
    #[error("TLS with {peer} failed{}", presented_certificate(certificate.as_deref()))]
    Tls {
        /// The peer's address.
        peer: SocketAddr,
        /// The description of the receiver's certificate, if the certificate
        /// was rejected.
        certificate: Option<String>,
        /// The reason of the failure.
        source: TlsFailure,
    },
    /// The peer closed the connection during the TLS handshake, or before the
    /// RELP session was open.
    #[error("{peer} closed the connection during the handshake{}", after_request(*lacks_identity))]
    ClosedInHandshake {
        /// The peer's address.
        peer: SocketAddr,
        /// Whether the peer asked for a client certificate and none is
        /// configured.
        lacks_identity: bool,
    },
    /// The connection broke, for example because the peer reset it.
    #[error("the connection to {peer} broke")]
    Broken {
        /// The peer's address.
        peer: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The TLS connection ended without `close_notify`. A network attacker
    /// could have closed it.
    #[error("{peer} closed the connection without close_notify")]
    Truncated {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The peer closed the connection in an orderly way.
    #[error("{peer} closed the connection")]
    Closed {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// A preferred server took over, and this one did not confirm that it had
    /// read everything.
    #[error("a preferred server took over before {peer} confirmed that it had read everything")]
    Replaced {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The TLS keys have reached their limit of records (RFC 8446, section
    /// 5.5), and TLS 1.2 cannot replace them.
    #[error("the TLS keys of the connection to {peer} reached their limit")]
    KeyLimitReached {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// TLS accepted bytes without producing any records.
    #[error("TLS with {peer} stalled: no more data can be encrypted")]
    Stalled {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// A message exceeds the maximum size of a datagram.
    #[error("a message of {length} bytes does not fit into a datagram")]
    DatagramTooLong {
        /// The length of the message in bytes.
        length: usize,
        /// The kernel's error.
        source: io::Error,
    },
    /// The RELP session failed.
    #[error("RELP with {peer} failed")]
    Relp {
        /// The peer's address.
        peer: SocketAddr,
        /// The reason of the failure.
        source: RelpError,
    },
    /// The peer acknowledged nothing for the duration of the write timeout.
    #[error("{peer} acknowledged nothing within the write timeout")]
    WriteTimeout {
        /// The peer's address.
        peer: SocketAddr,
    },
}

/// The categories of errors, used as a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ErrorKind {
    /// The host name could not be resolved, or has no address.
    Resolve,
    /// No connection could be established.
    Connect,
    /// A timeout expired.
    Timeout,
    /// The TLS handshake or stream failed.
    Tls,
    /// The RELP session failed.
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

    /// Returns the kind's name in lower case, such as `resolve`.
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

fn presented_certificate(certificate: Option<&str>) -> String {
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
    /// Returns the error's kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => ErrorKind::Resolve,
            Self::Connect { .. } => ErrorKind::Connect,
            Self::ConnectTimeout { .. } | Self::WriteTimeout { .. } => ErrorKind::Timeout,
            Self::Tls { .. }
            | Self::ClosedInHandshake { .. }
            | Self::KeyLimitReached { .. }
            | Self::Stalled { .. } => ErrorKind::Tls,
            Self::Relp { .. } => ErrorKind::Relp,
            Self::Broken { .. } | Self::DatagramTooLong { .. } | Self::Truncated { .. } => {
                ErrorKind::Broken
            }
            Self::Closed { .. } | Self::Replaced { .. } => ErrorKind::Closed,
        }
    }

    /// Returns the error and its causes as one line, separated by colons.
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
