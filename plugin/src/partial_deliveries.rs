//! Chunks that were partially delivered: when Fluent Bit retries such a chunk, delivery
//! continues after the messages that the receiver already has.
//!
//! The session reports the number of a batch's frames that need not be sent again, and
//! a chunk is remembered with this number.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The maximum number of chunks to remember, as many as Fluent Bit retries at a time.
/// Beyond it the oldest chunk is forgotten, and delivered completely again.
const MAX_CHUNKS: usize = 2048;
/// The time after which a chunk is forgotten. By default, Fluent Bit retries after
/// 2,000 s at most (`scheduler.cap`).
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The partially delivered chunks of an output.
#[derive(Debug, Default)]
pub(crate) struct PartialDeliveries<S = RandomState> {
    hasher: S,
    /// The chunks, oldest first.
    chunks: Mutex<VecDeque<PartialChunk>>,
}

/// A partially delivered chunk. Fluent Bit passes chunks without an ID and at a
/// different address each time, so a chunk is identified by its content.
#[derive(Clone, Copy, Debug)]
struct PartialChunk {
    /// The length of the chunk, which is compared before the hash.
    length: usize,
    /// The hash of the chunk's tag and content.
    hash: u64,
    /// The number of messages that were delivered.
    delivered: usize,
    time: Instant,
}

impl<S: BuildHasher> PartialDeliveries<S> {
    /// Remembers that the first `delivered` messages of a chunk were delivered.
    pub(crate) fn remember(&self, tag: &str, chunk: &[u8], delivered: usize, now: Instant) {
        if delivered == 0 {
            return;
        }
        let chunk = PartialChunk {
            length: chunk.len(),
            hash: self.hasher.hash_one((tag, chunk)),
            delivered,
            time: now,
        };
        let mut chunks = self.chunks.lock();
        forget_expired(&mut chunks, now);
        if chunks.len() >= MAX_CHUNKS {
            chunks.pop_front();
        }
        chunks.push_back(chunk);
    }

    /// Returns the number of a chunk's messages that were delivered before, and forgets
    /// the chunk. The chunk is hashed only if a remembered chunk has the same length.
    pub(crate) fn take(&self, tag: &str, chunk: &[u8], now: Instant) -> usize {
        {
            let mut chunks = self.chunks.lock();
            forget_expired(&mut chunks, now);
            if chunks.iter().all(|partial| partial.length != chunk.len()) {
                return 0;
            }
        }
        let hash = self.hasher.hash_one((tag, chunk));
        let mut chunks = self.chunks.lock();
        let position = chunks
            .iter()
            .position(|partial| partial.length == chunk.len() && partial.hash == hash);
        position
            .and_then(|position| chunks.remove(position))
            .map_or(0, |partial| partial.delivered)
    }
}

fn forget_expired(chunks: &mut VecDeque<PartialChunk>, now: Instant) {
    while let Some(oldest) = chunks.front()
        && now.saturating_duration_since(oldest.time) >= MAX_AGE
    {
        chunks.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::DefaultHasher;

    use super::*;

    /// A hasher that counts the hashed chunks.
    #[derive(Default)]
    struct CountingHasher(Cell<usize>);

    impl BuildHasher for CountingHasher {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            self.0.set(self.0.get() + 1);
            DefaultHasher::new()
        }
    }

    fn partial() -> (PartialDeliveries<CountingHasher>, Instant) {
        (PartialDeliveries::default(), Instant::now())
    }

    #[test]
    fn a_chunk_is_identified_once_by_its_tag_and_content() {
        let (partial, now) = partial();
        partial.remember("a", b"chunk", 3, now);
        assert_eq!(partial.take("b", b"chunk", now), 0);
        assert_eq!(partial.take("a", b"chunks", now), 0);
        assert_eq!(partial.take("a", b"chunk", now), 3);
        assert_eq!(partial.take("a", b"chunk", now), 0);
    }

    #[test]
    fn a_chunk_without_delivered_messages_is_not_remembered() {
        let (partial, now) = partial();
        partial.remember("a", b"chunk", 0, now);
        assert!(partial.chunks.lock().is_empty());
    }

    #[test]
    fn the_number_and_the_age_of_chunks_are_bounded() {
        let (partial, now) = partial();
        let at = |number: usize| now + Duration::from_millis(number as u64);
        for number in 0..MAX_CHUNKS + 10 {
            partial.remember("a", &number.to_be_bytes(), 1, at(number));
        }
        assert_eq!(partial.chunks.lock().len(), MAX_CHUNKS);
        assert_eq!(partial.take("a", &9_usize.to_be_bytes(), now), 0);
        assert_eq!(partial.take("a", &10_usize.to_be_bytes(), now), 1);
        let expired = at(11) + MAX_AGE;
        assert_eq!(partial.take("a", &11_usize.to_be_bytes(), expired), 0);
    }

    #[test]
    fn only_chunks_of_a_remembered_length_are_hashed() {
        let (partial, now) = partial();
        let hashed = || partial.hasher.0.get();
        partial.remember("a", b"chunk", 3, now);
        assert_eq!(hashed(), 1);
        for length in [0, 1, 4, 6, 5000] {
            assert_eq!(partial.take("a", &vec![b'x'; length], now), 0);
        }
        assert_eq!(hashed(), 1);
        assert_eq!(partial.take("a", b"other", now), 0);
        assert_eq!(hashed(), 2);
    }

    #[test]
    fn a_chunk_that_is_never_retried_is_forgotten() {
        let (partial, now) = partial();
        let hashed = || partial.hasher.0.get();
        partial.remember("a", b"gone!", 3, now);
        assert_eq!(partial.take("a", b"chunk", now + MAX_AGE / 2), 0);
        assert_eq!(hashed(), 2);
        for _ in 0..100 {
            assert_eq!(partial.take("a", b"chunk", now + MAX_AGE), 0);
        }
        assert_eq!(hashed(), 2);
        assert!(partial.chunks.lock().is_empty());
    }
}
