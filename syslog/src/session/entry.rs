//! The batches that a session holds, and the bytes of them that are on their way.

use std::time::Instant;

use crate::Batch;

/// A batch that the session delivers.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) batch: Batch,
    /// The driver's token, or `None` for frames that are sent again.
    pub(super) token: Option<T>,
    /// The offset of the first frame to be sent.
    pub(super) from: usize,
    /// The offset up to which the connection has accepted the batch.
    pub(super) accepted: usize,
    /// The offset up to which the peer has acknowledged the batch.
    pub(super) acknowledged: usize,
    /// The time at which the connection accepted the first bytes.
    pub(super) since: Option<Instant>,
    /// Whether the first frame must be sent alone, because connections ended during it.
    pub(super) is_suspect: bool,
}

impl<T> Entry<T> {
    pub(super) fn new(batch: Batch, from: usize, token: Option<T>) -> Self {
        Self {
            batch,
            token,
            from,
            accepted: from,
            acknowledged: from,
            since: None,
            is_suspect: false,
        }
    }

    /// Returns the offset up to which the batch may be sent.
    pub(super) fn end(&self) -> usize {
        if self.is_suspect {
            self.batch.frame_end(self.from)
        } else {
            self.batch.bytes().len()
        }
    }

    /// Returns the first frame to be sent.
    pub(super) fn first_frame(&self) -> &[u8] {
        &self.batch.bytes()[self.from..self.batch.frame_end(self.from)]
    }
}

/// A number of bytes that the connection accepted, and their end on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) wire: u64,
    pub(super) count: usize,
    /// Whether the bytes are a frame that the connection cannot send.
    pub(super) refused: bool,
}
