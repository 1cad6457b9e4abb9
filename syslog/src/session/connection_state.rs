//! The state of the connection in use.

use std::time::Instant;

/// A session's knowledge of the connection in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionState {
    /// The position up to which the peer acknowledged everything.
    pub(super) wire: u64,
    /// The bytes of frames that it acknowledged.
    pub(super) acknowledged: u64,
    /// The time at which the connection took its first byte.
    pub(super) began: Option<Instant>,
    /// The time of the last progress: an acknowledgement, or the first byte sent.
    pub(super) progress: Option<Instant>,
    pub(super) resending: Resending,
    /// The time at which it has survived what was sent.
    pub(super) survives_at: Option<Instant>,
    /// It ended within a frame that the peer had not acknowledged.
    pub(super) was_cut: bool,
    /// The largest receive window that the peer advertised, in bytes.
    pub(super) window: usize,
}

/// The frames that a connection was given again.
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
    /// Whether the peer acknowledged any byte of a frame.
    pub(super) const fn has_acknowledged(&self) -> bool {
        self.acknowledged > 0
    }
}
