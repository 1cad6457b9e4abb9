//! How batches and connections end.

use std::time::Duration;

use crate::Batch;

/// The end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer acknowledged every byte.
    Delivered,
    /// The batch must be submitted again.
    Retry {
        /// The number of leading frames that need not be sent again: the peer
        /// has them, or they are kept for it.
        delivered: usize,
    },
}

/// The end of a connection, by what it proves about acknowledged frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed after this side had. That is judged like
    /// [`End::Closed`]: it may be an answer, or a peer that ends at the same
    /// time.
    Answered,
    /// The peer closed in an orderly way, and no reset followed: it has read
    /// what it acknowledged [`Policy::close_timeout`](super::Policy::close_timeout)
    /// before the close. What it acknowledged later is in doubt, since a program
    /// may throw away what it reads while it ends a TLS session.
    Closed,
    /// The peer or the network ended it, with a reset or without a word:
    /// everything that is kept is in doubt.
    Broken,
    /// This side ended it, because the peer made no progress: everything that
    /// is kept is in doubt.
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

/// What the driver has to do after [`Session::on_timeout`](super::Session::on_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing.
    Nothing,
    /// End the connection: the peer acknowledged nothing within
    /// [`Policy::write_timeout`](super::Policy::write_timeout).
    Stalled,
    /// End the watch of a closed connection, as this.
    Closed(End),
}

/// A delivered or failed batch, and what it was submitted with.
#[derive(Debug)]
pub struct Finished<T> {
    /// A batch, not always the same, for its memory to be used again.
    pub batch: Option<Batch>,
    /// The driver's own.
    pub token: T,
    /// The batch's end.
    pub outcome: Outcome,
    /// The time from its first byte's sending to its end, where it was sent.
    pub took: Option<Duration>,
}
