//! The replay buffer: the frames that were delivered last, kept in case the receiver
//! loses them unread.
//!
//! A TCP acknowledgement means that the peer's kernel has the bytes. When the peer's
//! program ends, bytes that it had not read are lost, although they were acknowledged.
//! Only the sender can send them again.
//!
//! Delivered batches are kept without copying them: whole frames, the newest ones up to
//! a limit in bytes and an age. They do not expire while they wait for the receiver to
//! come back. They are sent before anything else, so the order is kept from there on.
//!
//! Linux lets a receiver's window grow with the connection, so a fixed limit is too
//! small for some receivers and too large for most. [`ReplayBuffer::FollowWindow`]
//! therefore follows the largest window that the peer advertised.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Batch;

/// The size of the replay buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayBuffer {
    /// A fixed number of bytes. Zero keeps nothing.
    Fixed(usize),
    /// Twice the largest receive window that the peer advertised, between
    /// [`ReplayBuffer::MIN`] and [`ReplayBuffer::MAX`] bytes. In measurements, a
    /// peer's kernel held up to 1.4 times that window unread, since the window still
    /// grows while nothing is read. Twice the window leaves a margin.
    FollowWindow,
}

impl ReplayBuffer {
    /// The lowest limit of [`ReplayBuffer::FollowWindow`] in bytes.
    pub const MIN: usize = 1024 * 1024;
    /// The highest limit of [`ReplayBuffer::FollowWindow`] in bytes.
    pub const MAX: usize = 32 * 1024 * 1024;

    /// Returns the highest possible limit in bytes.
    #[must_use]
    pub const fn max(self) -> usize {
        match self {
            Self::Fixed(limit) => limit,
            Self::FollowWindow => Self::MAX,
        }
    }

    /// Returns the limit in bytes for a peer whose largest window was `window` bytes.
    #[must_use]
    pub fn limit(self, window: usize) -> usize {
        match self {
            Self::Fixed(limit) => limit,
            Self::FollowWindow => unread_bound(window).clamp(Self::MIN, Self::MAX),
        }
    }
}

/// Returns the maximum number of bytes that a peer with this largest window can hold
/// unread.
pub(crate) const fn unread_bound(window: usize) -> usize {
    window.saturating_mul(2)
}

/// The batches that were delivered last, oldest first, up to a limit in bytes and an
/// age.
#[derive(Debug)]
pub struct Replay {
    limit: usize,
    age: Duration,
    kept: VecDeque<Kept>,
    /// The size of all kept frames in bytes.
    bytes: usize,
    /// See [`Replay::take_evicted`].
    evicted: u64,
}

/// A kept batch, or the part of a batch that is within the limit.
#[derive(Debug)]
pub struct Kept {
    /// The frames.
    pub batch: Batch,
    /// The offset of the first kept frame.
    pub from: usize,
    /// The time at which the batch was delivered.
    at: Instant,
}

impl Replay {
    /// Creates a buffer that keeps whole frames with at most `limit` bytes in total, for
    /// the duration `age`. A limit of zero keeps nothing.
    #[must_use]
    pub const fn new(limit: usize, age: Duration) -> Self {
        Self {
            limit,
            age,
            kept: VecDeque::new(),
            bytes: 0,
            evicted: 0,
        }
    }

    /// Raises the limit. It is never lowered, since the kept frames were sent to a peer
    /// with the larger window.
    pub fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Keeps the frames of a batch from the offset `from` on. Returns a batch that is no
    /// longer needed, if there is one, so that its memory can be used again.
    pub fn keep(&mut self, mut batch: Batch, from: usize, now: Instant) -> Option<Batch> {
        if self.limit > 0 {
            // A small batch must not keep the buffer of an earlier large one.
            batch.trim();
        }
        self.bytes += batch.bytes().len() - from;
        self.kept.push_back(Kept {
            batch,
            from,
            at: now,
        });
        let mut spare = None;
        while let Some(oldest) = self.kept.front_mut()
            && self.bytes > self.limit
        {
            let beyond = oldest.from + self.bytes - self.limit;
            let cut = oldest.batch.frame_end(beyond - 1);
            self.bytes -= cut - oldest.from;
            self.evicted += (cut - oldest.from) as u64;
            oldest.from = cut;
            if cut == oldest.batch.bytes().len() {
                spare = self.kept.pop_front().map(|kept| kept.batch);
            }
        }
        spare
    }

    /// Returns the number of the first kept frame of each batch ([`Batch::numbered`]),
    /// oldest batch first.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let kept = self.kept.iter();
        kept.map(|kept| kept.batch.number_at(kept.from))
    }

    /// Returns a copy of the frame that was delivered last.
    #[must_use]
    pub fn newest_frame(&self) -> Option<Batch> {
        let batch = &self.kept.back()?.batch;
        let count = batch.frames();
        (count > 0).then(|| batch.slice(count - 1..count))
    }

    /// Drops the frames that have reached the age.
    pub fn expire(&mut self, now: Instant) {
        self.drop_older(self.age, now);
    }

    /// Drops the frames that were delivered at least `age` before `time`.
    pub fn drop_older(&mut self, age: Duration, time: Instant) {
        while self.oldest().is_some_and(|at| at + age <= time) {
            if let Some(kept) = self.kept.pop_front() {
                self.bytes -= kept.batch.bytes().len() - kept.from;
            }
        }
    }

    /// Returns the time at which the oldest kept frames were delivered.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.at)
    }

    /// Returns the time at which [`Replay::expire`] will drop the oldest frames.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        self.oldest().map(|at| at + self.age)
    }

    /// Returns the size in bytes of the frames that were dropped because of the limit
    /// since the last call.
    pub const fn take_evicted(&mut self) -> u64 {
        std::mem::replace(&mut self.evicted, 0)
    }

    /// Removes and returns all batches, oldest first.
    pub fn take(&mut self) -> VecDeque<Kept> {
        self.bytes = 0;
        std::mem::take(&mut self.kept)
    }

    /// Returns the size of all kept frames in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Framing;

    const AGE: Duration = Duration::from_secs(60);

    /// Three frames of five bytes each.
    fn batch(letter: char) -> Batch {
        let mut batch = Batch::new(Framing::OctetCounting);
        for number in 0..3 {
            let mut frame = batch.frame();
            frame
                .bytes()
                .extend_from_slice(format!("{letter}.{number}").as_bytes());
            frame.finish();
        }
        batch
    }

    fn frames(replay: &mut Replay) -> String {
        let kept = replay.take();
        kept.iter()
            .map(|kept| std::str::from_utf8(&kept.batch.bytes()[kept.from..]).unwrap())
            .collect()
    }

    #[test]
    fn the_last_whole_frames_within_the_limit_are_kept() {
        let now = Instant::now();
        for (limit, expected) in [
            (0, ""),
            (4, ""),
            (5, "3 b.2"),
            (14, "3 b.13 b.2"),
            (15, "3 b.03 b.13 b.2"),
            (19, "3 b.03 b.13 b.2"),
            (20, "3 a.23 b.03 b.13 b.2"),
            (1000, "3 a.03 a.13 a.23 b.03 b.13 b.2"),
        ] {
            let mut replay = Replay::new(limit, AGE);
            replay.keep(batch('a'), 0, now);
            replay.keep(batch('b'), 0, now);
            assert_eq!(replay.bytes(), expected.len());
            assert!(replay.bytes() <= limit);
            assert_eq!(frames(&mut replay), expected, "{limit}");
            assert_eq!((replay.bytes(), replay.is_empty()), (0, true));
        }
    }

    #[test]
    fn evicted_batches_are_returned() {
        let now = Instant::now();
        let mut replay = Replay::new(15, AGE);
        assert!(replay.keep(batch('a'), 0, now).is_none());
        let spare = replay.keep(batch('b'), 0, now).unwrap();
        assert_eq!(spare.bytes(), batch('a').bytes());
        assert!(Replay::new(0, AGE).keep(batch('a'), 0, now).is_some());
    }

    #[test]
    fn small_batches_do_not_keep_large_buffers() {
        let now = Instant::now();
        let mut replay = Replay::new(10_000, AGE);
        let mut spare = Batch::new(Framing::Datagram);
        let mut fill = |length: usize| {
            let mut batch = std::mem::replace(&mut spare, Batch::new(Framing::Datagram));
            batch.clear();
            let mut frame = batch.frame();
            frame.bytes().resize(length, b'x');
            frame.finish();
            if let Some(batch) = replay.keep(batch, 0, now) {
                spare = batch;
            }
        };
        for round in 0..10_000 {
            fill(if round % 10 == 0 { 5_000 } else { 10 });
        }
        let memory: usize = replay.kept.iter().map(|kept| kept.batch.capacity()).sum();
        assert!(memory <= 2 * 10_000 + 5_000, "{memory}");
    }

    #[test]
    fn old_frames_are_dropped() {
        let start = Instant::now();
        let mut replay = Replay::new(1000, AGE);
        replay.keep(batch('a'), 0, start);
        replay.keep(batch('b'), 5, start + AGE / 2);
        assert_eq!(replay.expires(), Some(start + AGE));
        replay.expire(start + AGE);
        assert_eq!(frames(&mut replay), "3 b.13 b.2");
        assert_eq!(replay.expires(), None);
    }
}
