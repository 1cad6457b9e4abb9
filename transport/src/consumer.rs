//! The consumer of a sink's queue on disk: submits batches to the session in order,
//! and advances the position as they are delivered.
//!
//! ```text
//! queue ── read ──> Consumer ── submit ──> Session ── delivered ──> position
//!   ^                  ^                      │
//!   └───── seek ───────┴──────── retry ───────┘
//! ```
//!
//! The consumer submits batches up to a window. The first frame that the session holds,
//! to be sent or to be sent again, is the first that the queue has to keep. Frames that
//! were kept at the end of a process are passed to the next session.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use queue::{QueuedBatch, Reader, Status};
use syslog::{Batch, Outcome};

/// The number of bytes in flight at which no further batch is read. More than a
/// kernel's send buffer holds.
const MAX_IN_FLIGHT: usize = 16 * 1024 * 1024;
/// The number of bytes not yet passed to the connection at which no further batch is
/// read.
const MAX_UNSENT: usize = 512 * 1024;
/// The wait after an error of the disk before the queue is read again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct Consumer {
    reader: Reader,
    /// The batches that were submitted and are not finished.
    in_flight: VecDeque<InFlight>,
    /// The size in bytes of the frames in flight.
    bytes: usize,
    /// The number of the first frame that is not delivered.
    delivered: u64,
    /// The number of a frame and the time at which it was appended: a cache for
    /// [`Consumer::state`].
    oldest: Option<(u64, SystemTime)>,
    /// Whether the position of kept frames stays as it is, because the session has
    /// dropped its replay buffer.
    is_frozen: bool,
    /// The time before which nothing is read, after an error of the disk.
    retry_at: Option<Instant>,
}

/// A batch that was submitted and is not finished.
struct InFlight {
    /// The number of the batch's first frame.
    first: u64,
    /// The number after the batch's last frame.
    end: u64,
    bytes: usize,
    /// The time at which the batch was appended to the queue.
    time: SystemTime,
}

/// The state of a sink's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The size of the queue, and its losses.
    pub status: Status,
    /// The time at which the oldest waiting message was appended. None if no message
    /// is waiting or the time is unknown.
    pub oldest: Option<SystemTime>,
}

impl Consumer {
    pub(crate) fn new(reader: Reader) -> Self {
        Self {
            delivered: reader.delivered(),
            reader,
            in_flight: VecDeque::new(),
            bytes: 0,
            oldest: None,
            is_frozen: false,
            retry_at: None,
        }
    }

    /// Returns the next batch of frames that an earlier process has delivered and
    /// the receiver may have lost unread. None after the last one.
    pub(crate) fn read_replay(
        &mut self,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Batch>, queue::Error> {
        while self.reader.number() < self.delivered {
            let queued = self.reader.read(scratch).inspect_err(|_| {
                // Unreadable frames are sent later, as if for the first time.
                self.delivered = self.reader.number();
            })?;
            let Some(QueuedBatch { mut batch, .. }) = queued else {
                break;
            };
            let kept = self.delivered.saturating_sub(batch.first());
            batch.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        self.reader.seek(self.delivered);
        Ok(None)
    }

    /// Returns whether another batch can be submitted, given the number of unsent
    /// bytes in the session.
    pub(crate) const fn has_room(&self, unsent: usize) -> bool {
        self.bytes < MAX_IN_FLIGHT && unsent < MAX_UNSENT
    }

    /// Returns the next batch to submit, if there is one.
    pub(crate) fn next(
        &mut self,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Option<Batch>, queue::Error> {
        if self.retry_at.is_some_and(|until| now < until) {
            return Ok(None);
        }
        self.retry_at = None;
        match self.reader.read(scratch) {
            Ok(Some(QueuedBatch { batch, time })) => {
                let bytes = batch.bytes().len();
                self.bytes += bytes;
                self.in_flight.push_back(InFlight {
                    first: batch.first(),
                    end: batch.first() + batch.frames() as u64,
                    bytes,
                    time,
                });
                Ok(Some(batch))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.retry_at = Some(now + RETRY_DELAY);
                Err(error)
            }
        }
    }

    /// Returns when to read the queue again, after an error of the disk.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|until| *until > now)
    }

    /// Handles the outcome of the batch whose first frame has the number `first`. If
    /// the batch was not fully delivered, its rest and all later batches are read
    /// again. `buffer` is a batch whose memory can be reused.
    pub(crate) fn on_finished(&mut self, first: u64, outcome: Outcome, buffer: Option<Batch>) {
        if let Some(batch) = buffer {
            self.reader.recycle(batch);
        }
        let index = self.in_flight.iter().position(|batch| batch.first == first);
        // A missing batch follows one that was not delivered, and is read again.
        let Some(finished) = index.and_then(|index| self.in_flight.remove(index)) else {
            return;
        };
        self.bytes -= finished.bytes;
        match outcome {
            // A later batch finishes first if all its frames are dropped.
            Outcome::Delivered if index == Some(0) => self.delivered = finished.end,
            Outcome::Delivered => {}
            Outcome::Retry { skip } => {
                self.delivered = first + skip as u64;
                self.oldest = Some((self.delivered, finished.time));
                self.in_flight.clear();
                self.bytes = 0;
                self.reader.seek(self.delivered);
            }
        }
    }

    /// Saves the position. `first_held` is the number of the first frame that the
    /// session holds, if any.
    pub(crate) fn save(&mut self, first_held: Option<u64>) -> Result<(), queue::Error> {
        let kept = first_held.unwrap_or(self.delivered).min(self.delivered);
        let kept = if self.is_frozen { 0 } else { kept };
        self.reader.advance(kept, self.delivered)
    }

    /// Stops advancing the position of kept frames, before the session drops its
    /// replay buffer: the next process sends these frames again.
    pub(crate) const fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// Releases buffers while there is no connection.
    pub(crate) fn on_disconnected(&self) {
        self.reader.release_memory();
    }

    /// Returns the state of the queue.
    pub(crate) fn state(&mut self, scratch: &mut Vec<u8>) -> QueueState {
        let status = self.reader.status();
        let oldest = match self.in_flight.front() {
            Some(batch) => Some(batch.time),
            None if status.waiting > 0 => self.oldest_time(scratch),
            None => None,
        };
        QueueState { status, oldest }
    }

    /// Returns the time at which the first waiting frame was appended. The time is
    /// read from the disk only once.
    fn oldest_time(&mut self, scratch: &mut Vec<u8>) -> Option<SystemTime> {
        if let Some((number, time)) = self.oldest
            && number == self.delivered
        {
            return Some(time);
        }
        if self.reader.number() == self.delivered
            && let Some(time) = self.reader.peek_time()
        {
            return Some(time);
        }
        self.reader.seek(self.delivered);
        // An error is reported when the frame is read to be sent.
        let queued = self.reader.read(scratch);
        self.reader.seek(self.delivered);
        let time = queued.ok()??.time;
        self.oldest = Some((self.delivered, time));
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use syslog::Framing;

    use super::*;

    #[test]
    fn the_position_advances_in_order_of_the_batches() {
        let dir = tempfile::tempdir().unwrap();
        let options = queue::Options {
            framing: Framing::Newline,
            limit: 64 << 20,
            sync: false,
        };
        let (writer, reader) = queue::open(dir.path(), options).unwrap();
        let (now, mut scratch) = (Instant::now(), Vec::new());
        let mut consumer = Consumer::new(reader);
        for number in 0..3 {
            let mut batch = Batch::new(Framing::Newline);
            for _ in 0..2 {
                let mut frame = batch.frame();
                frame.bytes().extend_from_slice(b"text");
                frame.finish();
            }
            writer.append(&mut batch, SystemTime::now()).unwrap();
            let read = consumer.next(&mut scratch, now).unwrap().unwrap();
            assert_eq!(read.first(), 2 * number);
        }
        // Finishes before its predecessor, as a batch whose frames were all dropped.
        consumer.on_finished(2, Outcome::Delivered, None);
        assert_eq!(consumer.delivered, 0);
        consumer.on_finished(0, Outcome::Delivered, None);
        assert_eq!(consumer.delivered, 2);
        consumer.on_finished(4, Outcome::Retry { skip: 1 }, None);
        assert_eq!((consumer.delivered, consumer.bytes), (5, 0));
        let read = consumer.next(&mut scratch, now).unwrap().unwrap();
        assert_eq!((read.first(), read.frames()), (5, 1));
    }
}
