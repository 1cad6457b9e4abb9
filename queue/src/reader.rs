//! The end of a queue at which batches come out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use syslog::{Batch, Framing};

use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::handover::{HandedOver, Place};
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
    segment: Option<Open>,
    /// Where the next frame is on the disk, if that is known.
    place: Option<Place>,
    errors: Errors,
}

/// A batch that was read.
#[derive(Debug)]
pub struct Chunk {
    /// The frames, with their numbers ([`Batch::numbered`]): those of one append, or at
    /// most about 256 KiB where they are read from the disk, unless a single record is
    /// longer.
    pub batch: Batch,
    /// The time at which the first one was appended.
    pub time: SystemTime,
}

/// Where the next frame is.
enum Next {
    HandedOver(Chunk),
    /// In this segment, or nowhere.
    OnDisk(Extent),
    Nothing,
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    first: u64,
    file: File,
    framing: Framing,
    /// Where the next record begins.
    offset: u64,
}

/// The bytes of a segment that may be read.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: u64,
    length: u64,
    /// The number of the first frame that is not in it.
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
            place: None,
            errors: Errors::default(),
        }
    }

    /// The number of the next frame to be read.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The number of the first frame that was not acknowledged, as far as the
    /// position is written.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.state.lock().position.delivered
    }

    /// The content of the queue, and its losses.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// Goes back, or on, to the frame of this number.
    pub fn seek(&mut self, number: u64) {
        self.state.lock().seek(number);
        self.number = number;
        self.segment = None;
        self.place = None;
    }

    /// Returns a batch's buffer, to be used again.
    pub fn recycle(&self, batch: Batch) {
        self.state.lock().handover.recycle(batch);
    }

    /// Nothing is read for a while, so nothing is held in memory: what comes next is
    /// read from the disk.
    pub fn rest(&self) {
        self.state.lock().handover.stop();
    }

    /// The time at which the next frame was appended, if it is in memory.
    #[must_use]
    pub fn peek_time(&self) -> Option<SystemTime> {
        Some(self.state.lock().handover.peek()?.time)
    }

    /// Notes that the frames before `delivered` are delivered, and that those
    /// before `kept` are not needed any more. Neither ever goes back.
    ///
    /// # Errors
    ///
    /// If the position cannot be written: after a restart more is sent again.
    pub fn advance(&mut self, kept: u64, delivered: u64) -> Result<(), Error> {
        let position = Position { kept, delivered };
        let mut state = self.state.lock();
        let advanced = state.advance(position, &self.folder);
        let holds_leftovers = state.is_idle() && state.holds_leftovers();
        drop(state);
        if holds_leftovers && let Some(active) = self.active.try_lock() {
            active.cut(&self.state);
        }
        advanced
    }

    /// Returns the next frames, or `None` if there are no more. `scratch` is
    /// memory for what is read from the disk.
    ///
    /// # Errors
    ///
    /// If a segment cannot be opened or read for now.
    pub fn read(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Chunk>, Error> {
        loop {
            let extent = match self.next() {
                Next::HandedOver(chunk) => return Ok(Some(chunk)),
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
            // Behind the last record may be what the file's last use has left.
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
            if let Some(chunk) = self.read_records(extent, scratch)? {
                let mut state = self.state.lock();
                if state.first() < self.number {
                    state.read = self.number;
                    return Ok(Some(chunk));
                }
                // Evicted, and counted as such, while it was read.
            }
        }
    }

    /// Where the next frame is. Once everything is read, the writer hands its batches
    /// over. That is found out at one moment: a batch that is appended meanwhile would
    /// come from the disk and by the handover.
    fn next(&mut self) -> Next {
        let mut state = self.state.lock();
        if let Some(HandedOver { chunk, end, place }) = state.handover.take() {
            state.read = end;
            self.number = end;
            self.segment = None;
            self.place = Some(place);
            return Next::HandedOver(chunk);
        }
        if self.number == state.next {
            state.handover.start();
            return Next::Nothing;
        }
        let at = match &self.segment {
            Some(open) => state.at_or_behind(open.first),
            None => state.holding(self.number),
        };
        let Some(segment) = state.segments.get(at) else {
            return Next::Nothing;
        };
        let behind = state.segments.get(at + 1);
        Next::OnDisk(Extent {
            first: segment.first,
            length: segment.length,
            end: behind.map_or(state.next, |behind| behind.first),
            is_last: behind.is_none(),
        })
    }

    /// Closes the segment whose end is reached for now.
    fn close(&mut self) {
        if let Some(Open { first, offset, .. }) = self.segment.take() {
            self.place = Some(Place {
                segment: first,
                offset,
            });
        }
    }

    /// Whether a segment was removed from a folder that is there.
    fn is_gone(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound && self.folder.check().is_ok()
    }

    /// Opens a segment unless it is open. `None` if there is nothing to read in
    /// it.
    fn open(&mut self, extent: Extent) -> Result<Option<&mut Open>, Error> {
        if self
            .segment
            .as_ref()
            .is_none_or(|open| open.first != extent.first)
        {
            self.segment = None;
            // Frames between the number and a later segment are gone.
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
                    let place = self.place.filter(|place| place.segment == extent.first);
                    self.segment = Some(Open {
                        first: extent.first,
                        file,
                        framing,
                        offset: place.map_or(HEADER as u64, |place| place.offset),
                    });
                }
                // Of another version, or damaged: all of it is skipped.
                Ok((None, file)) => {
                    self.segment = Some(Open {
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

    /// Reads records from the open segment, and moves on behind them. `None`
    /// if they hold nothing of use.
    fn read_records(
        &mut self,
        extent: Extent,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Chunk>, Error> {
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
            self.errors = Errors::default();
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
                    return Ok(Some(Chunk {
                        batch,
                        time: UNIX_EPOCH + Duration::from_millis(time),
                    }));
                }
            }
        }
    }
}

/// Errors of a disk in a row.
#[derive(Debug, Default)]
struct Errors(u32);

impl Errors {
    /// Whether another try would fail as well: the file is cut short, or the disk
    /// could not read it for long.
    fn is_permanent(&mut self, error: &io::Error) -> bool {
        /// A minute of tries.
        const TRIES: u32 = 60;
        self.0 += 1;
        error.kind() == io::ErrorKind::UnexpectedEof || self.0 >= TRIES
    }
}

/// Consecutive records in the bytes that were read.
struct Records<'b> {
    bytes: &'b [u8],
    /// How many bytes there are in the segment from the first of `bytes` on.
    left: u64,
    /// The number of the segment's first frame.
    segment: u64,
    /// The number of the next frame.
    number: u64,
    /// The number of the first frame that is not in this segment.
    end: u64,
    batch: Batch,
    /// The number and the time of the first frame of `batch`.
    begin: Option<(u64, u64)>,
}

enum Parsed {
    /// Everything before this offset is done with.
    UpTo(u64),
    /// The first record of use is this long.
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
                // A failed append left it.
                return Parsed::UpTo(self.left);
            }
            if end as u64 > self.left {
                // Cut off.
                at += 1;
                continue;
            }
            if header.first < self.segment {
                // Left from the file's last use. After a power failure, a record of this
                // segment may stand within it.
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
