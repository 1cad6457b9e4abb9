//! The handover of batches from the writer to the reader in memory. The disk has the
//! batches too, for the next process and for replay, but a reader that keeps up need
//! not read them from there.
//!
//! The handover starts once the reader has read everything. Batches beyond the limit
//! wait on the disk only, and so does everything while there is no connection.

use std::collections::VecDeque;

use syslog::{Batch, Framing};

use crate::reader::QueuedBatch;

/// The maximum memory of all batches that are held, in bytes. A single batch may be
/// larger.
const LIMIT: usize = 1024 * 1024;
/// The maximum memory of one batch, in bytes. A larger batch goes through the disk
/// only, and its buffer is freed instead of being used again.
const LARGEST: usize = 4 * 1024 * 1024;

/// Batches handed from the writer to the reader in memory.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// Whether the reader finds all remaining batches here, so that it needs no disk.
    is_running: bool,
    /// Consecutive batches, up to the end of the queue if `is_running`.
    batches: VecDeque<HandedOver>,
    /// The memory of `batches` in bytes.
    held: usize,
    /// An empty batch whose buffer is used again.
    spare_batch: Option<Batch>,
}

/// A batch, and where the record after it begins.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) queued: QueuedBatch,
    /// One past the number of the last frame.
    pub(crate) end: u64,
    /// The location of the next record.
    pub(crate) next_record: Location,
}

/// A location in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    /// The number of the segment's first frame.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Handover {
    /// Starts the handover. The reader is at the end of the queue.
    pub(crate) const fn start(&mut self) {
        self.is_running = true;
    }

    /// Stops the handover and drops all batches: the reader must read from the disk.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Hands over a batch that was appended, and replaces it by an empty one, if the
    /// reader keeps up.
    pub(crate) fn offer(&mut self, batch: &mut Batch, make: impl FnOnce(Batch) -> HandedOver) {
        if !self.is_running {
            return;
        }
        if batch.bytes().len() <= LARGEST {
            // A small batch must not hold the buffer of an earlier large one.
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

    /// Takes the next batch, if there is one in memory.
    pub(crate) fn take(&mut self) -> Option<HandedOver> {
        let taken = self.batches.pop_front()?;
        self.held -= memory_of(&taken.queued.batch);
        Some(taken)
    }

    /// Returns the next batch without taking it.
    pub(crate) fn peek(&self) -> Option<&QueuedBatch> {
        self.batches.front().map(|next| &next.queued)
    }

    /// Takes back a batch that is no longer needed, to use its buffer again.
    pub(crate) fn recycle(&mut self, mut batch: Batch) {
        if batch.capacity() <= LARGEST {
            batch.clear();
            self.spare_batch = Some(batch);
        }
    }

    /// Returns an empty batch, with the spare buffer if it has the same framing.
    pub(crate) fn spare_or_new(&mut self, framing: Framing) -> Batch {
        let spare = self.spare_batch.take();
        let fitting = spare.filter(|spare| spare.framing() == framing);
        fitting.unwrap_or_else(|| Batch::new(framing))
    }

    /// Frees the memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.spare_batch = None;
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
    }
}

/// Returns the memory of a batch in bytes.
fn memory_of(batch: &Batch) -> usize {
    batch.capacity() + size_of::<HandedOver>()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// A batch whose buffer is larger than its frames.
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
            queued: QueuedBatch {
                batch,
                time: SystemTime::UNIX_EPOCH,
            },
            end: 1,
            next_record: Location {
                segment: 0,
                offset: 0,
            },
        });
        batch.is_empty()
    }

    #[test]
    fn the_memory_of_all_batches_is_limited() {
        let mut handover = Handover::default();
        handover.start();
        while offer(&mut handover, batch()) {}
        let held = handover.batches.iter().map(|held| &held.queued.batch);
        let memory: usize = held.map(Batch::capacity).sum();
        assert!((LIMIT / 2..=LIMIT).contains(&memory), "{memory}");
        // The reader must read the rest from the disk.
        assert!(!offer(&mut handover, batch()));
        while handover.take().is_some() {}
        assert_eq!(handover.held, 0);
    }
}
