//! The writing side of a queue.

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
use crate::handover::{HandedOver, Location};
use crate::reader::QueuedBatch;
use crate::record::{self, Header};
use crate::segment::{self, HEADER};
use crate::state::{Segment, State, Status};

/// The maximum size of the frames in a record in bytes, unless a single frame is longer.
const RECORD: usize = 256 * 1024;
/// The maximum size in bytes of an active segment whose frames were all delivered. A
/// larger one is replaced, so that an idle queue holds little.
const SMALL: u64 = 64 * 1024;
/// The size in bytes at which a segment is full, unless the queue's limit is low.
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
    /// The number of the segment's first frame, and its file.
    segment: Option<(u64, File)>,
    /// A buffer for the header and the table of a record.
    head: Vec<u8>,
}

impl Active {
    /// Truncates the file after the last record. This removes the leftovers of a failed
    /// append or of the file's earlier segment. The caller holds the lock on `self`, so
    /// nothing is appended in the meantime.
    pub(crate) fn truncate(&self, state: &Mutex<State>) {
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

    /// Counts the size of the queue towards a budget that it shares with other queues.
    #[must_use]
    pub fn with_budget(mut self, budget: &Arc<Budget>) -> Self {
        let share = Share::new(budget, &self.folder, &self.state);
        self.share = Some(share);
        self
    }

    /// Appends all frames of a batch, or none of them. On success, the content of the
    /// batch is unspecified afterwards, and the caller must clear it before using it
    /// again. After an error, the batch is unchanged.
    ///
    /// # Errors
    ///
    /// Returns an error if the frames cannot be written, for example because the disk is
    /// full. The batch can be appended again later.
    pub fn append(&self, batch: &mut Batch, time: SystemTime) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut active = self.active.lock();
        let result = self.write(&mut active, batch, time);
        if result.is_err() {
            self.discard_failed_append(&mut active);
        }
        drop(active);
        if let Some(share) = &self.share {
            share.on_grown();
        }
        result
    }

    fn write(&self, active: &mut Active, batch: &mut Batch, time: SystemTime) -> Result<(), Error> {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(millis.as_millis()).unwrap_or(u64::MAX);
        // After the folder was removed, appends to the open file would succeed, but
        // nothing could read them.
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
            let table_at = at + header.len() as u64;
            let frames_at = table_at + table.len() as u64;
            // The header is written last, so that a kill before that leaves no record.
            for (part, at) in [(table, table_at), (frames, frames_at), (header, at)] {
                file.write_all_at(part, at).context("write", &path())?;
            }
            at = frames_at + frames.len() as u64;
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
            queued: QueuedBatch {
                batch: batch.numbered(next),
                time,
            },
            end,
            next_record: Location {
                segment: first,
                offset: at,
            },
        });
        Ok(())
    }

    /// Discards the leftovers of a failed append. If that fails as well, a reader ignores
    /// them, because the next append begins a new segment.
    fn discard_failed_append(&self, active: &mut Active) {
        {
            let mut state = self.state.lock();
            state.drop_spare(&self.folder);
            if let Some((first, _)) = &active.segment
                && let Some(last) = state.segments.back_mut()
                && last.first == *first
            {
                // The numbers will be assigned again. In a reused file, the leftovers
                // could then be taken for valid records.
                last.is_reusable = false;
            }
        }
        active.truncate(&self.state);
        active.segment = None;
    }

    /// Returns the size in bytes at which a segment is full.
    fn large(&self) -> u64 {
        LARGE.min(self.options.limit / 8)
    }

    /// Returns the active segment, if another batch may be appended to it.
    fn appendable_segment(&self, state: &State, segment: Option<&(u64, File)>) -> Option<Segment> {
        let (first, _) = segment?;
        let last = state.segments.back().filter(|last| last.first == *first)?;
        let ends_here = state.is_idle() && last.length > SMALL;
        (last.length < self.large() && !ends_here).then_some(*last)
    }

    /// Makes room for `total` bytes, in the active segment or a new one. Returns the
    /// number of the segment's first frame, the segment's length, and the number of the
    /// next frame.
    fn room_for(
        &self,
        segment: &mut Option<(u64, File)>,
        total: u64,
    ) -> Result<(u64, u64, u64), Error> {
        let mut state = self.state.lock();
        let active = self.appendable_segment(&state, segment.as_ref());
        let growth = active.map_or(total, |active| {
            (active.length + total).saturating_sub(active.size)
        });
        state.evict(growth, self.options.limit, &self.folder)?;
        let next = state.next;
        if let Some(active) = self.appendable_segment(&state, segment.as_ref()) {
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
        // A failed append may have left a segment of the same name.
        state.segments.retain(|segment| segment.first < next);
        state.segments.push_back(Segment {
            first: next,
            length: HEADER as u64,
            size: size.max(HEADER as u64),
            // After a power failure, the disk may have the records of a reused file, but
            // not its new name.
            is_reusable: !self.options.sync,
        });
        *segment = Some((next, file));
        Ok((next, HEADER as u64, next))
    }

    /// Returns the content of the queue, and its losses.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }
}

impl Drop for Writer {
    /// Removes the leftovers of the file's earlier segment: the next process reads the
    /// last segment to the end of its file.
    fn drop(&mut self) {
        self.active.lock().truncate(&self.state);
    }
}

impl Error {
    /// Whether the disk is full, or the disk quota is exceeded.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.cause().kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}
