//! What a session counts.

use std::ops::Range;

use crate::Batch;

/// What a session has done since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What connections took, for the first time or again.
    pub sent: Volume,
    /// What peers acknowledged.
    pub acknowledged: Volume,
    /// The part of `sent` that went out again because a receiver may have lost
    /// it.
    pub resent: Volume,
    /// Bytes of frames that a receiver may have lost and that were not kept,
    /// for want of room in the replay buffer.
    pub exposed_bytes: u64,
}

/// An amount of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// How many messages.
    pub messages: u64,
    /// How many bytes their frames have.
    pub bytes: u64,
}

impl Totals {
    /// The totals of a session that begins.
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

    /// Adds the frames of `batch` that end within `range`, and its bytes.
    pub(crate) fn add(&mut self, batch: &Batch, range: Range<usize>) {
        let frames = batch.frames_before(range.end) - batch.frames_before(range.start);
        self.messages += frames as u64;
        self.bytes += range.len() as u64;
    }
}
