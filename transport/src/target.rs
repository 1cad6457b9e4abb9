//! Where to deliver to, and who wants to know how it goes.

use std::net::SocketAddr;
use std::time::Duration;

use syslog::{Policy, Totals};

use crate::tls::{TlsError, TlsTarget};
use crate::{Endpoint, Error, QueueState};

/// A receiver, and everything that is needed to reach it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The servers, the preferred one first: whichever answers is used.
    pub servers: Vec<Endpoint>,
    /// After how much time with another server a better one is tried again.
    pub failback: Duration,
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
    /// RELP, over TCP or TLS: each message is acknowledged by the program that
    /// took it.
    Relp {
        /// How many messages may be under way.
        window: usize,
        /// For RELP over TLS.
        tls: Option<TlsTarget>,
    },
}

impl Transport {
    pub(crate) const fn tls(&self) -> Option<&TlsTarget> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Relp { tls, .. } => tls.as_ref(),
            Self::Tcp | Self::Udp => None,
        }
    }
}

/// Something that happened to a sink's connection.
#[derive(Debug)]
pub enum DeliveryEvent<'a> {
    /// There is a connection, and it is ready for messages.
    Connected {
        /// The receiver's address.
        peer: SocketAddr,
        /// Whether TLS took up an earlier session.
        resumed: bool,
    },
    /// An address or a server of several failed; others are left.
    AttemptFailed(&'a Error),
    /// No server could be connected to.
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
    /// A message was given up, because the receiver ends the connection
    /// whenever it gets it.
    MessageRejected {
        /// The length of its frame in bytes.
        length: usize,
    },
    /// The receiver can hold more bytes unread than are kept to be sent again:
    /// reported once for each connection.
    WindowExceedsReplay {
        /// The largest receive window that it advertised, in bytes.
        window: usize,
        /// How many bytes of frames are kept.
        kept: usize,
    },
    /// The sink was closed with something undelivered.
    ClosedUndelivered {
        /// How many batches.
        batches: usize,
        /// Bytes that were to be sent again.
        replay_bytes: usize,
    },
    /// Files of TLS have changed, and are used from now on; or they cannot be
    /// used, and the old ones stay.
    TlsFiles(Result<(), &'a TlsError>),
    /// The content of the sink's queue has changed.
    Queue(QueueState),
    /// The sink's queue cannot be read, or its position not be written.
    QueueFailed(&'a queue::Error),
    /// A batch was delivered, in so much time from its first byte on.
    Delivered {
        /// The time until it was acknowledged.
        took: Duration,
    },
    /// Messages were sent or acknowledged, or kept or forgotten.
    Progress {
        /// The totals of the sink.
        totals: Totals,
        /// What is kept for sending it again.
        replay_bytes: usize,
    },
}

/// Is told of every [`DeliveryEvent`], on the event loop's thread: it must not block.
pub trait Observer: Send {
    /// Something happened.
    fn on_event(&mut self, event: &DeliveryEvent<'_>);
}
