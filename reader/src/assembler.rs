//! The lines of a container, from the parts in which the runtime writes long ones.
//!
//! ```text
//! P "aaa" ─┐
//! P "bbb"  ├─> one text "aaabbbccc", with the time of its first part
//! F "ccc" ─┘
//! ```
//!
//! The streams of a container have parts of their own, which alternate in the file. So there
//! is a position for each stream: after a restart, the file is read from the lower one, and
//! lines of a stream before its position are skipped.

use std::mem;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::line::{Line, Stream, Time};

/// The time after which an incomplete text is passed on.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Joins the parts of one container's lines.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    stdout: Pending,
    stderr: Pending,
}

/// The parts of a text that is not complete yet.
#[derive(Debug, Default)]
struct Pending {
    text: Vec<u8>,
    time: Time,
    /// The offset of the first part, and the time at which the last part was added.
    since: Option<(u64, Instant)>,
    /// The offset up to which the lines of this stream were passed on.
    done: u64,
}

/// The offsets in a file up to which the lines of each stream were passed on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Offsets {
    /// The offset of standard output.
    pub stdout: u64,
    /// The offset of standard error.
    pub stderr: u64,
}

/// A text of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The time of the first part.
    pub time: Time,
    /// The stream.
    pub stream: Stream,
    /// The text.
    pub text: &'a [u8],
    /// Whether it is not complete: it is longer than the limit, or its end is missing.
    pub is_cut: bool,
}

impl Offsets {
    /// Returns the offset from which the file has to be read again.
    #[must_use]
    pub fn lowest(self) -> u64 {
        self.stdout.min(self.stderr)
    }
}

impl Assembler {
    /// Creates an assembler for a file that is read from these offsets on. A text of more than
    /// `limit` bytes is passed on in pieces.
    #[must_use]
    pub fn new(limit: usize, from: Offsets) -> Self {
        let pending = |done| Pending {
            done,
            ..Pending::default()
        };
        Self {
            limit,
            stdout: pending(from.stdout),
            stderr: pending(from.stderr),
        }
    }

    /// Adds the line at an offset, which ends at `end`, and passes on the text that it
    /// completes.
    pub fn push(
        &mut self,
        (at, end): (u64, u64),
        line: &Line<'_>,
        now: Instant,
        mut pass: impl FnMut(Text<'_>),
    ) {
        let (limit, stream) = (self.limit, line.stream);
        let pending = self.pending(stream);
        if at < pending.done {
            return;
        }
        if pending.since.is_none() {
            if !line.is_partial && line.text.len() <= limit {
                pending.done = end;
                return pass(Text {
                    time: line.time,
                    stream,
                    text: &line.text,
                    is_cut: false,
                });
            }
            pending.time = line.time;
        }
        let (begin, _) = pending.since.unwrap_or((at, now));
        pending.since = Some((begin, now));
        let mut rest = &line.text[..];
        while pending.text.len() + rest.len() > limit {
            let (piece, next) = rest.split_at(limit - pending.text.len());
            pending.text.extend_from_slice(piece);
            rest = next;
            pass(pending.text(stream, true));
            pending.text.clear();
        }
        pending.text.extend_from_slice(rest);
        if !line.is_partial {
            pending.finish(end, stream, false, pass);
        }
    }

    /// Passes on the texts whose next part has not come for [`PATIENCE`], in a file that was
    /// read up to `end`. What follows is a text of its own then.
    pub fn give_up(&mut self, end: u64, now: Instant, mut pass: impl FnMut(Text<'_>)) {
        let is_late = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = self.pending(stream);
            if pending.since.is_some_and(|(_, since)| is_late(since)) {
                pending.finish(end, stream, true, &mut pass);
            }
        }
    }

    /// Passes on the text of a stream that is not complete, in a file that was read up to
    /// `end`. What follows is a text of its own then.
    pub(crate) fn give_up_stream(&mut self, stream: Stream, end: u64, pass: impl FnMut(Text<'_>)) {
        let pending = self.pending(stream);
        if pending.since.is_some() {
            pending.finish(end, stream, true, pass);
        }
    }

    /// Passes on the texts that are not complete at the end of a file, and begins with the
    /// next file.
    pub fn end_file(&mut self, mut pass: impl FnMut(Text<'_>)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = self.pending(stream);
            if pending.since.is_some() {
                pending.finish(0, stream, true, &mut pass);
            }
            pending.done = 0;
        }
    }

    /// Returns the offsets up to which texts were passed on, of a file that was read up to
    /// `end`.
    #[must_use]
    pub fn offsets(&self, end: u64) -> Offsets {
        let offset = |pending: &Pending| match pending.since {
            // The pieces of a text that is too long are passed on again.
            Some((begin, _)) => begin,
            None => end.max(pending.done),
        };
        Offsets {
            stdout: offset(&self.stdout),
            stderr: offset(&self.stderr),
        }
    }

    /// Returns whether the beginning of a text of a stream is kept.
    pub(crate) const fn keeps(&self, stream: Stream) -> bool {
        let pending = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        pending.since.is_some()
    }

    /// Returns the time at which [`Assembler::give_up`] must be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let since = [&self.stdout, &self.stderr].map(|pending| pending.since);
        let since = since.into_iter().flatten().map(|(_, since)| since);
        since.min().map(|since| since + PATIENCE)
    }

    /// Returns the number of bytes in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.stdout.text.capacity() + self.stderr.text.capacity()
    }

    const fn pending(&mut self, stream: Stream) -> &mut Pending {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Pending {
    fn text(&self, stream: Stream, is_cut: bool) -> Text<'_> {
        Text {
            time: self.time,
            stream,
            text: &self.text,
            is_cut,
        }
    }

    fn finish(&mut self, end: u64, stream: Stream, is_cut: bool, mut pass: impl FnMut(Text<'_>)) {
        pass(self.text(stream, is_cut));
        // The memory of long texts is rarely needed.
        mem::take(&mut self.text);
        self.since = None;
        self.done = end;
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn line(stream: Stream, is_partial: bool, text: &str) -> Line<'_> {
        Line {
            time: Time {
                seconds: text.len() as i64,
                nanos: 0,
            },
            stream,
            is_partial,
            text: Cow::Borrowed(text.as_bytes()),
        }
    }

    /// Pushes lines of ten bytes each, from an offset on.
    fn push(assembler: &mut Assembler, from: u64, lines: &[Line<'_>]) -> Vec<String> {
        let (now, mut texts) = (Instant::now(), Vec::new());
        for (at, line) in (from..).step_by(10).zip(lines) {
            assembler.push((at, at + 10), line, now, |text| texts.push(show(&text)));
        }
        texts
    }

    fn show(text: &Text<'_>) -> String {
        let Text {
            time,
            stream,
            text,
            is_cut,
        } = text;
        let cut = if *is_cut { " (cut)" } else { "" };
        let text = String::from_utf8_lossy(text);
        format!("{} {} {text}{cut}", stream.name(), time.seconds)
    }

    const OUT: Stream = Stream::Stdout;
    const ERR: Stream = Stream::Stderr;

    #[test]
    fn parts_are_joined_for_each_stream() {
        let lines = [
            line(OUT, true, "aa"),
            line(ERR, true, "xyz"),
            line(OUT, false, "b"),
            line(OUT, false, "c"),
            line(ERR, false, "!"),
        ];
        let mut assembler = Assembler::new(100, Offsets::default());
        let texts = push(&mut assembler, 0, &lines);
        assert_eq!(texts, ["stdout 2 aab", "stdout 1 c", "stderr 3 xyz!"]);
        assert_eq!((assembler.memory(), assembler.deadline()), (0, None));
    }

    #[test]
    fn a_restart_neither_loses_nor_repeats_texts() {
        let lines = [
            line(ERR, true, "xyz"),
            line(OUT, false, "a"),
            line(OUT, false, "b"),
            line(ERR, false, "!"),
            line(OUT, false, "c"),
        ];
        for stop in 0..=lines.len() {
            let mut assembler = Assembler::new(100, Offsets::default());
            let mut texts = push(&mut assembler, 0, &lines[..stop]);
            let offsets = assembler.offsets(stop as u64 * 10);
            let from = offsets.lowest();
            let mut next = Assembler::new(100, offsets);
            texts.extend(push(&mut next, from, &lines[from as usize / 10..]));
            texts.sort();
            let expected = ["stderr 3 xyz!", "stdout 1 a", "stdout 1 b", "stdout 1 c"];
            assert_eq!(texts, expected, "{stop}");
        }
    }

    #[test]
    fn long_texts_are_passed_on_in_pieces() {
        let lines = [
            line(OUT, true, "aaaa"),
            line(OUT, true, "bbbb"),
            line(OUT, false, "c"),
            line(OUT, false, "dddddddd"),
        ];
        let mut assembler = Assembler::new(5, Offsets::default());
        let texts = push(&mut assembler, 0, &lines);
        let expected = [
            "stdout 4 aaaab (cut)",
            "stdout 4 bbbc",
            "stdout 8 ddddd (cut)",
            "stdout 8 ddd",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_text_without_an_end_is_given_up() {
        let mut assembler = Assembler::new(100, Offsets::default());
        assert!(push(&mut assembler, 0, &[line(OUT, true, "aa")]).is_empty());
        let deadline = assembler.deadline().unwrap();
        let mut texts = Vec::new();
        assembler.give_up(10, Instant::now(), |text| texts.push(show(&text)));
        assert!(texts.is_empty() && deadline > Instant::now());
        assembler.give_up(10, deadline, |text| texts.push(show(&text)));
        assert_eq!(texts, ["stdout 2 aa (cut)"]);
        let after = push(&mut assembler, 10, &[line(OUT, false, "b")]);
        assert_eq!(after, ["stdout 1 b"]);
        assert!(push(&mut assembler, 20, &[line(ERR, true, "x")]).is_empty());
        assembler.end_file(|text| texts.push(show(&text)));
        assert_eq!(texts[1..], ["stderr 1 x (cut)"]);
    }
}
