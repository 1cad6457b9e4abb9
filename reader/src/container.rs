//! The texts of one container, from a position on.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::assembler::{Assembler, Offsets, Text};
use crate::container_log::{self, ContainerLog, Location, Missing, Step};
use crate::line::{Line, Stream, Time};
use crate::log_folder::LogFolder;

/// A container whose log is read.
#[derive(Debug)]
pub struct Container {
    log: ContainerLog,
    assembler: Assembler,
    /// The number of bytes of the log before the current file.
    before: u64,
    /// The offset up to which the current file was read.
    read: u64,
    scale: u64,
    /// The number of times that texts were passed on since more was read.
    given_up: u8,
    /// The positions of queues that places have to fit.
    anchors: Vec<Position>,
    /// Whether the current file was not compared with the anchors yet.
    is_new_file: bool,
    /// The line of the file whose rest is read next, because it is longer than the buffer.
    begun: Option<Begun>,
}

/// A line of the file of which only the beginning was read. The rest is text of the container,
/// whatever it looks like: it must not be parsed as a line.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// A line of a stream.
    Text {
        time: Time,
        stream: Stream,
        is_partial: bool,
    },
    /// A line that is invalid, or whose beginning was passed on already.
    Invalid,
}

/// A position in the texts of a container. The texts before it were passed on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The position of the first line that has to be read again.
    #[serde(flatten)]
    pub log: container_log::Position,
    /// The offsets in its file up to which the texts of each stream were passed on.
    #[serde(default)]
    pub passed: Offsets,
    /// The offset in its file up to which lines were read.
    #[serde(default)]
    pub read: u64,
    /// The number of bytes of the log before its file, counted from an arbitrary number on.
    #[serde(default)]
    pub before: u64,
    /// The number from which these bytes are counted. Only positions with the same one can be
    /// compared exactly.
    #[serde(default)]
    pub scale: u64,
    /// The number of times that texts without an end were passed on since more was read.
    #[serde(default)]
    pub given_up: u8,
    /// Whether the position is in the middle of a line of the file.
    #[serde(default)]
    pub is_in_line: bool,
}

/// The factor between bytes and places: without more bytes, the texts of two streams can be
/// given up, and what the end of the file leaves.
pub(crate) const PLACES: u64 = 4;

impl Position {
    /// Returns the position of the first line that is left, in a log of which so many bytes
    /// were before that line, counted from a number on.
    #[must_use]
    pub fn beginning(before: u64, scale: u64) -> Self {
        Self {
            log: container_log::Position::default(),
            passed: Offsets::default(),
            read: 0,
            before,
            scale,
            given_up: 0,
            is_in_line: false,
        }
    }

    /// Returns the number of bytes of the log before the position.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.before + self.read
    }

    /// Returns the place of the position. Of two positions of a container, the later one has
    /// the higher place.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.total() * PLACES + u64::from(self.given_up)
    }
}

/// A text of a container, or a line that its runtime did not write as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text.
    Text(Text<'a>),
    /// A line that is neither one of CRI nor of json-file, such as one that was cut off when
    /// the machine stopped.
    Invalid(&'a [u8]),
}

/// The result of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many bytes were read, and there may be more.
    Read(usize),
    /// Text that can no longer be read.
    Missing(Missing),
    /// Nothing more at present.
    Wait {
        /// The time of the next turn, if it does not depend on changes of the folder.
        until: Option<Instant>,
    },
    /// The container's folder was deleted, and everything was read.
    Ended,
}

impl Container {
    /// Creates a container with its folder, which is read from a position on. Texts of more
    /// than `limit` bytes are passed on in pieces.
    #[must_use]
    pub fn new(folder: impl Into<LogFolder>, start: Position, limit: usize) -> Self {
        let Position {
            log,
            passed,
            read,
            before,
            scale,
            given_up,
            is_in_line,
        } = start;
        Self {
            log: ContainerLog::new(folder, log),
            assembler: Assembler::new(limit, passed),
            before,
            read,
            scale,
            given_up,
            anchors: Vec::new(),
            is_new_file: true,
            begun: is_in_line.then_some(Begun::Invalid),
        }
    }

    /// Makes places fit the positions of queues, whatever is deleted or truncated meanwhile.
    #[must_use]
    pub fn with_anchors(mut self, anchors: Vec<Position>) -> Self {
        self.anchors = anchors;
        self
    }

    /// Returns the container's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.log.folder()
    }

    /// Returns the position of the next text.
    #[must_use]
    pub fn position(&self) -> Position {
        let mut log = self.log.position();
        let (passed, is_in_line) = match &mut log.file {
            Some(file) => {
                let end = file.offset;
                let passed = self.assembler.offsets(end);
                file.offset = passed.lowest();
                // A text that is kept is read again from its beginning.
                (passed, self.begun.is_some() && file.offset == end)
            }
            None => (Offsets::default(), false),
        };
        Position {
            log,
            passed,
            read: self.read,
            before: self.before,
            scale: self.scale,
            given_up: self.given_up,
            is_in_line,
        }
    }

    /// Returns the number of bytes in files that are not read yet, as far as it is known.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.log.unread().unwrap_or(0)
    }

    /// Returns the number of bytes in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.assembler.memory()
    }

    /// Reads as much as the buffer holds, and passes it on, but not beyond the place `until`.
    /// The buffer limits the length of a line of the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder or the current file cannot be read. The next turn tries
    /// again.
    pub fn turn(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        until: Option<u64>,
        mut pass: impl FnMut(Item<'_>),
    ) -> io::Result<Turn> {
        if self.give_up_like_queues(&mut pass) {
            return Ok(Turn::Read(0));
        }
        Ok(match self.log.read(buffer, now)? {
            Step::Lines { at, text } | Step::Cut { at, text } => {
                // The caller may want to stop at another place then.
                if self.fit_places()? {
                    return Ok(Turn::Read(0));
                }
                let mut at = at;
                // A position is the end of a line.
                let until = until.map(|until| until / PLACES);
                let room = until.and_then(|until| until.checked_sub(self.before + at));
                let room = room.filter(|room| *room > 0);
                let text = match room {
                    Some(room) => text.get(..room as usize).unwrap_or(text),
                    None => text,
                };
                for line in text.split_inclusive(|byte| *byte == b'\n') {
                    let end = at + line.len() as u64;
                    self.push((at, end), line, now, &mut pass);
                    at = end;
                }
                // Lines that were read before an earlier reader ended are read again.
                if at > self.read {
                    self.read = at;
                    self.given_up = 0;
                }
                self.log.advance(at);
                Turn::Read(text.len())
            }
            Step::NextFile => {
                self.end_file(pass);
                Turn::Read(0)
            }
            Step::Missing(missing) => {
                self.end_file(pass);
                Turn::Missing(missing)
            }
            Step::Wait { until } => {
                // The rest of a text may be in the file, so it is given up at the end only.
                let mut has_given_up = false;
                self.assembler.give_up(self.read, now, |text| {
                    has_given_up = true;
                    pass(Item::Text(text));
                });
                self.given_up += u8::from(has_given_up);
                let deadline = self.assembler.deadline();
                let until = [until, deadline].into_iter().flatten().min();
                Turn::Wait { until }
            }
            Step::Ended => {
                self.end_file(pass);
                Turn::Ended
            }
        })
    }

    /// Adds a line of the file, or a part of one, and passes on what it completes.
    fn push(
        &mut self,
        (at, end): (u64, u64),
        line: &[u8],
        now: Instant,
        mut pass: impl FnMut(Item<'_>),
    ) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let is_whole = text.len() < line.len();
        // What is read again is the beginning of texts, of which pieces may have been passed
        // on.
        let read = self.read;
        let mut pass_new = |item: Item<'_>| {
            if end > read {
                pass(item);
            }
        };
        let begun = self.begun.take();
        let parsed = match begun {
            None => Line::parse(text),
            Some(begun) => begun.continue_with(text, &self.assembler),
        };
        let Some(mut line) = parsed else {
            self.begun = (!is_whole).then_some(Begun::Invalid);
            if begun.is_none() || !text.is_empty() {
                pass_new(Item::Invalid(text));
            }
            return;
        };
        if !is_whole {
            self.begun = Some(Begun::text(&line));
            line.is_partial = true;
        }
        self.assembler.push((at, end), &line, now, |text| {
            pass_new(Item::Text(text));
        });
    }

    /// Passes on what is left of the current file, whose offsets no longer apply.
    fn end_file(&mut self, mut pass: impl FnMut(Item<'_>)) {
        let mut has_given_up = false;
        self.assembler.end_file(|text| {
            has_given_up = true;
            pass(Item::Text(text));
        });
        self.given_up += u8::from(has_given_up);
        self.before += self.read;
        self.read = 0;
        self.is_new_file = true;
        self.begun = None;
    }

    /// Continues at the places of the queues that have a part of the current file, and after
    /// those of queues whose file is gone. Places only go up. Returns whether they did.
    fn fit_places(&mut self) -> io::Result<bool> {
        if !self.is_new_file {
            return Ok(false);
        }
        let mut left = Vec::new();
        let (mut before, mut scale) = (self.before, self.scale);
        for anchor in &self.anchors {
            let location = self.log.locate(&anchor.log)?;
            let lowest = match location {
                Location::Current => anchor.before,
                Location::Gone => anchor.total().saturating_sub(self.read),
                Location::Later => 0,
            };
            if before < lowest {
                (before, scale) = (lowest, anchor.scale);
            }
            if location != Location::Gone {
                left.push(anchor.clone());
            }
        }
        let has_changed = self.before != before;
        (self.before, self.scale) = (before, scale);
        self.anchors = left;
        self.is_new_file = false;
        Ok(has_changed)
    }

    /// Gives up the texts that were given up at this offset when a queue received them: their
    /// ends, which are there now, are texts of their own for that queue. Returns whether there
    /// were any.
    fn give_up_like_queues(&mut self, mut pass: impl FnMut(Item<'_>)) -> bool {
        if self.is_new_file || self.is_behind() {
            return false;
        }
        let is_here = |anchor: &&Position| {
            (anchor.before, anchor.read) == (self.before, self.read)
                && anchor.given_up > self.given_up
                && anchor.log.in_text().is_some()
        };
        let Some(anchor) = self.anchors.iter().find(is_here) else {
            return false;
        };
        let Offsets { stdout, stderr } = anchor.passed;
        let given_up = anchor.given_up;
        let mut has_given_up = false;
        for (stream, passed) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            if passed == self.read {
                self.assembler.give_up_stream(stream, self.read, |text| {
                    has_given_up = true;
                    pass(Item::Text(text));
                });
            }
        }
        if has_given_up {
            self.given_up = given_up;
        }
        has_given_up
    }

    /// Returns whether lines are read again.
    fn is_behind(&self) -> bool {
        let file = self.log.position().file;
        file.is_none_or(|file| file.offset < self.read)
    }

    /// Passes on the texts that are not complete, to free their memory. Returns whether there
    /// were any. Nothing happens as long as lines are read again.
    pub(crate) fn give_up(&mut self, mut pass: impl FnMut(Item<'_>)) -> bool {
        if self.is_behind() || self.given_up > 0 {
            return false;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.assembler.give_up_stream(stream, self.read, |text| {
                self.given_up = 1;
                pass(Item::Text(text));
            });
        }
        self.given_up > 0
    }
}

impl Begun {
    fn text(line: &Line<'_>) -> Self {
        Self::Text {
            time: line.time,
            stream: line.stream,
            is_partial: line.is_partial,
        }
    }

    /// Returns a part of the rest as a part of its text; none if the text is not kept.
    fn continue_with<'a>(self, rest: &'a [u8], assembler: &Assembler) -> Option<Line<'a>> {
        match self {
            Self::Text {
                time,
                stream,
                is_partial,
            } if assembler.keeps(stream) => Some(Line {
                time,
                stream,
                is_partial,
                text: Cow::Borrowed(rest),
            }),
            _ => None,
        }
    }
}
