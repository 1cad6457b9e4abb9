//! The reading side of a queue.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use syslog::{Batch, Framing};

use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::handover::{HandedOver, Location};
use crate::position::Position;
use crate::record::Header;
use crate::segment::{self, HEADER, READ};
use crate::state::{State, Status};
use crate::writer::Active;

/// Reads batches from a queue.
#[derive(Debug)]
pub struct Reader {
    folder: Arc<Folder>,
    state: Arc<Mutex<State>>,
    /// Locked before `state`.
    active: Arc<Mutex<Active>>,
    framing: Framing,
    /// The number of the next frame.
    number: u64,
    segment: Option<OpenSegment>,
    /// The location of the next frame on the disk, if it is known.
    location: Option<Location>,
    errors: ReadErrors,
}

/// A batch that was read.
#[derive(Debug)]
pub struct QueuedBatch {
    /// The frames, with their numbers ([`Batch::numbered`]). A batch from memory has the
    /// frames of one append. A batch from the disk has at most about 256 KiB, unless a
    /// single record is longer.
    pub batch: Batch,
    /// The time at which the first frame was appended.
    pub time: SystemTime,
}

/// The source of the next frame.
enum Next {
    /// The writer has handed it over in memory.
    HandedOver(QueuedBatch),
    /// It is in this segment, or it is lost.
    OnDisk(Extent),
    /// All frames were read.
    Nothing,
}

/// The segment that is being read.
#[derive(Debug)]
struct OpenSegment {
    first: u64,
    file: File,
    framing: Framing,
    /// The offset of the next record.
    offset: u64,
}

/// The part of a segment that may be read.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: u64,
    length: u64,
    /// One past the number of the last frame in it.
    end: u64,
    is_last: bool,
}

impl Reader {
    pub(crate) fn new(
        folder: Arc<Folder>,
        state: Arc<Mutex<State>>,
        active: Arc<Mutex<Active>>,
        framing: Framing,
    ) -> Self {
        let number = state.lock().read;
        Self {
            folder,
            state,
            active,
            framing,
            number,
            segment: None,
            location: None,
            errors: ReadErrors::default(),
        }
    }

    /// Returns the number of the next frame to be read.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the number of the first frame that was not acknowledged, according to
    /// the position.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.state.lock().position.delivered
    }

    /// Returns the content of the queue, and its losses.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// Moves to the frame with this number, back or forward.
    pub fn seek(&mut self, number: u64) {
        self.state.lock().seek(number);
        self.number = number;
        self.segment = None;
        self.location = None;
    }

    /// Takes back a batch that is no longer needed, to use its buffer again.
    pub fn recycle(&self, batch: Batch) {
        self.state.lock().handover.recycle(batch);
    }

    /// Frees the batches in memory, because nothing will be read for a while. They are
    /// read from the disk later.
    pub fn release_memory(&self) {
        self.state.lock().handover.stop();
    }

    /// Returns the time at which the next frame was appended, or `None` if the frame is
    /// not in memory.
    #[must_use]
    pub fn peek_time(&self) -> Option<SystemTime> {
        Some(self.state.lock().handover.peek()?.time)
    }

    /// Moves the position: the frames before `delivered` were acknowledged, and the
    /// frames before `kept` are no longer needed. Neither number ever moves back.
    ///
    /// # Errors
    ///
    /// Returns an error if the position cannot be saved. More frames are sent again
    /// after a restart then.
    pub fn advance(&mut self, kept: u64, delivered: u64) -> Result<(), Error> {
        let position = Position { kept, delivered };
        let mut state = self.state.lock();
        let advanced = state.advance(position, &self.folder);
        let holds_leftovers = state.is_idle() && state.holds_leftovers();
        drop(state);
        if holds_leftovers && let Some(active) = self.active.try_lock() {
            active.truncate(&self.state);
        }
        advanced
    }

    /// Returns the next frames, or `None` if all were read. `scratch` is a buffer for
    /// reads from the disk; its content does not matter.
    ///
    /// # Errors
    ///
    /// Returns an error if a segment cannot be opened or read. The read can be tried
    /// again later.
    pub fn read(&mut self, scratch: &mut Vec<u8>) -> Result<Option<QueuedBatch>, Error> {
        loop {
            let extent = match self.next() {
                Next::HandedOver(queued) => return Ok(Some(queued)),
                Next::OnDisk(extent) => extent,
                Next::Nothing => {
                    self.close();
                    return Ok(None);
                }
            };
            let Some(segment) = self.open(extent)? else {
                continue;
            };
            let is_read = segment.offset >= extent.length;
            // Leftovers of the file's earlier segment may follow the last record.
            if is_read || self.number >= extent.end {
                self.number = self
                    .state
                    .lock()
                    .skip(self.number, extent.end, &self.folder);
                if !extent.is_last {
                    self.segment = None;
                }
                continue;
            }
            if let Some(queued) = self.read_records(extent, scratch)? {
                let mut state = self.state.lock();
                if state.first() < self.number {
                    state.read = self.number;
                    return Ok(Some(queued));
                }
                // The frames were evicted, and counted, during the read.
            }
        }
    }

    /// Returns the source of the next frame. Starts the handover once everything was
    /// read. Both happen under one lock: a batch appended in between would be read from
    /// the disk and handed over as well.
    fn next(&mut self) -> Next {
        let mut state = self.state.lock();
        if let Some(HandedOver {
            queued,
            end,
            next_record,
        }) = state.handover.take()
        {
            state.read = end;
            self.number = end;
            self.segment = None;
            self.location = Some(next_record);
            return Next::HandedOver(queued);
        }
        if self.number == state.next {
            state.handover.start();
            return Next::Nothing;
        }
        let at = match &self.segment {
            Some(open) => state.index_from(open.first),
            None => state.index_holding(self.number),
        };
        let Some(segment) = state.segments.get(at) else {
            return Next::Nothing;
        };
        let next = state.segments.get(at + 1);
        Next::OnDisk(Extent {
            first: segment.first,
            length: segment.length,
            end: next.map_or(state.next, |next| next.first),
            is_last: next.is_none(),
        })
    }

    /// Closes the segment at the end of the queue, and remembers the location.
    fn close(&mut self) {
        if let Some(OpenSegment { first, offset, .. }) = self.segment.take() {
            self.location = Some(Location {
                segment: first,
                offset,
            });
        }
    }

    /// Whether the segment's file is missing, although the folder exists.
    fn is_gone(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound && self.folder.check().is_ok()
    }

    /// Opens a segment unless it is open. Returns `None` if its file is missing.
    fn open(&mut self, extent: Extent) -> Result<Option<&mut OpenSegment>, Error> {
        if self
            .segment
            .as_ref()
            .is_none_or(|open| open.first != extent.first)
        {
            self.segment = None;
            // The frames before a later segment are missing.
            self.number = self
                .state
                .lock()
                .skip(self.number, extent.first, &self.folder);
            let found = self
                .folder
                .open_segment(extent.first)
                .and_then(|file| Ok((segment::framing(&file)?, file)));
            match found {
                Ok((Some(framing), file)) => {
                    let known = self
                        .location
                        .filter(|location| location.segment == extent.first);
                    self.segment = Some(OpenSegment {
                        first: extent.first,
                        file,
                        framing,
                        offset: known.map_or(HEADER as u64, |location| location.offset),
                    });
                }
                // A damaged header or a different version: the whole segment is skipped.
                Ok((None, file)) => {
                    self.segment = Some(OpenSegment {
                        first: extent.first,
                        file,
                        framing: self.framing,
                        offset: extent.length,
                    });
                }
                Err(error) if self.is_gone(&error) => self.state.lock().forget(extent.first),
                Err(error) => {
                    return Err(error).context("read", &self.folder.segment(extent.first));
                }
            }
        }
        Ok(self.segment.as_mut())
    }

    /// Reads records from the open segment, and moves past them. Returns `None` if they
    /// have no frames to be delivered.
    fn read_records(
        &mut self,
        extent: Extent,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<QueuedBatch>, Error> {
        let Some(open) = &mut self.segment else {
            return Ok(None);
        };
        let left = extent.length - open.offset;
        let mut size = left.min(READ as u64);
        loop {
            scratch.resize(size as usize, 0);
            match open.file.read_exact_at(scratch, open.offset) {
                Ok(()) => {}
                Err(error) if self.errors.is_permanent(&error) => {
                    open.offset = extent.length;
                    return Ok(None);
                }
                Err(error) => {
                    return Err(error).context("read", &self.folder.segment(extent.first));
                }
            }
            self.errors = ReadErrors::default();
            let batch = self.state.lock().handover.spare_or_new(open.framing);
            let mut records = Records {
                bytes: scratch,
                left,
                segment: extent.first,
                number: self.number,
                end: extent.end,
                batch,
                begin: None,
            };
            match records.parse() {
                Parsed::Incomplete(longer) => size = longer,
                Parsed::UpTo(offset) => {
                    open.offset += offset.min(left);
                    let Some((first, time)) = records.begin else {
                        return Ok(None);
                    };
                    let batch = records.batch.with_framing(self.framing).numbered(first);
                    self.state.lock().skip(self.number, first, &self.folder);
                    self.number = records.number;
                    return Ok(Some(QueuedBatch {
                        batch,
                        time: UNIX_EPOCH + Duration::from_millis(time),
                    }));
                }
            }
        }
    }
}

/// The number of consecutive read errors.
#[derive(Debug, Default)]
struct ReadErrors(u32);

impl ReadErrors {
    /// Counts an error. Returns whether the read should not be tried again, because the
    /// file was truncated or has failed too often.
    fn is_permanent(&mut self, error: &io::Error) -> bool {
        /// About a minute, as a failed read is tried again after a second.
        const MAX_ATTEMPTS: u32 = 60;
        self.0 += 1;
        error.kind() == io::ErrorKind::UnexpectedEof || self.0 >= MAX_ATTEMPTS
    }
}

/// Parses the records in the bytes that were read.
struct Records<'b> {
    bytes: &'b [u8],
    /// The number of bytes from the beginning of `bytes` to the end of the segment.
    left: u64,
    /// The number of the segment's first frame.
    segment: u64,
    /// The number of the next frame.
    number: u64,
    /// One past the number of the segment's last frame.
    end: u64,
    batch: Batch,
    /// The number and the time of the first frame of `batch`.
    begin: Option<(u64, u64)>,
}

/// The result of parsing.
enum Parsed {
    /// All records before this offset were parsed.
    UpTo(u64),
    /// The first record has this length in bytes, and more must be read.
    Incomplete(u64),
}

impl Records<'_> {
    fn parse(&mut self) -> Parsed {
        let mut at = 0;
        let is_all = self.bytes.len() as u64 == self.left;
        while at < self.bytes.len() {
            let Some(header) = Header::parse(&self.bytes[at..]) else {
                if !is_all && self.bytes.len() - at < Header::LENGTH {
                    break;
                }
                match Header::search(self.bytes, at + 1) {
                    Ok((found, _)) => at = found,
                    Err(_) if is_all => at = self.bytes.len(),
                    Err(next) => {
                        at = next;
                        break;
                    }
                }
                continue;
            };
            let end = at + header.record();
            if header.first >= self.end {
                // A leftover of a failed append.
                return Parsed::UpTo(self.left);
            }
            if end as u64 > self.left {
                // The record was cut off.
                at += 1;
                continue;
            }
            if header.first < self.segment {
                // A leftover of the file's earlier segment. After a power failure, a record
                // of this segment may begin within it.
                at += 1;
                continue;
            }
            if header.end() <= self.number {
                at = end;
                continue;
            }
            if self.begin.is_some() && header.first > self.number {
                break;
            }
            if end > self.bytes.len() {
                if self.begin.is_none() && at == 0 {
                    return Parsed::Incomplete(end as u64);
                }
                break;
            }
            let body = &self.bytes[at + Header::LENGTH..end];
            if header.append_to(&mut self.batch, body, self.number) {
                let first = header.first.max(self.number);
                self.begin.get_or_insert((first, header.time));
                self.number = header.end();
            }
            at = end;
        }
        Parsed::UpTo(at as u64)
    }
}
