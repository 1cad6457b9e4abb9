//! A sink's queue on disk as its session sees it: batches that are submitted one
//! after the other, and a position that follows their ends.
//!
//! ```text
//! queue ── read ──> Consumer ── submit ──> Session ── delivered ──> position
//!   ^                 ^                   │
//!   └─ seek ──────────┴──── retry ────────┘
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use queue::{Chunk, Reader, Status};
use syslog::{Batch, Outcome};

/// The most bytes of frames that are under way, and one batch: more than a kernel's
/// send buffer takes.
const MAX_IN_FLIGHT: usize = 16 * 1024 * 1024;
/// The most bytes of them that the connection has not taken yet, and one batch.
const MAX_UNSENT: usize = 512 * 1024;
/// The wait after an error of the disk.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct Consumer {
    reader: Reader,
    /// The batches that were submitted and have not ended.
    in_flight: VecDeque<InFlight>,
    /// The bytes of their frames.
    bytes: usize,
    /// The number of the first frame that was not acknowledged.
    delivered: u64,
    /// The number of the first frame that was not acknowledged, and its time.
    oldest: Option<(u64, SystemTime)>,
    /// The session is gone: the frames kept to be sent again stay on the disk.
    is_frozen: bool,
    /// Nothing is read before that, since the disk had an error.
    retry_at: Option<Instant>,
}

/// A batch that was submitted.
struct InFlight {
    /// The number of its first frame.
    first: u64,
    end: u64,
    bytes: usize,
    time: SystemTime,
}

/// The content of a queue, and its losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Its size, and what it lost.
    pub status: Status,
    /// The time at which the oldest message that waits was appended.
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

    /// The frames that were delivered before this process, and that the receiver
    /// may have lost unread, one batch after the other.
    pub(crate) fn read_replay(
        &mut self,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Batch>, queue::Error> {
        while self.reader.number() < self.delivered {
            let chunk = self.reader.read(scratch).inspect_err(|_| {
                // Frames that cannot be read now are sent later, as if for the first time.
                self.delivered = self.reader.number();
            })?;
            let Some(Chunk { mut batch, .. }) = chunk else {
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

    /// Whether there is room for another batch, beside the bytes that the
    /// connection has not taken yet.
    pub(crate) const fn has_room(&self, unsent: usize) -> bool {
        self.bytes < MAX_IN_FLIGHT && unsent < MAX_UNSENT
    }

    /// The next batch to be submitted, if there is one.
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
            Ok(Some(Chunk { batch, time })) => {
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

    /// The time of the next turn, if the disk had an error.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|until| *until > now)
    }

    /// The batch that begins with the frame of this number has ended. If it was not
    /// delivered as a whole, the rest is read again, with all that is behind it.
    pub(crate) fn on_finished(&mut self, first: u64, outcome: Outcome, buffer: Option<Batch>) {
        if let Some(batch) = buffer {
            self.reader.recycle(batch);
        }
        let at = self.in_flight.iter().position(|batch| batch.first == first);
        // Otherwise it was behind one that was not delivered.
        let Some(ended) = at.and_then(|at| self.in_flight.remove(at)) else {
            return;
        };
        self.bytes -= ended.bytes;
        match outcome {
            // One that was given up ends before those under way.
            Outcome::Delivered if at == Some(0) => self.delivered = ended.end,
            Outcome::Delivered => {}
            Outcome::Retry { delivered } => {
                self.delivered = first + delivered as u64;
                self.oldest = Some((self.delivered, ended.time));
                self.in_flight.clear();
                self.bytes = 0;
                self.reader.seek(self.delivered);
            }
        }
    }

    /// Writes the position down. `first_held` is the first frame that the session holds.
    pub(crate) fn save(&mut self, first_held: Option<u64>) -> Result<(), queue::Error> {
        let kept = first_held.unwrap_or(self.delivered).min(self.delivered);
        let kept = if self.is_frozen { 0 } else { kept };
        self.reader.advance(kept, self.delivered)
    }

    /// The session forgets what it keeps: the next process sends it again.
    pub(crate) const fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// There is no connection.
    pub(crate) fn on_disconnected(&self) {
        self.reader.rest();
    }

    pub(crate) fn state(&mut self, scratch: &mut Vec<u8>) -> QueueState {
        let status = self.reader.status();
        let oldest = match self.in_flight.front() {
            Some(batch) => Some(batch.time),
            None if status.waiting > 0 => self.peek(scratch),
            None => None,
        };
        QueueState { status, oldest }
    }

    /// The time of the first frame that waits. It is read once.
    fn peek(&mut self, scratch: &mut Vec<u8>) -> Option<SystemTime> {
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
        // An error is reported when the frame is to be sent.
        let chunk = self.reader.read(scratch);
        self.reader.seek(self.delivered);
        let time = chunk.ok()??.time;
        self.oldest = Some((self.delivered, time));
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use syslog::Framing;

    use super::*;

    #[test]
    fn the_position_waits_for_the_batches_before() {
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
        // Given up as a whole.
        consumer.on_finished(2, Outcome::Delivered, None);
        assert_eq!(consumer.delivered, 0);
        consumer.on_finished(0, Outcome::Delivered, None);
        assert_eq!(consumer.delivered, 2);
        consumer.on_finished(4, Outcome::Retry { delivered: 1 }, None);
        assert_eq!((consumer.delivered, consumer.bytes), (5, 0));
        let read = consumer.next(&mut scratch, now).unwrap().unwrap();
        assert_eq!((read.first(), read.frames()), (5, 1));
    }
}
