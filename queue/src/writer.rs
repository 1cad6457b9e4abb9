//! The end of a queue at which batches go in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use syslog::Batch;

use crate::Options;
use crate::budget::{Budget, Share};
use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::handover::{HandedOver, Place};
use crate::reader::Chunk;
use crate::record::{self, Header};
use crate::segment::{self, HEADER};
use crate::state::{Segment, State, Status};

/// The most bytes of frames in a record, unless a single frame is longer.
const RECORD: usize = 256 * 1024;
/// A segment that is delivered as a whole is replaced from this size on, so
/// that an idle queue holds little.
const SMALL: u64 = 64 * 1024;
/// The most bytes in a segment, unless a single record is longer.
const LARGE: u64 = 4 * 1024 * 1024;

/// Appends batches to a queue.
#[derive(Debug)]
pub struct Writer {
    folder: Arc<Folder>,
    state: Arc<Mutex<State>>,
    options: Options,
    /// Locked before `state`.
    active: Arc<Mutex<Active>>,
    share: Option<Arc<Share>>,
}

/// The segment that is being written.
#[derive(Debug, Default)]
pub(crate) struct Active {
    /// The segment's first frame and its file.
    segment: Option<(u64, File)>,
    /// The header and the table of a record.
    head: Vec<u8>,
}

impl Active {
    /// Cuts off what is behind the records: a failed append, or what the file's last use
    /// has left. Nothing is appended meanwhile, since this is locked.
    pub(crate) fn cut(&self, state: &Mutex<State>) {
        let Some((first, file)) = &self.segment else {
            return;
        };
        let last = state.lock().segments.back().copied();
        if let Some(Segment { length, .. }) = last.filter(|last| last.first == *first)
            && file.set_len(length).is_ok()
            && let Some(last) = state.lock().segments.back_mut()
        {
            last.size = length;
        }
    }
}

impl Writer {
    pub(crate) fn new(
        folder: Arc<Folder>,
        state: Arc<Mutex<State>>,
        active: Arc<Mutex<Active>>,
        options: Options,
    ) -> Self {
        Self {
            folder,
            state,
            options,
            active,
            share: None,
        }
    }

    /// Counts the queue towards a maximum that it shares with others.
    #[must_use]
    pub fn within(mut self, budget: &Arc<Budget>) -> Self {
        let share = Share::new(budget, &self.folder, &self.state);
        self.share = Some(share);
        self
    }

    /// Appends all frames of a batch, or none of them. Afterwards the batch's content is
    /// unspecified, and it is to be cleared; after an error it is unchanged.
    ///
    /// # Errors
    ///
    /// If the disk is full, for example. The batch can be appended later.
    pub fn append(&self, batch: &mut Batch, time: SystemTime) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut active = self.active.lock();
        let result = self.write(&mut active, batch, time);
        if result.is_err() {
            self.cut_off(&mut active);
        }
        drop(active);
        if let Some(share) = &self.share {
            share.grown();
        }
        result
    }

    fn write(&self, active: &mut Active, batch: &mut Batch, time: SystemTime) -> Result<(), Error> {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(millis.as_millis()).unwrap_or(u64::MAX);
        // A file that is open takes appends, and nobody could read them any more.
        self.folder.check()?;
        let Active { segment, head } = active;
        let total = batch.bytes().len() + batch.frames() * 4;
        let (first, length, next) = self.room_for(segment, total as u64)?;
        let Some((_, file)) = segment else {
            return Ok(());
        };
        let path = || self.folder.segment(first);
        let mut at = length;
        let mut start = 0;
        while start < batch.frames() {
            let begin = batch.frame_start(start);
            let end = batch
                .frames_before(begin + RECORD)
                .clamp(start + 1, batch.frames());
            record::encode(batch, start..end, next + start as u64, millis, head);
            let (header, table) = head.split_at(Header::LENGTH);
            let frames = &batch.bytes()[begin..batch.frame_start(end)];
            let of_table = at + header.len() as u64;
            let of_frames = of_table + table.len() as u64;
            // The header is written last: a kill before that leaves no record.
            for (part, at) in [(table, of_table), (frames, of_frames), (header, at)] {
                file.write_all_at(part, at).context("write", &path())?;
            }
            at = of_frames + frames.len() as u64;
            start = end;
        }
        if self.options.sync {
            file.sync_data().context("sync", &path())?;
        }
        let mut state = self.state.lock();
        state.next = next + batch.frames() as u64;
        if let Some(last) = state.segments.back_mut()
            && last.first == first
        {
            last.length = at;
            last.size = last.size.max(at);
            last.is_reusable &= at <= self.large() + self.large() / 4;
        }
        let end = state.next;
        state.handover.offer(batch, |batch| HandedOver {
            chunk: Chunk {
                batch: batch.numbered(next),
                time,
            },
            end,
            place: Place {
                segment: first,
                offset: at,
            },
        });
        Ok(())
    }

    /// Cuts off what an append left that failed. A reader ignores it where that
    /// fails as well, because the next append begins a segment of its own.
    fn cut_off(&self, active: &mut Active) {
        {
            let mut state = self.state.lock();
            state.drop_spare(&self.folder);
            if let Some((first, _)) = &active.segment
                && let Some(last) = state.segments.back_mut()
                && last.first == *first
            {
                // Its numbers will be assigned again, so that what is left of it could
                // pass for records of that time.
                last.is_reusable = false;
            }
        }
        active.cut(&self.state);
        active.segment = None;
    }

    /// The size at which a segment is full, in bytes.
    fn large(&self) -> u64 {
        LARGE.min(self.options.limit / 8)
    }

    /// The segment that is written, if it takes another batch.
    fn active(&self, state: &State, segment: Option<&(u64, File)>) -> Option<Segment> {
        let (first, _) = segment?;
        let last = state.segments.back().filter(|last| last.first == *first)?;
        let is_delivered = state.position.kept == state.next && last.length > SMALL;
        (last.length < self.large() && !is_delivered).then_some(*last)
    }

    /// Makes room for `total` bytes, and returns the active segment's first
    /// frame, its length, and the number of the next frame.
    fn room_for(
        &self,
        segment: &mut Option<(u64, File)>,
        total: u64,
    ) -> Result<(u64, u64, u64), Error> {
        let mut state = self.state.lock();
        let active = self.active(&state, segment.as_ref());
        let growth = active.map_or(total, |active| {
            (active.length + total).saturating_sub(active.size)
        });
        state.evict(growth, self.options.limit, &self.folder)?;
        let next = state.next;
        if let Some(active) = self.active(&state, segment.as_ref()) {
            return Ok((active.first, active.length, next));
        }
        let (file, size) = match state.reuse_spare(&self.folder) {
            Some(reused) => reused,
            None => (self.folder.create_segment(next)?, 0),
        };
        file.write_all_at(&segment::header(self.options.framing), 0)
            .context("write", &self.folder.segment(next))?;
        if self.options.sync {
            self.folder.sync()?;
        }
        // An append that failed may have left one of this name.
        state.segments.retain(|segment| segment.first < next);
        state.segments.push_back(Segment {
            first: next,
            length: HEADER as u64,
            size: size.max(HEADER as u64),
            // A disk that has the records may not have the file's new name yet.
            is_reusable: !self.options.sync,
        });
        *segment = Some((next, file));
        Ok((next, HEADER as u64, next))
    }

    /// The content of the queue, and its losses.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }
}

impl Drop for Writer {
    /// The next process reads the last segment's file to its end.
    fn drop(&mut self) {
        self.active.lock().cut(&self.state);
    }
}

impl Error {
    /// Whether the disk, or the owner's share of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.cause().kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}
