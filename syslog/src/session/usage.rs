//! What a session knows about the connection in use.

use std::time::Instant;

/// The use that a connection was of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The position up to which the peer acknowledged everything.
    pub(super) wire: u64,
    /// Bytes of frames that it acknowledged.
    pub(super) acknowledged: u64,
    /// When the connection took its first byte.
    pub(super) began: Option<Instant>,
    /// When the peer last acknowledged more, or was first given something to.
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

impl Usage {
    /// Whether the peer acknowledged anything submitted.
    pub(super) const fn is_of_use(&self) -> bool {
        self.acknowledged > 0
    }
}
