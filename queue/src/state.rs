//! The state that the writer and the reader of a queue share.
//!
//! # Reuse of files
//!
//! The file of a delivered segment becomes the next segment. The kernel takes four
//! times as long to allocate a page, fill it and free it as to fill one that is already
//! in memory. It also writes every new page to the disk unless the file is deleted
//! within half a minute.
//!
//! Old records after the new ones have lower numbers than the segment's first frame,
//! and are ignored (`segment.rs`). A file in which an append has failed, or that
//! existed at the start, may contain numbers that are assigned again, so it is deleted
//! instead. An idle queue keeps no spare file.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;

use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::handover::Handover;
use crate::position::{Position, PositionFile, Snapshot};
use crate::segment;

/// A segment on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// The number of the first frame.
    pub(crate) first: u64,
    /// The length of the records, header included, in bytes.
    pub(crate) length: u64,
    /// The size of the file in bytes. A reused file may be longer than its records.
    pub(crate) size: u64,
    /// Whether another segment may reuse the file. It must not if a number in the
    /// file may be assigned again.
    pub(crate) is_reusable: bool,
}

/// The segments of a queue, and the numbers up to which their frames were written,
/// read and delivered.
///
/// ```text
/// kept <= delivered <= next
/// ```
#[derive(Debug)]
pub(crate) struct State {
    /// The segments, oldest first. The last one is the active segment.
    pub(crate) segments: VecDeque<Segment>,
    /// The number of the next frame to be appended.
    pub(crate) next: u64,
    pub(crate) position: Position,
    /// The number of the next frame to be read, unless it was evicted.
    pub(crate) read: u64,
    status: Status,
    /// The frames that were counted as lost. The reader may come across them again.
    lost: Vec<Range<u64>>,
    /// The frames that were evicted after they had been read, and before they were
    /// acknowledged. They are lost if they must be read again.
    evicted_in_flight: Range<u64>,
    pub(crate) handover: Handover,
    /// The size in bytes of the spare file, which the next segment reuses.
    spare_file: Option<u64>,
    file: PositionFile,
    saved: Snapshot,
    /// Whether the position must be on the disk before delivered segments are removed.
    is_synced: bool,
}

/// The content of a queue, and the frames that it lost since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The size of all segment files in bytes, including frames that are kept to be
    /// sent again.
    pub bytes: u64,
    /// The number of frames that were not acknowledged.
    pub waiting: u64,
    /// The number of frames that were evicted at the limit and not delivered.
    pub evicted: u64,
    /// The number of frames that could not be read.
    pub damaged: u64,
}

impl State {
    /// Recovers the state of a queue from the files in its folder.
    pub(crate) fn recover(folder: &Folder, is_synced: bool) -> Result<Self, Error> {
        let (file, snapshot) = PositionFile::open(folder)?;
        let mut segments = VecDeque::new();
        for first in folder.segments()? {
            let path = folder.segment(first);
            let length = std::fs::metadata(&path).context("read", &path)?.len();
            segments.push_back(Segment {
                first,
                length,
                size: length,
                is_reusable: false,
            });
        }
        let end = match segments.back() {
            Some(Segment { first, .. }) => {
                let end = folder
                    .open_segment(*first)
                    .and_then(|file| segment::end(&file, *first));
                end.context("read", &folder.segment(*first))?
            }
            None => 0,
        };
        if let Some(last) = segments.back()
            && last.first == end
        {
            // It has no intact record, and the next segment will have the same name.
            folder.remove_segment(end);
            segments.pop_back();
        }
        let oldest = segments.front().map_or(end, |segment| segment.first);
        // Without a position, all frames count as undelivered.
        let Snapshot {
            position,
            evicted_in_flight,
        } = snapshot.unwrap_or(Snapshot {
            position: Position {
                kept: oldest,
                delivered: oldest,
            },
            evicted_in_flight: 0..0,
        });
        // The connections that could have acknowledged them are gone.
        let evicted = evicted_in_flight
            .end
            .saturating_sub(evicted_in_flight.start);
        let mut this = Self {
            next: end.max(position.delivered),
            read: position.kept,
            status: Status {
                evicted,
                ..Status::default()
            },
            lost: Vec::new(),
            evicted_in_flight: 0..0,
            position,
            segments,
            handover: Handover::default(),
            spare_file: None,
            file,
            saved: Snapshot::default(),
            is_synced,
        };
        this.drop_delivered(folder);
        Ok(this)
    }

    /// Removes the segments without frames to be delivered or sent again.
    fn drop_delivered(&mut self, folder: &Folder) {
        while self.is_oldest_delivered()
            && let Some(oldest) = self.segments.pop_front()
        {
            self.retire(oldest, folder);
        }
        if self.is_idle() {
            self.drop_spare(folder);
            self.handover.shrink();
        }
    }

    /// Whether the oldest segment has no frames to be delivered or sent again. Never
    /// true for the active segment.
    fn is_oldest_delivered(&self) -> bool {
        let next = self.segments.get(1);
        next.is_some_and(|next| next.first <= self.position.kept)
    }

    /// Whether no frame must be delivered or may have to be sent again. An idle queue
    /// holds as little memory and disk space as possible.
    pub(crate) const fn is_idle(&self) -> bool {
        self.position.kept == self.next
    }

    /// Whether the file of the active segment has leftover bytes after the records.
    pub(crate) fn holds_leftovers(&self) -> bool {
        let last = self.segments.back();
        last.is_some_and(|last| last.length < last.size)
    }

    /// Removes a delivered segment, or keeps its file for the next segment.
    fn retire(&mut self, segment: Segment, folder: &Folder) {
        let is_wanted = segment.is_reusable && self.spare_file.is_none() && !self.is_idle();
        if is_wanted && folder.keep_as_spare(segment.first) {
            self.spare_file = Some(segment.size);
        } else {
            folder.remove_segment(segment.first);
        }
    }

    /// Turns the spare file into the next segment. Returns the file and its size, or
    /// `None` if there is no spare file.
    pub(crate) fn reuse_spare(&mut self, folder: &Folder) -> Option<(File, u64)> {
        let size = self.spare_file.take()?;
        Some((folder.reuse_spare(self.next)?, size))
    }

    /// Removes the spare file. Returns whether there was one.
    pub(crate) fn drop_spare(&mut self, folder: &Folder) -> bool {
        let had_spare = self.spare_file.take().is_some();
        if had_spare {
            folder.remove_spare();
        }
        had_spare
    }

    /// Moves the position after frames were acknowledged, or are no longer kept.
    pub(crate) fn advance(&mut self, to: Position, folder: &Folder) -> Result<(), Error> {
        self.evicted_in_flight.start = self.evicted_in_flight.start.max(to.delivered);
        self.move_to(to, folder)
    }

    /// Moves the position forward. It never moves back: eviction may have moved it
    /// further already.
    fn move_to(&mut self, to: Position, folder: &Folder) -> Result<(), Error> {
        let position = Position {
            kept: self.position.kept.max(to.kept),
            delivered: self.skip_lost(self.position.delivered.max(to.delivered)),
        };
        self.position = position;
        let needed = if self.evicted_in_flight.is_empty() {
            position.delivered
        } else {
            position.delivered.min(self.evicted_in_flight.start)
        };
        self.lost.retain(|lost| lost.end > needed);
        // Segments are removed only after the position is saved, or their frames would
        // count as damaged after a restart. A full disk needs the space in any case.
        match self.save() {
            Err(error) if !error.is_disk_full() => Err(error),
            saved => {
                self.drop_delivered(folder);
                saved
            }
        }
    }

    /// Saves the position if it has changed.
    fn save(&mut self) -> Result<(), Error> {
        let snapshot = Snapshot {
            position: self.position,
            evicted_in_flight: self.evicted_in_flight.clone(),
        };
        if snapshot != self.saved {
            self.file.write(&snapshot)?;
            self.saved = snapshot;
        }
        if self.is_synced && self.is_oldest_delivered() {
            self.file.sync()?;
        }
        Ok(())
    }

    /// Evicts segments until another `length` bytes fit within the limit.
    pub(crate) fn evict(&mut self, length: u64, limit: u64, folder: &Folder) -> Result<(), Error> {
        if self.bytes() + length > limit {
            self.drop_spare(folder);
        }
        while self.bytes() + length > limit
            && let Some(Segment { first, .. }) = self.segments.pop_front()
        {
            folder.remove_segment(first);
        }
        self.count_evicted(folder)
    }

    /// Evicts the spare file or the oldest segment, but never the active segment.
    /// Returns whether the queue is smaller now.
    pub(crate) fn evict_oldest(&mut self, folder: &Folder) -> bool {
        if self.drop_spare(folder) {
            return true;
        }
        if self.segments.len() < 2 {
            return false;
        }
        let Some(Segment { first, .. }) = self.segments.pop_front() else {
            return false;
        };
        folder.remove_segment(first);
        // If the position cannot be saved, the frames are counted again after a
        // restart.
        let _ = self.count_evicted(folder);
        true
    }

    /// Counts the evicted frames, and moves the position past them. Frames in flight are
    /// counted when the reader seeks back to them.
    fn count_evicted(&mut self, folder: &Folder) -> Result<(), Error> {
        let end = self.first();
        let delivered = self.position.delivered;
        if end <= delivered {
            return Ok(());
        }
        if self.read < end {
            self.handover.stop();
        }
        let unread = delivered.max(self.read)..end;
        self.status.evicted += self.add_lost(unread);
        if self.evicted_in_flight.is_empty() {
            self.evicted_in_flight.start = delivered;
        }
        self.evicted_in_flight.end = self.read.min(end);
        let position = Position {
            kept: end,
            delivered: end,
        };
        self.move_to(position, folder)
    }

    /// Returns the number of frames in a range that were not counted as lost.
    fn uncounted(&self, range: &Range<u64>) -> u64 {
        let counted = self.lost.iter().map(|lost| overlap(lost, range));
        range.end.saturating_sub(range.start) - counted.sum::<u64>()
    }

    /// Adds a range to the lost frames. Returns the number of frames in it that were
    /// not counted as lost before.
    fn add_lost(&mut self, range: Range<u64>) -> u64 {
        let count = self.uncounted(&range);
        if !range.is_empty() {
            // The ranges must not overlap.
            let overlaps = |known: &mut Range<u64>| overlap(known, &range) > 0;
            let merged = self
                .lost
                .extract_if(.., overlaps)
                .fold(range.clone(), |all, known| {
                    all.start.min(known.start)..all.end.max(known.end)
                });
            self.lost.push(merged);
        }
        count
    }

    /// Returns the number of the first frame on the disk, or of the next frame to be
    /// appended if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.segments
            .front()
            .map_or(self.next, |segment| segment.first)
    }

    /// Moves the reader to a frame. Evicted frames from there on are counted as lost,
    /// since they can no longer be read again.
    pub(crate) fn seek(&mut self, number: u64) {
        let evicted = std::mem::replace(&mut self.evicted_in_flight, 0..0);
        let evicted = evicted.start.max(number)..evicted.end;
        self.status.evicted += self.uncounted(&evicted);
        self.handover.stop();
        self.read = number;
        // If the position cannot be saved, the frames are counted again after a
        // restart.
        let _ = self.save();
    }

    /// Returns the number of the first frame at or after this one that is not lost.
    fn skip_lost(&self, number: u64) -> u64 {
        let mut number = number;
        while let Some(lost) = self.lost.iter().find(|lost| lost.contains(&number)) {
            number = lost.end;
        }
        number
    }

    /// Moves the reader from the frame `number` forward to the frame `to`, because the
    /// frames between them cannot be read, and counts these as damaged. Returns the
    /// number of the next frame to be read.
    pub(crate) fn skip(&mut self, number: u64, to: u64, folder: &Folder) -> u64 {
        let gap = number.max(self.position.delivered)..to;
        if !gap.is_empty() {
            self.status.damaged += self.add_lost(gap);
            // Moves the position past the gap if all frames before it are acknowledged.
            // If the position cannot be saved, the frames are counted again after a
            // restart.
            let _ = self.move_to(self.position, folder);
        }
        number.max(to)
    }

    /// Forgets a segment whose file is missing.
    pub(crate) fn forget(&mut self, first: u64) {
        self.segments.retain(|segment| segment.first != first);
    }

    /// Returns the size of all segment files and the spare file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.size);
        segments.sum::<u64>() + self.spare_file.unwrap_or(0)
    }

    /// Returns the index of the segment with this first frame, or of the next one.
    pub(crate) fn index_from(&self, first: u64) -> usize {
        self.segments
            .partition_point(|segment| segment.first < first)
    }

    /// Returns the index of the segment that holds this frame, or of the first segment.
    pub(crate) fn index_holding(&self, number: u64) -> usize {
        let next = self
            .segments
            .partition_point(|segment| segment.first <= number);
        next.saturating_sub(1)
    }

    /// Returns the content of the queue, and its losses.
    pub(crate) fn status(&self) -> Status {
        Status {
            bytes: self.bytes(),
            waiting: self.uncounted(&(self.position.delivered..self.next)),
            ..self.status
        }
    }
}

/// Returns the number of frames that two ranges have in common.
fn overlap(one: &Range<u64>, other: &Range<u64>) -> u64 {
    one.end
        .min(other.end)
        .saturating_sub(one.start.max(other.start))
}
