//! The counters of a session.

use std::ops::Range;

use crate::Batch;

/// The counters of a session since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The messages that were written to connections, including those sent again.
    pub sent: Volume,
    /// The messages that peers acknowledged.
    pub acknowledged: Volume,
    /// The part of `sent` that was sent again because a receiver may have lost it.
    pub resent: Volume,
    /// The size in bytes of frames that a receiver may have lost, and that could not
    /// be sent again because the replay buffer was too small.
    pub exposed_bytes: u64,
}

/// An amount of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The number of messages.
    pub messages: u64,
    /// The size of their frames in bytes.
    pub bytes: u64,
}

impl Totals {
    /// The totals of a new session.
    pub const NOTHING: Self = Self {
        sent: Volume::NOTHING,
        acknowledged: Volume::NOTHING,
        resent: Volume::NOTHING,
        exposed_bytes: 0,
    };
}

impl Volume {
    const NOTHING: Self = Self {
        messages: 0,
        bytes: 0,
    };

    /// Adds the frames of `batch` that end within `range`, and the bytes of `range`.
    pub(crate) fn add(&mut self, batch: &Batch, range: Range<usize>) {
        let frames = batch.frames_before(range.end) - batch.frames_before(range.start);
        self.messages += frames as u64;
        self.bytes += range.len() as u64;
    }
}
