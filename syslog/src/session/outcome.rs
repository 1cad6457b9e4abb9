//! The ends of batches and connections.
//!
//! ```text
//! the peer ...                        the session gets   it sends again
//! answers our own close               End::ClosedByBoth  what was acknowledged less than
//!                                                        close_timeout before the close
//! closes, no reset in close_timeout   End::Closed        the same
//! closes, then resets                 End::Broken        everything that is kept
//! crashes with bytes unread (reset)   End::Broken        everything that is kept
//! ends TLS without close_notify       End::Broken        everything that is kept
//! disappears, or is unreachable       End::Stalled       everything that is kept
//! ```
//!
//! An end is clean only if it is known to be: the peer's program may not have read yet
//! what its kernel acknowledged. The time before the close counts because a program
//! reads available data. Bytes that were acknowledged long ago are unread only if the
//! program has stopped reading, and then its kernel sends a reset.

use std::time::Duration;

use crate::Batch;

/// The end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer acknowledged every byte.
    Delivered,
    /// The batch must be submitted again.
    Retry {
        /// The number of leading frames to skip then: the peer has acknowledged them, or
        /// the session sends them again by itself.
        skip: usize,
    },
}

/// The end of a connection, by what it reveals about acknowledged frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed the connection after this side had. It is treated like
    /// [`End::Closed`], because the peer may have closed independently at the same time.
    ClosedByBoth,
    /// The peer closed the connection in an orderly way, and no reset followed. The peer
    /// has read the frames that it had acknowledged at least
    /// [`Policy::close_timeout`](super::Policy::close_timeout) before the close. Later
    /// frames are sent again, because a program may discard the bytes that it reads while
    /// it closes a TLS session.
    Closed,
    /// The peer or the network ended the connection, by a reset or silently. All kept
    /// frames are sent again.
    Broken,
    /// This side ended the connection, because the peer made no progress. All kept frames
    /// are sent again.
    Stalled,
}

/// The side that closes a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Own,
    /// The peer.
    Peer,
}

/// The action that [`Session::on_timeout`](super::Session::on_timeout) requires of the
/// driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No action.
    Nothing,
    /// End the connection: the peer acknowledged nothing within
    /// [`Policy::write_timeout`](super::Policy::write_timeout).
    Stalled,
    /// Stop watching the closed connection, and report this end.
    Closed(End),
}

/// A batch that has ended.
#[derive(Debug)]
pub struct EndedBatch<T> {
    /// A batch whose memory can be used again. It may be an older batch.
    pub batch: Option<Batch>,
    /// The token that the batch was submitted with.
    pub token: T,
    /// The outcome of the delivery.
    pub outcome: Outcome,
    /// The time from sending the first byte to the end, if the batch was sent.
    pub took: Option<Duration>,
}
