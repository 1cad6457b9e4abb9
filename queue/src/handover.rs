//! Batches that go from the writer to the reader in memory. They are on the disk as
//! well, but a reader that keeps up need not read them from there.

use std::collections::VecDeque;

use syslog::{Batch, Framing};

use crate::reader::Chunk;

/// The most bytes of frames in memory, unless a single batch has more.
const WAITING: usize = 1024 * 1024;
/// A larger batch goes by the disk, and larger buffers are not used again.
const LARGEST: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// Whether the reader has everything that was appended, or finds it here.
    is_current: bool,
    /// Consecutive batches, up to the end of the queue if `is_current`.
    batches: VecDeque<HandedOver>,
    /// The bytes of their frames.
    bytes: usize,
    /// An empty batch, for its memory.
    spare: Option<Batch>,
}

/// A batch, and where the disk has it.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) chunk: Chunk,
    /// The number behind its last frame.
    pub(crate) next: u64,
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
    /// The reader has come to the end of the queue.
    pub(crate) const fn begin(&mut self) {
        self.is_current = true;
    }

    /// The reader is to read from the disk.
    pub(crate) fn end(&mut self) {
        self.is_current = false;
        self.batches = VecDeque::new();
        self.bytes = 0;
        self.spare = None;
    }

    /// A batch is appended. It is handed over, and replaced by an empty one, if
    /// the reader keeps up.
    pub(crate) fn offer(&mut self, batch: &mut Batch, make: impl FnOnce(Batch) -> HandedOver) {
        let bytes = batch.bytes().len();
        let has_room = self.batches.is_empty() || self.bytes + bytes <= WAITING;
        self.is_current &= has_room && bytes <= LARGEST;
        if self.is_current {
            let empty = self.empty(batch.framing());
            self.batches
                .push_back(make(std::mem::replace(batch, empty)));
            self.bytes += bytes;
        }
    }

    pub(crate) fn take(&mut self) -> Option<HandedOver> {
        let taken = self.batches.pop_front()?;
        self.bytes -= taken.chunk.batch.bytes().len();
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
            self.spare = Some(batch);
        }
    }

    /// An empty batch, with memory that was used before if there is any.
    pub(crate) fn empty(&mut self, framing: Framing) -> Batch {
        let spare = self.spare.take();
        let fitting = spare.filter(|spare| spare.framing() == framing);
        fitting.unwrap_or_else(|| Batch::new(framing))
    }

    /// Gives back the memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.spare = None;
    }
}
