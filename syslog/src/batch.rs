//! Batches of framed messages in one buffer.
//!
//! The batch itself replaces the characters that could end a message with newline
//! framing, so that, regardless of the mapper, a frame is one message and keeps its
//! length.

use std::ops::Range;

use crate::control;

/// The framing, which separates messages on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `MSG-LEN SP SYSLOG-MSG` (RFC 6587, section 3.4.1; RFC 5425, section 4.3).
    OctetCounting,
    /// `SYSLOG-MSG LF` (RFC 6587, section 3.4.2). Each character that a receiver may
    /// take for the end of a message ([`control`]) is replaced by as many spaces as
    /// it has bytes.
    Newline,
    /// `SYSLOG-MSG` alone, one in each datagram (RFC 5426, section 3.1).
    Datagram,
}

/// Framed messages, in the order in which they are delivered.
///
/// # Examples
///
/// ```
/// use syslog::{Batch, Framing};
///
/// let mut batch = Batch::new(Framing::OctetCounting);
/// let mut frame = batch.frame();
/// frame.bytes().extend_from_slice(b"<14>1 - - - - - - hello");
/// frame.finish();
/// assert_eq!(batch.bytes(), b"23 <14>1 - - - - - - hello");
/// ```
#[derive(Clone, Debug)]
pub struct Batch {
    framing: Framing,
    bytes: Vec<u8>,
    /// The end of each frame in `bytes`.
    ends: Vec<usize>,
    /// The expected length of the next MSG-LEN and the space after it.
    room: usize,
    /// The number of the first frame: see [`Batch::numbered`].
    first: u64,
}

/// A placeholder for the longest MSG-LEN and the space after it.
const BLANK: [u8; 21] = [b' '; 21];

impl Batch {
    /// Creates an empty batch.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self {
            framing,
            bytes: Vec::new(),
            ends: Vec::new(),
            room: 4,
            first: 0,
        }
    }

    /// Numbers the frames consecutively, beginning with `first`. The meaning of the
    /// numbers is up to the caller. A slice of the batch keeps them.
    #[must_use]
    pub fn numbered(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Returns the number of the first frame.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of the frame that contains the byte at `offset`.
    #[must_use]
    pub fn number_at(&self, offset: usize) -> u64 {
        self.first + self.frames_before(offset) as u64
    }

    /// Returns the bytes of all frames.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    /// Returns the framing of all frames.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the batch has no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the size of the allocated memory in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// Reserves memory for `frames` more frames with `bytes` bytes in total.
    pub fn reserve(&mut self, bytes: usize, frames: usize) {
        self.bytes.reserve(bytes);
        self.ends.reserve(frames);
    }

    /// Frees unused memory if less than half of the allocated memory is used.
    pub fn trim(&mut self) {
        let used = self.bytes.len() + self.ends.len() * size_of::<usize>();
        if self.capacity() > 2 * used {
            self.bytes.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// Returns the end of the frame that contains the byte at `offset`.
    #[must_use]
    pub fn frame_end(&self, offset: usize) -> usize {
        self.frame_start(self.frames_before(offset) + 1)
    }

    /// Returns the offset of the frame with this index, or the end of the last frame
    /// if there are not that many frames.
    #[must_use]
    pub fn frame_start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self
                .ends
                .get(index - 1)
                .copied()
                .unwrap_or(self.bytes.len()),
        }
    }

    /// Returns the number of frames that end at or before `offset`.
    #[must_use]
    pub fn frames_before(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }

    /// Returns a copy of the frames with these indexes.
    #[must_use]
    pub fn slice(&self, frames: Range<usize>) -> Self {
        let start = self.frame_start(frames.start);
        Self {
            framing: self.framing,
            bytes: self.bytes[start..self.frame_start(frames.end)].to_vec(),
            first: self.first + frames.start as u64,
            ends: self.ends[frames].iter().map(|end| end - start).collect(),
            room: self.room,
        }
    }

    /// Appends the frames of another batch.
    pub fn append(&mut self, other: &Self) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// Appends the frames with these lengths, which follow each other in `bytes`.
    pub fn append_frames(&mut self, bytes: &[u8], lengths: impl Iterator<Item = usize>) {
        let mut end = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.ends.extend(lengths.map(|length| {
            end += length;
            end
        }));
        debug_assert_eq!(end, self.bytes.len());
    }

    /// Converts the messages to a different framing.
    #[must_use]
    pub fn with_framing(self, framing: Framing) -> Self {
        if self.framing == framing {
            return self;
        }
        let mut other = Self::new(framing).numbered(self.first);
        other.reserve(self.bytes.len(), self.ends.len());
        for number in 0..self.frames() {
            let frame = &self.bytes[self.frame_start(number)..self.frame_start(number + 1)];
            let message = match self.framing {
                Framing::OctetCounting => {
                    let space = memchr::memchr(b' ', frame);
                    &frame[space.map_or(0, |space| space + 1)..]
                }
                Framing::Newline => frame.strip_suffix(b"\n").unwrap_or(frame),
                Framing::Datagram => frame,
            };
            let mut frame = other.frame();
            frame.bytes().extend_from_slice(message);
            frame.finish();
        }
        other
    }

    /// Removes the frame with this index.
    pub fn remove(&mut self, index: usize) {
        let (start, end) = (self.frame_start(index), self.frame_start(index + 1));
        self.bytes.drain(start..end);
        self.ends.remove(index);
        for later in &mut self.ends[index..] {
            *later -= end - start;
        }
    }

    /// Removes all frames except the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.frame_start(count));
        self.ends.truncate(count);
    }

    /// Removes all frames, and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Begins a frame.
    pub fn frame(&mut self) -> Frame<'_> {
        let start = self.bytes.len();
        if self.framing == Framing::OctetCounting {
            // Reserves space for MSG-LEN, which is known only at the end. A wrong guess
            // moves the message once, and most messages have lengths of the same width.
            self.bytes.extend_from_slice(&BLANK[..self.room]);
        }
        let message = self.bytes.len();
        Frame {
            batch: self,
            start,
            message,
            finished: false,
        }
    }
}

/// A frame under construction. The caller appends the message to [`Frame::bytes`]. A
/// frame that is dropped without [`Frame::finish`] is removed from the batch.
#[derive(Debug)]
pub struct Frame<'b> {
    batch: &'b mut Batch,
    start: usize,
    message: usize,
    finished: bool,
}

impl Frame<'_> {
    /// Returns the buffer to append the message to. The bytes in it must not be changed.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// Returns the length of the message so far in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.bytes.len() - self.message
    }

    /// Whether the message is empty so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the message so far.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.batch.bytes[self.message..]
    }

    /// Completes the frame.
    pub fn finish(mut self) {
        self.finished = true;
        match self.batch.framing {
            Framing::OctetCounting => self.write_length(),
            Framing::Newline => self.end_line(),
            Framing::Datagram => {}
        }
        self.batch.ends.push(self.batch.bytes.len());
    }

    fn write_length(&mut self) {
        let length = self.len();
        // MSG-LEN must not be 0, so an empty message cannot be framed.
        debug_assert!(length > 0);
        let mut text = BLANK;
        let mut first = text.len() - 1;
        let mut rest = length;
        while rest > 0 {
            first -= 1;
            text[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let text = &text[first..];
        let Batch { bytes, room, .. } = &mut *self.batch;
        if text.len() == *room {
            bytes[self.start..self.message].copy_from_slice(text);
        } else {
            bytes.splice(self.start..self.message, text.iter().copied());
            *room = text.len();
        }
    }

    fn end_line(&mut self) {
        let bytes = &mut self.batch.bytes;
        control::blank(&mut bytes[self.message..]);
        bytes.push(b'\n');
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.bytes.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(framing: Framing, messages: &[&[u8]]) -> Batch {
        let mut batch = Batch::new(framing);
        for message in messages {
            let mut frame = batch.frame();
            frame.bytes().extend_from_slice(message);
            frame.finish();
        }
        batch
    }

    #[test]
    fn octet_counts_of_all_widths_are_written() {
        let messages: Vec<Vec<u8>> = [5, 12, 9, 100, 1234, 99, 100_000, 7]
            .into_iter()
            .map(|length| vec![b'x'; length])
            .collect();
        let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let batch = batch_of(Framing::OctetCounting, &slices);
        let expected: Vec<u8> = messages
            .iter()
            .flat_map(|m| [format!("{} ", m.len()).as_bytes(), m].concat())
            .collect();
        assert_eq!(batch.bytes(), expected);
        assert_eq!(batch.frames(), messages.len());
    }

    #[test]
    fn only_the_final_line_feed_ends_a_line() {
        let message = "a\n\nb\0c\r\u{85}d\te\n".as_bytes();
        let batch = batch_of(Framing::Newline, &[message, b"next"]);
        assert_eq!(batch.bytes(), b"a  b c   d\te \nnext\n");
        assert_eq!(batch.frame_start(1), message.len() + 1);
    }

    #[test]
    fn an_unfinished_frame_is_removed() {
        let mut batch = batch_of(Framing::OctetCounting, &[b"one"]);
        let mut frame = batch.frame();
        frame.bytes().extend_from_slice(b"tw");
        drop(frame);
        assert_eq!(batch.bytes(), b"3 one");
        assert_eq!(batch.frames(), 1);
    }

    #[test]
    fn frame_ends_are_found_from_any_offset() {
        let batch = batch_of(Framing::Datagram, &[b"one", b"three"]);
        let ends: Vec<usize> = (0..8).map(|offset| batch.frame_end(offset)).collect();
        assert_eq!(ends, [3, 3, 3, 8, 8, 8, 8, 8]);
        assert_eq!([0, 1, 2, 3].map(|n| batch.frame_start(n)), [0, 3, 8, 8]);
        assert_eq!(
            [0, 2, 3, 7, 8].map(|o| batch.frames_before(o)),
            [0, 0, 1, 1, 2]
        );
    }

    #[test]
    fn messages_are_converted_to_other_framings() {
        let framings = [Framing::OctetCounting, Framing::Newline, Framing::Datagram];
        let messages: [&[u8]; 3] = [b"one", b"<14>1 two three", b"4 x"];
        for from in framings {
            for to in framings {
                let batch = batch_of(from, &messages).with_framing(to);
                let expected = batch_of(to, &messages);
                assert_eq!(batch.bytes(), expected.bytes(), "{from:?} {to:?}");
                assert_eq!(batch.ends, expected.ends, "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn frames_are_copied_appended_and_removed() {
        let batch = batch_of(Framing::Datagram, &[b"one", b"three", b"four"]);
        let texts = |batch: &Batch| -> Vec<String> {
            let frame = |n| &batch.bytes()[batch.frame_start(n)..batch.frame_start(n + 1)];
            let text = |n| String::from_utf8(frame(n).to_vec()).unwrap();
            (0..batch.frames()).map(text).collect()
        };
        let mut middle = batch.slice(1..2);
        assert_eq!(texts(&middle), ["three"]);
        assert!(batch.slice(2..2).is_empty());
        middle.append(&batch.slice(0..3));
        assert_eq!(texts(&middle), ["three", "one", "three", "four"]);
        middle.remove(1);
        assert_eq!(texts(&middle), ["three", "three", "four"]);
        middle.remove(2);
        middle.remove(0);
        assert_eq!(texts(&middle), ["three"]);
    }

    #[test]
    fn the_last_frames_are_truncated() {
        let mut batch = batch_of(Framing::Datagram, &[b"one", b"three", b"four"]);
        batch.truncate(2);
        assert_eq!((batch.bytes(), batch.frames()), (&b"onethree"[..], 2));
        batch.truncate(5);
        assert_eq!(batch.frames(), 2);
    }
}
