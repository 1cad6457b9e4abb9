//! Conversion of arbitrary bytes to UTF-8 text, in parts that fit a size limit.

/// The replacement for bytes that are not UTF-8 (U+FFFD REPLACEMENT CHARACTER).
pub const REPLACEMENT: &str = "\u{FFFD}";

/// Appends `text` to `out`, with [`REPLACEMENT`] instead of each sequence that is not
/// UTF-8.
pub fn push_lossy(out: &mut Vec<u8>, text: &[u8]) {
    // Validating the whole text is much faster than iterating over its chunks.
    if std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }
}

/// The method of measuring a text against a size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The number of bytes, for datagrams, in which a message cannot continue.
    Bytes,
    /// The number of bytes after a receiver has escaped each control character (C0 and
    /// DEL) as four bytes, such as `#012`. rsyslog does this by default, before it
    /// measures a message: a text of 8,000 tabs would exceed its limit, and the rest
    /// would be lost or become a separate message.
    Escaped,
}

impl Measure {
    /// Returns the size of a character.
    fn of(self, character: char) -> usize {
        match self {
            Self::Escaped if character.is_ascii_control() => 4,
            Self::Bytes | Self::Escaped => character.len_utf8(),
        }
    }

    /// Whether the text, if it is UTF-8, has at most `room` bytes by this measure.
    fn fits(self, text: &[u8], room: usize) -> bool {
        text.len() <= room
            && (self == Self::Bytes
                || text.len() * 4 <= room
                || text.len() + 3 * count_controls(text) <= room)
    }

    /// Returns the length of the longest prefix of whole characters that fits into
    /// `room`, and the size of this prefix by this measure.
    fn prefix(self, text: &str, room: usize) -> (usize, usize) {
        if self == Self::Bytes {
            let fitting = text.floor_char_boundary(room);
            return (fitting, fitting);
        }
        let mut taken = 0;
        for (at, character) in text.char_indices() {
            let takes = self.of(character);
            if taken + takes > room {
                return (at, taken);
            }
            taken += takes;
        }
        (text.len(), taken)
    }
}

fn count_controls(text: &[u8]) -> usize {
    text.iter().filter(|byte| byte.is_ascii_control()).count()
}

/// Appends as much of `text` as fits into `room` bytes by this measure, like
/// [`push_lossy`], and returns the number of bytes of `text` that were consumed.
///
/// Characters are never split. If `room` is at least four bytes, at least one
/// character is consumed, so a loop that calls this function with the remaining text
/// terminates. Line feeds at the end of a part are moved to the beginning of the next
/// one, because rsyslog removes a line feed at the end of a message.
pub fn push_lossy_within(out: &mut Vec<u8>, text: &[u8], room: usize, measure: Measure) -> usize {
    if measure.fits(text, room) && std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(text);
        return text.len();
    }
    let used = lossy_prefix(text, room, measure);
    push_lossy(out, &text[..used]);
    used
}

/// Returns the number of parts into which repeated calls of [`push_lossy_within`] split
/// `text`. `room` must be at least four.
#[must_use]
pub fn count_lossy_parts(text: &[u8], room: usize, measure: Measure) -> usize {
    let mut rest = text;
    let mut count = 0;
    while !rest.is_empty() {
        rest = &rest[lossy_prefix(rest, room, measure)..];
        count += 1;
    }
    count
}

/// Returns the length of the longest prefix of `text` that ends between two characters
/// and has at most `room` bytes as written by [`push_lossy`]. Line feeds at its end are
/// left out if more text follows.
fn lossy_prefix(text: &[u8], room: usize, measure: Measure) -> usize {
    let used = longest_prefix(text, room, measure);
    if used == text.len() {
        return used;
    }
    let line_feeds = text[..used].iter().rev().take_while(|byte| **byte == b'\n');
    match used - line_feeds.count() {
        0 => used,
        before => before,
    }
}

fn longest_prefix(text: &[u8], room: usize, measure: Measure) -> usize {
    // No sequence becomes shorter, so a prefix that fits has at most `room` bytes. A
    // character that is cut off by the window begins after them.
    let window = &text[..text.len().min(room + 3)];
    let (mut used, mut written) = (0, 0);
    for chunk in window.utf8_chunks() {
        let valid = chunk.valid();
        let (fitting, taken) = measure.prefix(valid, room - written);
        used += fitting;
        written += taken;
        let is_full = fitting < valid.len() || written + REPLACEMENT.len() > room;
        if is_full || chunk.invalid().is_empty() {
            break;
        }
        used += chunk.invalid().len();
        written += REPLACEMENT.len();
    }
    used
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let mut out = Vec::new();
        push_lossy(&mut out, b"caf\xe9 \xff\xfe ok");
        assert_eq!(out, "caf\u{FFFD} \u{FFFD}\u{FFFD} ok".as_bytes());
    }

    #[test]
    fn characters_are_never_split() {
        let mut out = Vec::new();
        let bytes = Measure::Bytes;
        assert_eq!(push_lossy_within(&mut out, "a€b".as_bytes(), 3, bytes), 1);
        assert_eq!(out, b"a");
        assert_eq!(push_lossy_within(&mut out, "€b".as_bytes(), 3, bytes), 3);
        assert_eq!(out, "a€".as_bytes());
    }

    #[test]
    fn a_part_is_as_long_as_possible() {
        for (text, room, expected) in [
            ("abc".as_bytes(), 2, 2),
            ("a€".as_bytes(), 4, 4),
            ("a€".as_bytes(), 3, 1),
            (b"ab\xff", 5, 3),
            (b"ab\xff", 4, 2),
            (b"\xf0\x9f\x98", 3, 3),
            ("\u{1f600}\u{1f600}".as_bytes(), 7, 4),
            (b"\xf0\x9f\x98\x80\xf0\x9f\x98", 7, 7),
        ] {
            let prefix = lossy_prefix(text, room, Measure::Bytes);
            assert_eq!(prefix, expected, "{text:?} {room}");
        }
    }

    #[test]
    fn escaped_control_characters_count_as_four_bytes() {
        for (text, room, expected) in [
            ("a\tb", 6, 3),
            ("a\tb", 5, 2),
            ("a\tb", 4, 1),
            ("\u{7f}é", 5, 1),
            ("\u{7f}é", 6, 3),
            ("abcd", 4, 4),
        ] {
            let mut out = Vec::new();
            let used = push_lossy_within(&mut out, text.as_bytes(), room, Measure::Escaped);
            assert_eq!(used, expected, "{text:?} {room}");
        }
    }

    #[test]
    fn trailing_line_feeds_move_to_the_next_part() {
        for (text, expected) in [
            ("abc\n\nd", 3),
            ("abcde\n", 5),
            ("\n\n\n\n\n\n", 5),
            ("ab\nc", 4),
        ] {
            let used = lossy_prefix(text.as_bytes(), 5, Measure::Bytes);
            assert_eq!(used, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_whole_text(
            text: Vec<u8>,
            room in 4_usize..40,
            measure in prop_oneof![Just(Measure::Bytes), Just(Measure::Escaped)],
        ) {
            let mut parts = Vec::new();
            let mut count = 0;
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                let start = parts.len();
                let used = push_lossy_within(&mut parts, rest, room, measure);
                prop_assert!(used > 0);
                let part = std::str::from_utf8(&parts[start..]).unwrap();
                prop_assert!(part.chars().map(|c| measure.of(c)).sum::<usize>() <= room);
                rest = &rest[used..];
                count += 1;
            }
            prop_assert_eq!(count, count_lossy_parts(&text, room, measure));
            let mut whole = Vec::new();
            push_lossy(&mut whole, &text);
            prop_assert_eq!(parts, whole);
        }
    }
}
