//! The files of one container in the order in which they were written, from a position on.
//!
//! ```text
//!         ┌────── at its end: is there a later file? ──────┐
//!         │ no: wait for more                              │ yes, and nothing was added for a
//!         v                                                v while: the next file
//!   current file ── lines ──> caller ── advance ──> position
//! ```
//!
//! The current file stays open, so it is read to its end whatever happens to its name. A
//! position names the file by its identity ([`FileId`]), and the last file before it by name:
//! after a stop of any length, the file is found again although it was renamed or compressed,
//! and if it is gone, reading continues with the first file that is left.
//!
//! # Design
//!
//! The kubelet renames `<run>.log`, then tells the runtime to open a new one. In between, the
//! runtime writes to the renamed file. The existence of a later file therefore shows that the
//! runtime has changed over, and the file is left when nothing was added for [`SETTLE`] since.
//!
//! The kubelet deletes the oldest files first. Hence, if the file of a position is gone, so
//! are all before it, and every file after the last one that was read entirely is unread.
//! Docker rotates and deletes the files of a link in the same manner.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::file_id::FileId;
use crate::file_name::FileName;
use crate::log_folder::{self, Entry, LogFolder};
use crate::source::{Source, is_of_file};

/// The time for which nothing must have been added to a file after a later one appeared.
pub const SETTLE: Duration = Duration::from_millis(500);

/// The number of bytes that are read at a time, unless a line is longer.
const PART: usize = 32 * 1024;

/// The log of one container. Files are opened and read by [`ContainerLog::read`] only.
#[derive(Debug)]
pub struct ContainerLog {
    folder: LogFolder,
    /// The position at which reading begins, until then.
    start: Option<Position>,
    /// The last file that was read entirely.
    after: Option<FileName>,
    current: Option<Current>,
    /// The file that has to be read next, as it was when the last one was left.
    next: Option<Entry>,
    /// The file that was reported as unreadable, and may be replaced by a readable one.
    unreadable: Option<FileName>,
}

/// A position in a container's log. The lines before it were read. The default is the beginning.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The last file that was read entirely, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileName>,
    /// The file that was being read, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FilePosition>,
}

/// A position in a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct FilePosition {
    /// The file.
    pub id: FileId,
    /// The offset of the next line in its uncompressed text.
    pub offset: u64,
}

impl Position {
    /// Returns the position in its file, if anything is known of the file's text.
    pub(crate) fn in_text(&self) -> Option<FilePosition> {
        let has_text = |file: &FilePosition| file.offset > 0 || !file.id.fingerprint.is_empty();
        self.file.filter(has_text)
    }
}

/// The location of a position, seen from the current file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// The current file.
    Current,
    /// A later file.
    Later,
    /// A file that is gone or was read, or the beginning of the current file.
    Gone,
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    source: Source,
    /// The name under which it was found.
    name: FileName,
    id: FileId,
    offset: u64,
    /// The time since which there is a later file, and the length since then.
    superseded: Option<(Instant, u64)>,
    /// Whether there was a later file when the folder was listed last.
    has_later: bool,
}

/// The next part of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// Complete lines, with their line feeds. [`ContainerLog::advance`] confirms them.
    Lines {
        /// The offset of the first one.
        at: u64,
        /// The lines.
        text: &'b [u8],
    },
    /// A line without a line feed: the end of a file that nobody continues, or a line that
    /// is longer than the buffer.
    Cut {
        /// The offset of the line.
        at: u64,
        /// The line.
        text: &'b [u8],
    },
    /// The current file was read entirely, and the next one begins.
    NextFile,
    /// Text that can no longer be read. It is reported once, and the next text is that of
    /// another file, or of the same one from its beginning.
    Missing(Missing),
    /// Nothing at present.
    Wait {
        /// The time of the next call, if it does not depend on changes of the folder.
        until: Option<Instant>,
    },
    /// The container's folder was deleted, and everything that is still open was read.
    Ended,
}

/// Text that can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The file in which the reader was is gone, and perhaps files after it.
    Deleted,
    /// The current file was truncated. Everything in it had been read, as far as is known.
    Truncated,
    /// The file cannot be read, because it is damaged for example.
    Unreadable(String),
}

impl ContainerLog {
    /// Creates the log of a container's folder, which is read from a position on.
    #[must_use]
    pub fn new(folder: impl Into<LogFolder>, start: Position) -> Self {
        Self {
            folder: folder.into(),
            start: Some(start),
            after: None,
            current: None,
            next: None,
            unreadable: None,
        }
    }

    /// Returns the container's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Returns the position of the next line.
    #[must_use]
    pub fn position(&self) -> Position {
        self.start.clone().unwrap_or_else(|| Position {
            after: self.after.clone(),
            file: self.current.as_ref().map(|current| FilePosition {
                id: current.id,
                offset: current.offset,
            }),
        })
    }

    /// Confirms the text before an offset of the current file.
    pub fn advance(&mut self, offset: u64) {
        if let Some(current) = &mut self.current {
            debug_assert!(offset >= current.offset, "a position never goes back");
            current.offset = offset;
        }
    }

    /// Returns the location of the position of another reader.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder cannot be read.
    pub(crate) fn locate(&self, position: &Position) -> io::Result<Location> {
        let Some(current) = &self.current else {
            return Ok(Location::Later);
        };
        let (own, entries) = self.own_entry()?;
        let after = position.after.as_ref();
        let name = own.as_ref().unwrap_or(&current.name);
        if let Some(FilePosition { id, .. }) = position.in_text() {
            if own.is_none() && id.inode == current.id.inode {
                return Ok(Location::Current);
            }
            let entries = entries.unwrap_or_default();
            if let Some((index, _)) = log_folder::find(&entries, after, &id) {
                let found = &entries[index].name;
                return Ok(if found.is_later_than(name) {
                    Location::Later
                } else if name.is_later_than(found) {
                    Location::Gone
                } else {
                    Location::Current
                });
            }
        }
        Ok(if after.is_none_or(|after| name.is_later_than(after)) {
            Location::Gone
        } else {
            Location::Later
        })
    }

    /// Returns the next part of the log. Without [`ContainerLog::advance`] it is the same
    /// lines again. The buffer limits the length of a line.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder or the current file cannot be read. The next call tries
    /// again.
    pub fn read<'b>(&mut self, buffer: &'b mut [u8], now: Instant) -> io::Result<Step<'b>> {
        if let Some(missing) = self.begin()? {
            return Ok(Step::Missing(missing));
        }
        loop {
            let Some(current) = &mut self.current else {
                match self.open_next()? {
                    Next::Opened => continue,
                    Next::Missing(missing) => return Ok(Step::Missing(missing)),
                    Next::None => return Ok(Step::Wait { until: None }),
                    Next::FolderGone => return Ok(Step::Ended),
                }
            };
            if current.was_truncated()? {
                return Ok(Step::Missing(Missing::Truncated));
            }
            let at = current.offset;
            let count = match current.read_lines(buffer) {
                Ok(count) => count,
                // Another attempt would end at the same place.
                Err(error) if is_of_file(&error) => {
                    self.leave()?;
                    return Ok(Step::Missing(Missing::Unreadable(error.to_string())));
                }
                Err(error) => return Err(error),
            };
            current.complete_id()?;
            if let Some(last) = memchr::memrchr(b'\n', &buffer[..count]) {
                let text = &buffer[..=last];
                return Ok(Step::Lines { at, text });
            }
            if count < buffer.len()
                && let Some(step) = self.wait_at_end(at + count as u64, now)?
            {
                return Ok(step);
            }
            if count > 0 {
                let text = &buffer[..count];
                return Ok(Step::Cut { at, text });
            }
            let was_deleted = self.leave()?;
            // The kubelet deletes the oldest files first, so the next file may be gone too.
            return Ok(if was_deleted {
                Step::Missing(Missing::Deleted)
            } else {
                Step::NextFile
            });
        }
    }

    /// Begins at the start.
    fn begin(&mut self) -> io::Result<Option<Missing>> {
        let Some(start) = &self.start else {
            return Ok(None);
        };
        // An empty file is the first unread one.
        let missing = if let Some(FilePosition { id, offset }) = start.in_text() {
            let (found, _) = log_folder::look(&self.folder, |entries| {
                let found = log_folder::find(entries, start.after.as_ref(), &id);
                let found = found.map(|(index, source)| (entries[index].name.clone(), source));
                let is_found = found.is_some();
                Ok((found, is_found))
            })?;
            self.current = found.map(|(name, source)| Current::new(source, name, id, offset));
            self.current.is_none().then_some(Missing::Deleted)
        } else {
            None
        };
        self.after = self.start.take().and_then(|start| start.after);
        Ok(missing)
    }

    /// Returns how to wait at the end of the current file; none if it is complete, because
    /// a later file has existed for a while.
    fn wait_at_end(&mut self, end: u64, now: Instant) -> io::Result<Option<Step<'static>>> {
        if let Some(current) = &mut self.current
            && log_folder::is_last(&self.folder, current.source.inode())?
        {
            current.superseded = None;
            return Ok(Some(Step::Wait { until: None }));
        }
        let (own, entries) = self.own_entry()?;
        let is_gone = entries.is_none();
        let mut entries = entries.unwrap_or_default().into_iter();
        let last_read = own.as_ref().max(self.after.as_ref());
        let is_superseded = entries.any(|entry| entry.is_after(last_read));
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        if is_gone {
            // Later files that were seen are gone too, and were not read.
            let is_last = !current.has_later && end == current.offset;
            return Ok(is_last.then_some(Step::Ended));
        }
        current.has_later = is_superseded;
        if !is_superseded {
            current.superseded = None;
            return Ok(Some(Step::Wait { until: None }));
        }
        let superseded = current.superseded.filter(|(_, length)| *length == end);
        let (since, _) = *current.superseded.insert(superseded.unwrap_or((now, end)));
        let until = since + SETTLE;
        Ok((now < until).then_some(Step::Wait { until: Some(until) }))
    }

    /// Leaves the current file, which was read entirely or cannot be read. Returns whether it
    /// was deleted.
    fn leave(&mut self) -> io::Result<bool> {
        let (own, entries) = self.own_entry()?;
        let was_deleted = own.is_none();
        // The name is an earlier one if the node's clock was set back.
        self.after = own.max(self.after.take());
        let mut entries = entries.into_iter().flatten();
        self.next = entries.find(|entry| entry.is_after(self.after.as_ref()));
        self.current = None;
        Ok(was_deleted)
    }

    /// Returns the number of bytes in files that are not read yet. Compressed files count with
    /// their size, and the current one not at all if it is compressed.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder cannot be read.
    pub fn unread(&self) -> io::Result<u64> {
        let (own, entries) = self.own_entry()?;
        let last_read = own.as_ref().or(self.after.as_ref());
        let later = entries.iter().flatten();
        let later = later.filter(|entry| entry.is_after(last_read));
        let sizes = later.filter_map(|entry| Some(entry.path.metadata().ok()?.len()));
        let rest = match &self.current {
            Some(current) => current.source.length()?.unwrap_or(current.offset),
            None => 0,
        };
        let read = self.current.as_ref().map_or(0, |current| current.offset);
        Ok(rest.saturating_sub(read) + sizes.sum::<u64>())
    }

    /// Returns the name that the current file has now, if it has one, and all files.
    fn own_entry(&self) -> io::Result<(Option<FileName>, Option<Vec<Entry>>)> {
        let Some(current) = &self.current else {
            return Ok((None, log_folder::list(&self.folder)?));
        };
        log_folder::look(&self.folder, |entries| {
            let is_own = |entry: &&Entry| current.has_inode_of(entry);
            // To look into a compressed file takes time. Of files that begin alike, this one
            // is the first, because all before it were read.
            let is_copy = |entry: &&Entry| {
                entry.is_after(self.after.as_ref()) && current.is_compressed_to(entry)
            };
            let own = entries.iter().find(is_own);
            let own = own.or_else(|| entries.iter().find(is_copy));
            Ok((own.map(|entry| entry.name.clone()), own.is_some()))
        })
    }

    /// Opens the first file that is not read yet.
    fn open_next(&mut self) -> io::Result<Next> {
        let entries = log_folder::list_at_rest(&self.folder)?;
        // The file may have been renamed or compressed since, but not both at once.
        let is_gone = self.next.take().is_some_and(|next| {
            let mut entries = entries.iter().flatten();
            let is_same =
                |entry: &Entry| entry.inode == next.inode || entry.name.has_content_of(&next.name);
            !entries.any(is_same)
        });
        if is_gone {
            return Ok(Next::Missing(Missing::Deleted));
        }
        let Some(entries) = entries else {
            return Ok(Next::FolderGone);
        };
        let mut entries = entries.into_iter();
        let Some(entry) = entries.find(|entry| entry.is_after(self.after.as_ref())) else {
            return Ok(Next::None);
        };
        let has_later = entries.next().is_some();
        let opened = entry.open().and_then(|mut source| {
            let id = source.id()?;
            Ok(Current::new(source, entry.name.clone(), id, 0))
        });
        match opened {
            Ok(current) => {
                self.current = Some(Current {
                    has_later,
                    ..current
                });
                self.unreadable = None;
            }
            // It was renamed, compressed or deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_of_file(&error) => {
                let why = format!("{}: {error}", entry.path.display());
                let is_reported = self.unreadable.as_ref() == Some(&entry.name);
                self.unreadable = Some(entry.name.clone());
                // The runtime may replace the current file.
                if entry.name.rotated.is_some() || has_later {
                    self.after = Some(entry.name);
                }
                if !is_reported {
                    return Ok(Next::Missing(Missing::Unreadable(why)));
                }
                if !has_later {
                    return Ok(Next::None);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Next::Opened)
    }
}

/// The result of opening the next file.
enum Next {
    Opened,
    Missing(Missing),
    None,
    FolderGone,
}

impl Current {
    const fn new(source: Source, name: FileName, id: FileId, offset: u64) -> Self {
        Self {
            source,
            name,
            id,
            offset,
            superseded: None,
            has_later: false,
        }
    }

    /// Reads from the offset on: a part, or as much as the buffer holds if the part has no
    /// whole line.
    fn read_lines(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = PART.min(buffer.len());
        let count = self.source.read_at(self.offset, &mut buffer[..part])?;
        if count == part && memchr::memchr(b'\n', &buffer[..count]).is_none() {
            return self.source.read_at(self.offset, buffer);
        }
        Ok(count)
    }

    /// Returns whether a file of the folder is this one, under whatever name.
    fn has_inode_of(&self, entry: &Entry) -> bool {
        entry
            .inode()
            .is_ok_and(|inode| inode == self.source.inode())
    }

    /// Returns whether a file of the folder is the compressed copy of this one.
    fn is_compressed_to(&self, entry: &Entry) -> bool {
        let is_copy = |mut source: Source| {
            if self.id.fingerprint.is_empty() {
                // The copy of an empty file is empty.
                return Ok(source.read_at(0, &mut [0])? == 0);
            }
            source.beginning_matches(&self.id)
        };
        entry.name.is_compressed && entry.open().and_then(is_copy).unwrap_or(false)
    }

    /// Returns whether the file was truncated or replaced in place, and continues then with
    /// what it has now.
    fn was_truncated(&mut self) -> io::Result<bool> {
        let Some(length) = self.source.length()? else {
            return Ok(false);
        };
        let is_same = self.source.beginning_matches(&self.id)?;
        if is_same && length >= self.offset {
            return Ok(false);
        }
        self.id = self.source.id()?;
        self.offset = if is_same { length } else { 0 };
        Ok(true)
    }

    /// Extends the fingerprint of a file that was short, once something was read of it.
    fn complete_id(&mut self) -> io::Result<()> {
        if !self.source.is_compressed() && !self.id.fingerprint.is_complete() {
            self.id = self.source.id()?;
        }
        Ok(())
    }
}
