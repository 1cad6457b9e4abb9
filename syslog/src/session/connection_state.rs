//! The state of the connection in use.

use std::time::Instant;

/// The state of the connection in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionState {
    /// The position up to which the peer has acknowledged everything.
    pub(super) acknowledged_to: u64,
    /// The size in bytes of the frames that the peer has acknowledged.
    pub(super) acknowledged_bytes: u64,
    /// The time at which the connection accepted the first byte.
    pub(super) began: Option<Instant>,
    /// The time of the last progress: an acknowledgement, or the first byte sent.
    pub(super) progress: Option<Instant>,
    pub(super) resending: Resending,
    /// The time at which the connection will have survived the frames that were sent.
    pub(super) survives_at: Option<Instant>,
    /// Whether the connection ended during a frame that the peer had not acknowledged.
    pub(super) was_cut: bool,
    /// The largest receive window that the peer advertised, in bytes.
    pub(super) window: usize,
}

/// The progress of sending frames again on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Resending {
    #[default]
    Nothing,
    UnderWay,
    Done {
        at: Instant,
    },
}

impl ConnectionState {
    /// Whether the peer has acknowledged any bytes of frames.
    pub(super) const fn has_acknowledged(&self) -> bool {
        self.acknowledged_bytes > 0
    }
}
