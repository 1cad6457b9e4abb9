//! Chunks that were delivered in part: when such a chunk comes again, its
//! delivery continues behind the messages that the receiver already has.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The maximum number of chunks to remember. The oldest is forgotten first, and
/// then sent as a whole. Fluent Bit's own limit is 2,048 retries at a time.
const CHUNKS: usize = 2048;
/// The time after which a chunk is forgotten. Fluent Bit waits 2,000 s at most
/// by default (`scheduler.cap`).
const AGE: Duration = Duration::from_secs(3600);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Resume<S = RandomState> {
    hasher: S,
    /// The oldest first.
    parts: Mutex<VecDeque<Part>>,
}

/// A chunk that was delivered in part. Fluent Bit passes a chunk without a name
/// and at another address each time, so it is recognised by its content.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The length of the chunk's bytes, which is compared before the hash.
    length: usize,
    /// The hash of the chunk's tag and bytes.
    hash: u64,
    /// The number of messages that need not be sent again.
    frames: usize,
    at: Instant,
}

impl<S: BuildHasher> Resume<S> {
    /// Remembers that the first `frames` messages of a chunk need not be sent
    /// again.
    pub(crate) fn keep(&self, tag: &str, chunk: &[u8], frames: usize, now: Instant) {
        if frames == 0 {
            return;
        }
        let part = Part {
            length: chunk.len(),
            hash: self.hasher.hash_one((tag, chunk)),
            frames,
            at: now,
        };
        let mut parts = self.parts.lock();
        forget_expired(&mut parts, now);
        if parts.len() >= CHUNKS {
            parts.pop_front();
        }
        parts.push_back(part);
    }

    /// Returns the number of messages of a chunk that need not be sent, and
    /// forgets it. The chunk is hashed only if a remembered chunk has its length.
    pub(crate) fn take(&self, tag: &str, chunk: &[u8], now: Instant) -> usize {
        {
            let mut parts = self.parts.lock();
            forget_expired(&mut parts, now);
            if parts.iter().all(|part| part.length != chunk.len()) {
                return 0;
            }
        }
        let hash = self.hasher.hash_one((tag, chunk));
        let mut parts = self.parts.lock();
        let found = parts
            .iter()
            .position(|part| part.length == chunk.len() && part.hash == hash);
        found
            .and_then(|at| parts.remove(at))
            .map_or(0, |part| part.frames)
    }
}

fn forget_expired(parts: &mut VecDeque<Part>, now: Instant) {
    while let Some(oldest) = parts.front()
        && now.saturating_duration_since(oldest.at) >= AGE
    {
        parts.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::DefaultHasher;

    use super::*;

    /// Counts the chunks that are hashed.
    #[derive(Default)]
    struct Counting(Cell<usize>);

    impl BuildHasher for Counting {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            self.0.set(self.0.get() + 1);
            DefaultHasher::new()
        }
    }

    fn resume() -> (Resume<Counting>, Instant) {
        (Resume::default(), Instant::now())
    }

    #[test]
    fn a_chunk_is_recognised_by_its_tag_and_bytes_once() {
        let (resume, now) = resume();
        resume.keep("a", b"chunk", 3, now);
        assert_eq!(resume.take("b", b"chunk", now), 0);
        assert_eq!(resume.take("a", b"chunks", now), 0);
        assert_eq!(resume.take("a", b"chunk", now), 3);
        assert_eq!(resume.take("a", b"chunk", now), 0);
    }

    #[test]
    fn a_chunk_of_which_nothing_was_delivered_is_not_remembered() {
        let (resume, now) = resume();
        resume.keep("a", b"chunk", 0, now);
        assert!(resume.parts.lock().is_empty());
    }

    #[test]
    fn memory_and_age_are_bounded() {
        let (resume, now) = resume();
        let at = |number: usize| now + Duration::from_millis(number as u64);
        for number in 0..CHUNKS + 10 {
            resume.keep("a", &number.to_be_bytes(), 1, at(number));
        }
        assert_eq!(resume.parts.lock().len(), CHUNKS);
        assert_eq!(resume.take("a", &9_usize.to_be_bytes(), now), 0);
        assert_eq!(resume.take("a", &10_usize.to_be_bytes(), now), 1);
        assert_eq!(resume.take("a", &11_usize.to_be_bytes(), at(11) + AGE), 0);
    }

    #[test]
    fn only_chunks_of_a_remembered_length_are_hashed() {
        let (resume, now) = resume();
        let hashed = || resume.hasher.0.get();
        resume.keep("a", b"chunk", 3, now);
        assert_eq!(hashed(), 1);
        for length in [0, 1, 4, 6, 5000] {
            assert_eq!(resume.take("a", &vec![b'x'; length], now), 0);
        }
        assert_eq!(hashed(), 1);
        assert_eq!(resume.take("a", b"other", now), 0);
        assert_eq!(hashed(), 2);
    }

    #[test]
    fn a_chunk_that_never_comes_back_costs_nothing_after_a_while() {
        let (resume, now) = resume();
        let hashed = || resume.hasher.0.get();
        resume.keep("a", b"gone!", 3, now);
        assert_eq!(resume.take("a", b"chunk", now + AGE / 2), 0);
        assert_eq!(hashed(), 2);
        for _ in 0..100 {
            assert_eq!(resume.take("a", b"chunk", now + AGE), 0);
        }
        assert_eq!(hashed(), 2);
        assert!(resume.parts.lock().is_empty());
    }
}
