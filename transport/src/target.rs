//! The configuration of a sink, and the events that it reports.

use std::net::SocketAddr;
use std::time::Duration;

use syslog::{Policy, Totals};

use crate::tls::{TlsError, TlsTarget};
use crate::{Endpoint, Error, QueueState};

/// A receiver and the settings of the connection to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The servers in order of preference: the first reachable one is used.
    pub servers: Vec<Endpoint>,
    /// The interval at which a preferred server is tried again while another
    /// one is in use.
    pub failback: Duration,
    /// The protocol.
    pub transport: Transport,
    /// The timeouts, the backoff and the size of the replay buffer.
    pub policy: Policy,
    /// The idle time after which the kernel sends TCP keepalive probes.
    pub keepalive: Duration,
    /// The time without an acknowledgement after which the kernel closes a
    /// connection (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
}

/// The protocol between a sink and its receiver.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Syslog over TCP (RFC 6587).
    Tcp,
    /// Syslog over TLS (RFC 5425).
    Tls(TlsTarget),
    /// Syslog over UDP (RFC 5426). Nothing is acknowledged.
    Udp,
    /// RELP over TCP or TLS. The receiver's program acknowledges each message.
    Relp {
        /// The maximum number of unacknowledged messages.
        window: usize,
        /// The TLS settings, for RELP over TLS.
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

/// An event of a sink's connection or queue.
#[derive(Debug)]
pub enum DeliveryEvent<'a> {
    /// A connection is established and ready for messages.
    Connected {
        /// The receiver's address.
        peer: SocketAddr,
        /// Whether the TLS session was resumed.
        resumed: bool,
    },
    /// A connection attempt failed, and another address or server is tried
    /// next or already in use.
    AttemptFailed(&'a Error),
    /// No server is reachable.
    ConnectFailed {
        /// The error of the last address that was tried.
        error: &'a Error,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The connection ended.
    Disconnected {
        /// The reason.
        error: &'a Error,
        /// The number of batches that must be sent again.
        unfinished: usize,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// Frames of the previous connection are sent again: its receiver had
    /// acknowledged them, but may not have read them.
    Replaying {
        /// The size of the frames in bytes.
        bytes: usize,
    },
    /// A message was dropped because it exceeds the maximum size of a datagram.
    MessageTooLong(&'a Error),
    /// A message was dropped because the receiver closes the connection each
    /// time it receives this message.
    MessageRejected {
        /// The length of the message's frame in bytes.
        length: usize,
    },
    /// The receiver's window exceeds the replay buffer, so the receiver can
    /// hold more unread bytes than can be sent again. Reported once per
    /// connection.
    WindowExceedsReplay {
        /// The largest receive window that the receiver advertised, in bytes.
        window: usize,
        /// The limit of the replay buffer in bytes of frames.
        kept: usize,
    },
    /// The sink was closed before everything was delivered.
    ClosedUndelivered {
        /// The number of undelivered batches.
        batches: usize,
        /// The size in bytes of the frames that were waiting to be sent again.
        replay_bytes: usize,
    },
    /// The TLS files have changed. New connections use the new files or, after
    /// an error, the previous ones.
    TlsFilesReloaded(Result<(), &'a TlsError>),
    /// The content of the sink's queue has changed.
    Queue(QueueState),
    /// The sink's queue could not be read, or its position not be saved.
    QueueFailed(&'a queue::Error),
    /// A batch was delivered.
    Delivered {
        /// The time from the first byte sent to the acknowledgement.
        took: Duration,
    },
    /// The sink's totals or the size of its replay buffer have changed.
    Progress {
        /// The totals of the sink.
        totals: Totals,
        /// The content of the replay buffer in bytes.
        replay_bytes: usize,
    },
}

/// Receives every [`DeliveryEvent`] of a sink, on the event loop's thread.
pub trait Observer: Send {
    /// Handles an event. The implementation must not block.
    fn on_event(&mut self, event: &DeliveryEvent<'_>);
}
