//! Frames, one behind the other in one buffer.

use std::ops::Range;

use crate::control;

/// How messages are told apart on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `MSG-LEN SP SYSLOG-MSG` (RFC 6587, section 3.4.1; RFC 5425, section 4.3).
    OctetCounting,
    /// `SYSLOG-MSG LF` (RFC 6587, section 3.4.2). Every sequence in a message
    /// that a receiver may take for its end ([`control`]) is
    /// replaced by as many spaces as it has bytes.
    Newline,
    /// The message alone: one datagram each (RFC 5426, section 3.1).
    Datagram,
}

/// Messages, framed, in the order in which they are to be delivered.
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
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    /// How much room the next MSG-LEN and its space will likely need.
    room: usize,
    /// The number of the first frame: see [`Batch::numbered`].
    first: u64,
}

/// Room for the longest MSG-LEN and its space.
const BLANK: [u8; 21] = [b' '; 21];

impl Batch {
    /// An empty batch.
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

    /// Gives the frames consecutive numbers from `first` on, which have a meaning
    /// for whoever keeps them. A part of the batch keeps its numbers.
    #[must_use]
    pub fn numbered(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// The number of the first frame.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The number of the frame in which the byte at `offset` is.
    #[must_use]
    pub fn number_at(&self, offset: usize) -> u64 {
        self.first + self.frames_before(offset) as u64
    }

    /// All frames.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    /// The framing of all frames.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes of memory the batch holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// Makes room for so many bytes of frames, so that they need not be moved
    /// as they become more.
    pub fn reserve(&mut self, bytes: usize, frames: usize) {
        self.bytes.reserve(bytes);
        self.ends.reserve(frames);
    }

    /// Gives memory back where more than half of it is not used.
    pub fn trim(&mut self) {
        let used = self.bytes.len() + self.ends.len() * size_of::<usize>();
        if self.capacity() > 2 * used {
            self.bytes.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// The end of the frame in which the byte at `offset` is.
    #[must_use]
    pub fn frame_end(&self, offset: usize) -> usize {
        self.frame_start(self.frames_before(offset) + 1)
    }

    /// Where the frame of this number begins, counted from zero; the end of all
    /// frames where there are not as many.
    #[must_use]
    pub fn frame_start(&self, number: usize) -> usize {
        match number {
            0 => 0,
            _ => self
                .ends
                .get(number - 1)
                .copied()
                .unwrap_or(self.bytes.len()),
        }
    }

    /// How many frames end at `offset` or before.
    #[must_use]
    pub fn frames_before(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }

    /// A batch of the frames with these numbers.
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

    /// Appends frames of these lengths, which are in `bytes` one behind the
    /// other.
    pub fn append_frames(&mut self, bytes: &[u8], lengths: impl Iterator<Item = usize>) {
        let mut end = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.ends.extend(lengths.map(|length| {
            end += length;
            end
        }));
        debug_assert_eq!(end, self.bytes.len());
    }

    /// Returns the messages in another framing.
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

    /// Removes the frame of this number.
    pub fn remove(&mut self, number: usize) {
        let (start, end) = (self.frame_start(number), self.frame_start(number + 1));
        self.bytes.drain(start..end);
        self.ends.remove(number);
        for behind in &mut self.ends[number..] {
            *behind -= end - start;
        }
    }

    /// Keeps the first `count` frames only.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.frame_start(count));
        self.ends.truncate(count);
    }

    /// Takes all frames out and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Begins a frame.
    pub fn frame(&mut self) -> Frame<'_> {
        let start = self.bytes.len();
        if self.framing == Framing::OctetCounting {
            // Room for MSG-LEN, which is known at the end. A wrong guess costs
            // a move of one message, and messages of a stream are alike.
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

/// A frame in the making: the message is appended to [`Frame::bytes`]. A frame
/// that is dropped unfinished leaves nothing behind.
#[derive(Debug)]
pub struct Frame<'b> {
    batch: &'b mut Batch,
    start: usize,
    message: usize,
    finished: bool,
}

impl Frame<'_> {
    /// Where the message is appended. What stands before it is not to be touched.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// The length of the message so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.bytes.len() - self.message
    }

    /// Whether the message is empty so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message so far.
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
        // An empty message would be announced as 0, which is not a MSG-LEN.
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
    fn lengths_of_all_widths() {
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
    fn no_control_character_ends_a_line_but_the_last() {
        let message = "a\n\nb\0c\r\u{85}d\te\n".as_bytes();
        let batch = batch_of(Framing::Newline, &[message, b"next"]);
        assert_eq!(batch.bytes(), b"a  b c   d\te \nnext\n");
        assert_eq!(batch.frame_start(1), message.len() + 1);
    }

    #[test]
    fn an_unfinished_frame_leaves_nothing() {
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
    fn messages_are_framed_again() {
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
    fn the_last_frames_are_cut_off() {
        let mut batch = batch_of(Framing::Datagram, &[b"one", b"three", b"four"]);
        batch.truncate(2);
        assert_eq!((batch.bytes(), batch.frames()), (&b"onethree"[..], 2));
        batch.truncate(5);
        assert_eq!(batch.frames(), 2);
    }
}
