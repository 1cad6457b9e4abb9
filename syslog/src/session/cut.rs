//! Frames during which connections ended, before the peer had acknowledged them.
//!
//! ```text
//! two connections end ──> frame is sent alone ──> acknowledged: forgotten
//! during the frame                │
//!                                 └── three more connections end, and before each
//!                                     end a connection survived without the frame:
//!                                     given up
//! ```
//!
//! Such a frame need not be searched for: it is the first unacknowledged frame. But
//! a peer that acknowledges several frames at once may have ended the connection at a
//! later frame, so only ends while the frame is sent alone count against it. An end is
//! forgotten after ten minutes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The number of connections that must end during a frame before it is sent alone.
const ENDS: u32 = 2;
/// The number of connections that must end while the frame is sent alone before it is
/// given up.
const ENDS_ALONE: u32 = 3;
/// The time after which a frame is forgotten, unless another connection ends during it.
const AGE: Duration = Duration::from_secs(600);
/// The maximum number of remembered frames: Fluent Bit retries at most this many
/// chunks at a time.
const FRAMES: usize = 2048;

/// Frames that were cut off by the end of a connection.
#[derive(Debug, Default)]
pub(super) struct CutFrames {
    hasher: RandomState,
    /// The frames by their hashes.
    frames: HashMap<u64, CutFrame>,
}

#[derive(Clone, Copy, Debug)]
struct CutFrame {
    ends: u32,
    ends_alone: u32,
    /// Whether a connection survived without the frame since the last end.
    others_survived: bool,
    /// The time of the last end.
    last: Instant,
}

/// The end of a connection during a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Whether the frame was sent alone.
    pub(super) is_alone: bool,
    /// Whether the connection had survived other frames for some time before.
    pub(super) others_survived: bool,
}

impl CutFrames {
    /// Counts the end of a connection during a frame.
    pub(super) fn add(&mut self, frame: &[u8], cut: Cut, now: Instant) {
        let hash = self.hasher.hash_one(frame);
        if self.frames.len() >= FRAMES && !self.frames.contains_key(&hash) {
            self.forget_least();
        }
        let entry = self.frames.entry(hash).or_insert(CutFrame {
            ends: 0,
            ends_alone: 0,
            others_survived: false,
            last: now,
        });
        entry.ends += 1;
        entry.last = now;
        let others_survived = entry.others_survived || cut.others_survived;
        if cut.is_alone && others_survived {
            entry.ends_alone += 1;
        }
        // Each end that counts needs its own surviving connection.
        entry.others_survived = others_survived && !cut.is_alone;
    }

    /// Records that a connection without these frames survived for some time.
    pub(super) fn others_survived(&mut self) {
        for frame in self.frames.values_mut() {
            frame.others_survived = true;
        }
    }

    /// Whether a frame must be sent alone.
    pub(super) fn is_suspect(&self, frame: &[u8]) -> bool {
        self.get(frame).is_some_and(|frame| frame.ends >= ENDS)
    }

    /// Returns whether a frame must be given up. If so, forgets it.
    pub(super) fn give_up(&mut self, frame: &[u8]) -> bool {
        let is_guilty = self
            .get(frame)
            .is_some_and(|frame| frame.ends_alone >= ENDS_ALONE);
        if is_guilty {
            self.forget(frame);
        }
        is_guilty
    }

    /// Forgets a frame, which the peer acknowledged.
    pub(super) fn forget(&mut self, frame: &[u8]) {
        self.frames.remove(&self.hasher.hash_one(frame));
    }

    fn get(&self, frame: &[u8]) -> Option<&CutFrame> {
        if self.frames.is_empty() {
            return None;
        }
        self.frames.get(&self.hasher.hash_one(frame))
    }

    /// Forgets frames during which no connection ended for [`AGE`].
    pub(super) fn forget_expired(&mut self, now: Instant) {
        self.frames
            .retain(|_, frame| now.saturating_duration_since(frame.last) < AGE);
    }

    /// Forgets the frame with the fewest ends, and the oldest of several.
    fn forget_least(&mut self) {
        let least = self
            .frames
            .iter()
            .min_by_key(|(_, frame)| (frame.ends, frame.last));
        if let Some(hash) = least.map(|(hash, _)| *hash) {
            self.frames.remove(&hash);
        }
    }
}
