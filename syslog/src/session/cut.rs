//! Frames within which connections ended, before the peer had acknowledged them.
//!
//! ```text
//! ends twice within it ──> sent alone ──> acknowledged: forgotten
//!                               │
//!                               └── three connections end, and before each
//!                                   one lived on without it: given up
//! ```
//!
//! Such a frame need not be searched for: it is where the acknowledgements
//! stop. But a peer that acknowledges several frames at once may have ended the
//! connection at a later one, so the frame has to be alone when it counts. All
//! this happens within ten minutes, or is forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The number of connections that have to end within a frame before it is sent
/// alone.
const ENDS: u32 = 2;
/// The number of connections that have to end while it is sent alone.
const ENDS_ALONE: u32 = 3;
/// The time after which an end is forgotten.
const AGE: Duration = Duration::from_secs(600);
/// The maximum number of frames to remember: Fluent Bit tries no more chunks
/// again at a time.
const FRAMES: usize = 2048;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct CutFrames {
    hasher: RandomState,
    /// By the hash of the frame.
    frames: HashMap<u64, CutFrame>,
}

#[derive(Clone, Copy, Debug)]
struct CutFrame {
    ends: u32,
    ends_alone: u32,
    /// Whether a connection lived on without it since the last end.
    others_survived: bool,
    last: Instant,
}

/// The end of a connection within a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Nothing else was under way.
    pub(super) is_alone: bool,
    /// The connection had lived with other frames for a while before.
    pub(super) others_survived: bool,
}

impl CutFrames {
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
        // Each of these ends needs a proof of its own.
        entry.others_survived = others_survived && !cut.is_alone;
    }

    /// A connection without these frames lived on for a while.
    pub(super) fn others_survived(&mut self) {
        for frame in self.frames.values_mut() {
            frame.others_survived = true;
        }
    }

    /// Whether a frame has to be sent alone.
    pub(super) fn is_suspect(&self, frame: &[u8]) -> bool {
        self.get(frame).is_some_and(|frame| frame.ends >= ENDS)
    }

    /// Returns whether a frame is given up, and forgets it then.
    pub(super) fn give_up(&mut self, frame: &[u8]) -> bool {
        let is_guilty = self
            .get(frame)
            .is_some_and(|frame| frame.ends_alone >= ENDS_ALONE);
        if is_guilty {
            self.forget(frame);
        }
        is_guilty
    }

    /// The peer acknowledged a frame.
    pub(super) fn forget(&mut self, frame: &[u8]) {
        self.frames.remove(&self.hasher.hash_one(frame));
    }

    fn get(&self, frame: &[u8]) -> Option<&CutFrame> {
        if self.frames.is_empty() {
            return None;
        }
        self.frames.get(&self.hasher.hash_one(frame))
    }

    /// Forgets frames within which no connection ended for a while.
    pub(super) fn forget_expired(&mut self, now: Instant) {
        self.frames
            .retain(|_, frame| now.saturating_duration_since(frame.last) < AGE);
    }

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
