//! Chunks that were delivered in part. When such a chunk comes again, it goes
//! on behind what its sink has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many chunks are remembered, the youngest ones. One that is forgotten is
/// sent as a whole. Fluent Bit's own limit is 2,048 retries at a time.
const CHUNKS: usize = 2048;
/// How long. Fluent Bit waits 2,000 s at most by default (`scheduler.cap`).
const AGE: Duration = Duration::from_secs(3600);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Resume {
    hasher: RandomState,
    chunks: Mutex<HashMap<Key, Part>>,
}

/// What tells chunks apart: Fluent Bit gives no name with them, and another
/// address each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    hash: u64,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    frames: usize,
    at: Instant,
}

impl Resume {
    /// Remembers that the first `frames` messages of a chunk need not be sent
    /// again.
    pub fn keep(&self, tag: &str, chunk: &[u8], frames: usize, now: Instant) {
        if frames == 0 {
            return;
        }
        let key = self.key(tag, chunk);
        let mut chunks = self.chunks.lock();
        if chunks.len() >= CHUNKS {
            chunks.retain(|_, part| now.saturating_duration_since(part.at) < AGE);
        }
        if chunks.len() >= CHUNKS
            && let Some(oldest) = chunks.iter().min_by_key(|(_, part)| part.at)
        {
            let oldest = *oldest.0;
            chunks.remove(&oldest);
        }
        chunks.insert(key, Part { frames, at: now });
    }

    /// How many messages of a chunk need not be sent, which is forgotten.
    /// Nothing is computed while nothing is remembered.
    pub fn take(&self, tag: &str, chunk: &[u8], now: Instant) -> usize {
        if self.chunks.lock().is_empty() {
            return 0;
        }
        let key = self.key(tag, chunk);
        self.chunks
            .lock()
            .remove(&key)
            .filter(|part| now.saturating_duration_since(part.at) < AGE)
            .map_or(0, |part| part.frames)
    }

    fn key(&self, tag: &str, chunk: &[u8]) -> Key {
        Key {
            hash: self.hasher.hash_one((tag, chunk)),
            length: chunk.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_known_by_its_tag_and_bytes_once() {
        let (resume, now) = (Resume::default(), Instant::now());
        resume.keep("a", b"chunk", 3, now);
        assert_eq!(resume.take("b", b"chunk", now), 0);
        assert_eq!(resume.take("a", b"chunks", now), 0);
        assert_eq!(resume.take("a", b"chunk", now), 3);
        assert_eq!(resume.take("a", b"chunk", now), 0);
    }

    #[test]
    fn nothing_is_remembered_of_nothing() {
        let (resume, now) = (Resume::default(), Instant::now());
        resume.keep("a", b"chunk", 0, now);
        assert!(resume.chunks.lock().is_empty());
    }

    #[test]
    fn memory_and_age_are_bounded() {
        let (resume, now) = (Resume::default(), Instant::now());
        let at = |number: usize| now + Duration::from_millis(number as u64);
        for number in 0..CHUNKS + 10 {
            resume.keep("a", &number.to_be_bytes(), 1, at(number));
        }
        assert_eq!(resume.chunks.lock().len(), CHUNKS);
        assert_eq!(resume.take("a", &9_usize.to_be_bytes(), now), 0);
        assert_eq!(resume.take("a", &10_usize.to_be_bytes(), now), 1);
        assert_eq!(resume.take("a", &11_usize.to_be_bytes(), at(11) + AGE), 0);
    }
}
