//! The state that the writer and the reader of a queue share.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;

use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::handover::Handover;
use crate::position::{Noted, Position, PositionFile};
use crate::segment;

/// A segment on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// The number of its first frame.
    pub(crate) first: u64,
    /// The bytes of it that may be read.
    pub(crate) length: u64,
    /// The size of its file, which is larger if that is used again.
    pub(crate) size: u64,
    /// Whether the file may be used again: no number in it can be assigned again.
    pub(crate) is_reusable: bool,
}

/// The segments, and how far they were written, read and delivered.
///
/// ```text
/// kept <= delivered <= next
/// ```
#[derive(Debug)]
pub(crate) struct State {
    /// The oldest first; the last one is the active one, if there is any.
    pub(crate) segments: VecDeque<Segment>,
    /// The number of the next frame to be appended.
    pub(crate) next: u64,
    pub(crate) position: Position,
    /// The number of the next frame to be read, if that was not evicted.
    pub(crate) read: u64,
    status: Status,
    /// The frames that are counted as lost, and may be passed again.
    lost: Vec<Range<u64>>,
    /// The frames that were evicted when they had been read and not been
    /// acknowledged: they are lost if they have to be read again.
    evicted_under_way: Range<u64>,
    pub(crate) handover: Handover,
    /// The size of the file that is used again for the next segment.
    spare_file: Option<u64>,
    file: PositionFile,
    written: Noted,
    /// Whether the disk has to have the position before segments below it are removed.
    is_synced: bool,
}

/// The content of a queue, and its losses since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The bytes of all segments' files, frames kept to be sent again included.
    pub bytes: u64,
    /// The number of frames that were not acknowledged.
    pub waiting: u64,
    /// The number of frames that were evicted at the limit before they were
    /// read.
    pub evicted: u64,
    /// The number of frames that could not be read.
    pub damaged: u64,
}

impl State {
    /// Finds out what a folder holds.
    pub(crate) fn recover(folder: &Folder, is_synced: bool) -> Result<Self, Error> {
        let (file, noted) = PositionFile::open(folder)?;
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
        let written = match segments.back() {
            Some(Segment { first, .. }) => {
                let end = folder
                    .open_segment(*first)
                    .and_then(|file| segment::end(&file, *first));
                end.context("read", &folder.segment(*first))?
            }
            None => 0,
        };
        if let Some(last) = segments.back()
            && last.first == written
        {
            // Nothing of it can be read, and the next one has its name.
            folder.remove_segment(written);
            segments.pop_back();
        }
        let oldest = segments.front().map_or(written, |segment| segment.first);
        // Without a position nothing is known to be delivered.
        let Noted {
            position,
            evicted_under_way,
        } = noted.unwrap_or(Noted {
            position: Position {
                kept: oldest,
                delivered: oldest,
            },
            evicted_under_way: 0..0,
        });
        // Nobody can acknowledge them any more.
        let evicted = evicted_under_way
            .end
            .saturating_sub(evicted_under_way.start);
        let mut this = Self {
            next: written.max(position.delivered),
            read: position.kept,
            status: Status {
                evicted,
                ..Status::default()
            },
            lost: Vec::new(),
            evicted_under_way: 0..0,
            position,
            segments,
            handover: Handover::default(),
            spare_file: None,
            file,
            written: Noted::default(),
            is_synced,
        };
        this.drop_delivered(folder);
        Ok(this)
    }

    /// Removes the segments that hold nothing to be delivered or sent again.
    fn drop_delivered(&mut self, folder: &Folder) {
        while self.has_delivered()
            && let Some(oldest) = self.segments.pop_front()
        {
            self.retire(oldest, folder);
        }
        if self.is_idle() {
            self.drop_spare(folder);
            self.handover.shrink();
        }
    }

    /// Whether the oldest segment holds nothing to be delivered or sent again.
    fn has_delivered(&self) -> bool {
        let next = self.segments.get(1);
        next.is_some_and(|next| next.first <= self.position.kept)
    }

    /// Whether there is nothing to be delivered or sent again: the queue is to hold
    /// little.
    pub(crate) const fn is_idle(&self) -> bool {
        self.position.kept == self.next
    }

    /// Whether there is something behind the records of the active segment.
    pub(crate) fn holds_leftovers(&self) -> bool {
        let last = self.segments.back();
        last.is_some_and(|last| last.length < last.size)
    }

    /// A segment is not needed any more. Its file is kept for the next one: to overwrite
    /// pages that are in memory is far cheaper than to allocate new ones, and what is
    /// overwritten before the kernel writes it back never goes to the disk.
    fn retire(&mut self, segment: Segment, folder: &Folder) {
        let is_wanted = segment.is_reusable && self.spare_file.is_none() && !self.is_idle();
        if is_wanted && folder.set_aside(segment.first) {
            self.spare_file = Some(segment.size);
        } else {
            folder.remove_segment(segment.first);
        }
    }

    /// Makes the next segment of one that is not needed any more, if there is one.
    /// Returns its file and the size of that.
    pub(crate) fn reuse_spare(&mut self, folder: &Folder) -> Option<(File, u64)> {
        let size = self.spare_file.take()?;
        Some((folder.reuse_spare(self.next)?, size))
    }

    /// Returns whether there was one.
    pub(crate) fn drop_spare(&mut self, folder: &Folder) -> bool {
        let is_there = self.spare_file.take().is_some();
        if is_there {
            folder.remove_spare();
        }
        is_there
    }

    /// Frames were acknowledged, or are not kept any more.
    pub(crate) fn advance(&mut self, to: Position, folder: &Folder) -> Result<(), Error> {
        self.evicted_under_way.start = self.evicted_under_way.start.max(to.delivered);
        self.move_to(to, folder)
    }

    /// Moves the position on. It never goes back: frames that were evicted may be
    /// behind it already.
    fn move_to(&mut self, to: Position, folder: &Folder) -> Result<(), Error> {
        let position = Position {
            kept: self.position.kept.max(to.kept),
            delivered: self.behind_lost(self.position.delivered.max(to.delivered)),
        };
        self.position = position;
        let needed = if self.evicted_under_way.is_empty() {
            position.delivered
        } else {
            position.delivered.min(self.evicted_under_way.start)
        };
        self.lost.retain(|lost| lost.end > needed);
        // The position never says less than the segments: their frames would count as
        // damaged after a restart. But a full disk needs the room.
        match self.write() {
            Err(error) if !error.is_disk_full() => Err(error),
            written => {
                self.drop_delivered(folder);
                written
            }
        }
    }

    /// Writes down what has changed, if anything has.
    fn write(&mut self) -> Result<(), Error> {
        let noted = Noted {
            position: self.position,
            evicted_under_way: self.evicted_under_way.clone(),
        };
        if noted != self.written {
            self.file.write(&noted)?;
            self.written = noted;
        }
        if self.is_synced && self.has_delivered() {
            self.file.sync()?;
        }
        Ok(())
    }

    /// Makes room for `length` bytes more.
    pub(crate) fn evict(&mut self, length: u64, limit: u64, folder: &Folder) -> Result<(), Error> {
        if self.bytes() + length > limit {
            self.drop_spare(folder);
        }
        while self.bytes() + length > limit
            && let Some(Segment { first, .. }) = self.segments.pop_front()
        {
            folder.remove_segment(first);
        }
        self.note_evicted(folder)
    }

    /// Evicts the oldest segment, unless it is the one that is being written. Returns
    /// whether the queue is smaller now.
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
        // If the position cannot be written, the frames are counted again after a
        // restart.
        let _ = self.note_evicted(folder);
        true
    }

    /// Moves the position behind what was evicted, and counts it.
    fn note_evicted(&mut self, folder: &Folder) -> Result<(), Error> {
        let end = self.first();
        let delivered = self.position.delivered;
        if end <= delivered {
            return Ok(());
        }
        if self.read < end {
            self.handover.stop();
        }
        let unread = delivered.max(self.read)..end;
        self.status.evicted += self.note_lost(unread);
        if self.evicted_under_way.is_empty() {
            self.evicted_under_way.start = delivered;
        }
        self.evicted_under_way.end = self.read.min(end);
        let position = Position {
            kept: end,
            delivered: end,
        };
        self.move_to(position, folder)
    }

    /// The number of frames in a range that are not known to be lost.
    fn uncounted(&self, range: &Range<u64>) -> u64 {
        let counted = self.lost.iter().map(|lost| overlap(lost, range));
        range.end.saturating_sub(range.start) - counted.sum::<u64>()
    }

    /// Notes that a range of frames is lost. Returns how many of them were not
    /// known to be.
    fn note_lost(&mut self, range: Range<u64>) -> u64 {
        let count = self.uncounted(&range);
        if !range.is_empty() {
            // The ranges stay apart from each other.
            let touches = |known: &mut Range<u64>| overlap(known, &range) > 0;
            let merged = self
                .lost
                .extract_if(.., touches)
                .fold(range.clone(), |all, known| {
                    all.start.min(known.start)..all.end.max(known.end)
                });
            self.lost.push(merged);
        }
        count
    }

    /// The number of the first frame on the disk, or of the next one.
    pub(crate) fn first(&self) -> u64 {
        self.segments
            .front()
            .map_or(self.next, |segment| segment.first)
    }

    /// The reader goes to a frame.
    pub(crate) fn seek(&mut self, number: u64) {
        let under_way = std::mem::replace(&mut self.evicted_under_way, 0..0);
        let under_way = under_way.start.max(number)..under_way.end;
        self.status.evicted += self.uncounted(&under_way);
        self.handover.stop();
        self.read = number;
        // They are counted now. If that cannot be written, they are counted again
        // after a restart.
        let _ = self.write();
    }

    /// The frame behind those that cannot be read, if there are any from this one
    /// on.
    fn behind_lost(&self, number: u64) -> u64 {
        let mut number = number;
        while let Some(lost) = self.lost.iter().find(|lost| lost.contains(&number)) {
            number = lost.end;
        }
        number
    }

    /// The reader goes on from one frame to another, because those between them
    /// cannot be read. Returns where it is.
    pub(crate) fn skip(&mut self, number: u64, to: u64, folder: &Folder) -> u64 {
        let gap = number.max(self.position.delivered)..to;
        if !gap.is_empty() {
            self.status.damaged += self.note_lost(gap);
            // If nothing before them is under way, they are done with. If the
            // position cannot be written, they are counted again after a restart.
            let _ = self.move_to(self.position, folder);
        }
        number.max(to)
    }

    /// A segment is there no more.
    pub(crate) fn forget(&mut self, first: u64) {
        self.segments.retain(|segment| segment.first != first);
    }

    pub(crate) fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.size);
        segments.sum::<u64>() + self.spare_file.unwrap_or(0)
    }

    /// The index of the segment with this first frame, or of the one behind it.
    pub(crate) fn at_or_behind(&self, first: u64) -> usize {
        self.segments
            .partition_point(|segment| segment.first < first)
    }

    /// The index of the segment with this frame, or of the first one.
    pub(crate) fn holding(&self, number: u64) -> usize {
        let behind = self
            .segments
            .partition_point(|segment| segment.first <= number);
        behind.saturating_sub(1)
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            bytes: self.bytes(),
            waiting: self.uncounted(&(self.position.delivered..self.next)),
            ..self.status
        }
    }
}

/// The number of frames that two ranges have in common.
fn overlap(one: &Range<u64>, other: &Range<u64>) -> u64 {
    one.end
        .min(other.end)
        .saturating_sub(one.start.max(other.start))
}
