//! Batches that go from the writer to the reader in memory. They are on the disk as
//! well, but a reader that keeps up need not read them from there.

use std::collections::VecDeque;

use syslog::{Batch, Framing};

use crate::reader::Chunk;

/// The limit of the memory that is held here. One larger batch is taken where nothing
/// else is held.
const LIMIT: usize = 1024 * 1024;
/// A batch that takes more memory goes through the disk only, and such a buffer is
/// freed instead of being used again.
const LARGEST: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// Whether the reader has read everything, or finds the rest here.
    is_running: bool,
    /// Consecutive batches, up to the end of the queue if `is_running`.
    batches: VecDeque<HandedOver>,
    /// Their memory in bytes.
    held: usize,
    /// An empty batch whose allocation is used again.
    spare_batch: Option<Batch>,
}

/// A batch, and where the disk has it.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) chunk: Chunk,
    /// One past the number of its last frame.
    pub(crate) end: u64,
    /// Where the next record follows.
    pub(crate) place: Place,
}

/// A place in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number of the segment's first frame.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Handover {
    /// The reader is at the end of the queue: what is appended now is handed over.
    pub(crate) const fn start(&mut self) {
        self.is_running = true;
    }

    /// The reader is to read from the disk. Nothing is held any more.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// A batch was appended. It is handed over, and replaced by an empty one, if
    /// the reader keeps up.
    pub(crate) fn offer(&mut self, batch: &mut Batch, make: impl FnOnce(Batch) -> HandedOver) {
        if !self.is_running {
            return;
        }
        if batch.bytes().len() <= LARGEST {
            // A buffer that once held a large batch is not held for a small one.
            batch.trim();
        }
        let memory = memory_of(batch);
        let has_room = self.batches.is_empty() || self.held + memory <= LIMIT;
        self.is_running = has_room && memory <= LARGEST;
        if self.is_running {
            let empty = self.spare_or_new(batch.framing());
            self.batches
                .push_back(make(std::mem::replace(batch, empty)));
            self.held += memory;
        }
    }

    pub(crate) fn take(&mut self) -> Option<HandedOver> {
        let taken = self.batches.pop_front()?;
        self.held -= memory_of(&taken.chunk.batch);
        Some(taken)
    }

    /// The next batch, if it is here.
    pub(crate) fn peek(&self) -> Option<&Chunk> {
        self.batches.front().map(|next| &next.chunk)
    }

    /// Takes a batch that nobody needs any more.
    pub(crate) fn recycle(&mut self, mut batch: Batch) {
        if batch.capacity() <= LARGEST {
            batch.clear();
            self.spare_batch = Some(batch);
        }
    }

    /// An empty batch.
    pub(crate) fn spare_or_new(&mut self, framing: Framing) -> Batch {
        let spare = self.spare_batch.take();
        let fitting = spare.filter(|spare| spare.framing() == framing);
        fitting.unwrap_or_else(|| Batch::new(framing))
    }

    /// Gives back the memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.spare_batch = None;
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
    }
}

/// The memory of a batch that is held, in bytes.
fn memory_of(batch: &Batch) -> usize {
    batch.capacity() + size_of::<HandedOver>()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// A batch whose buffer once held more.
    fn batch() -> Batch {
        let mut batch = Batch::new(Framing::Newline);
        for size in [10_000, 6000] {
            batch.clear();
            let mut frame = batch.frame();
            frame.bytes().extend(std::iter::repeat_n(b'x', size));
            frame.finish();
        }
        batch
    }

    fn offer(handover: &mut Handover, mut batch: Batch) -> bool {
        handover.offer(&mut batch, |batch| HandedOver {
            chunk: Chunk {
                batch,
                time: SystemTime::UNIX_EPOCH,
            },
            end: 1,
            place: Place {
                segment: 0,
                offset: 0,
            },
        });
        batch.is_empty()
    }

    #[test]
    fn what_is_held_is_bounded_by_its_memory() {
        let mut handover = Handover::default();
        handover.start();
        while offer(&mut handover, batch()) {}
        let held = handover.batches.iter().map(|held| &held.chunk.batch);
        let memory: usize = held.map(Batch::capacity).sum();
        assert!((LIMIT / 2..=LIMIT).contains(&memory), "{memory}");
        // The reader has to read the rest from the disk.
        assert!(!offer(&mut handover, batch()));
        while handover.take().is_some() {}
        assert_eq!(handover.held, 0);
    }
}
