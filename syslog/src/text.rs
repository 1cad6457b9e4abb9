//! UTF-8 text from bytes that may not be UTF-8.

/// Stands for bytes that are not UTF-8 (U+FFFD REPLACEMENT CHARACTER).
pub const REPLACEMENT: &str = "\u{FFFD}";

/// Appends `text` to `out`, with [`REPLACEMENT`] in the place of each sequence
/// that is not UTF-8.
pub fn push_lossy(out: &mut Vec<u8>, text: &[u8]) {
    // Validating a whole text is much faster than going from chunk to chunk.
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

/// Appends as much of `text` as fits into `room` bytes, like [`push_lossy`],
/// and returns the number of bytes of `text` that were used up.
///
/// A character is appended whole or not at all. At least one character is
/// used up where `room` holds any (four bytes always do), so a caller that
/// calls again with the rest comes to an end.
pub fn push_lossy_within(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    if text.len() <= room && std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(text);
        return text.len();
    }
    let used = lossy_prefix(text, room);
    push_lossy(out, &text[..used]);
    used
}

/// Returns the number of parts of at most `room` bytes each, at least four, that
/// repeated calls of [`push_lossy_within`] make of `text`.
#[must_use]
pub fn count_lossy_parts(text: &[u8], room: usize) -> usize {
    let mut rest = text;
    let mut count = 0;
    while !rest.is_empty() {
        rest = &rest[lossy_prefix(rest, room)..];
        count += 1;
    }
    count
}

/// Returns the length of the longest prefix of `text` that ends between two
/// characters and takes up to `room` bytes as [`push_lossy`] writes it.
fn lossy_prefix(text: &[u8], room: usize) -> usize {
    // No sequence becomes shorter, so a prefix that fits has at most `room`
    // bytes. A character that the window cuts off begins behind them.
    let window = &text[..text.len().min(room + 3)];
    let (mut used, mut written) = (0, 0);
    for chunk in window.utf8_chunks() {
        let valid = chunk.valid();
        let fitting = valid.floor_char_boundary(room - written);
        used += fitting;
        written += fitting;
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
    fn a_character_is_never_cut() {
        let mut out = Vec::new();
        assert_eq!(push_lossy_within(&mut out, "a€b".as_bytes(), 3), 1);
        assert_eq!(out, b"a");
        assert_eq!(push_lossy_within(&mut out, "€b".as_bytes(), 3), 3);
        assert_eq!(out, "a€".as_bytes());
    }

    #[test]
    fn a_part_is_as_long_as_it_can_be() {
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
            assert_eq!(lossy_prefix(text, room), expected, "{text:?} {room}");
        }
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(text: Vec<u8>, room in 4_usize..40) {
            let mut parts = Vec::new();
            let mut count = 0;
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                let start = parts.len();
                let used = push_lossy_within(&mut parts, rest, room);
                prop_assert!(used > 0);
                prop_assert!(parts.len() - start <= room);
                prop_assert!(std::str::from_utf8(&parts[start..]).is_ok());
                rest = &rest[used..];
                count += 1;
            }
            prop_assert_eq!(count, count_lossy_parts(&text, room));
            let mut whole = Vec::new();
            push_lossy(&mut whole, &text);
            prop_assert_eq!(parts, whole);
        }
    }
}
