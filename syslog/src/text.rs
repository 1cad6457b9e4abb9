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
/// and gives the number of bytes of `text` that were used up.
///
/// A character is appended whole or not at all. At least one character is
/// used up where `room` holds any (four bytes always do), so a caller that
/// calls again with the rest comes to an end.
pub fn push_lossy_within(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    if text.len() <= room && std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(text);
        return text.len();
    }
    let limit = out.len() + room;
    let mut used = 0;
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let fitting = valid.floor_char_boundary(limit - out.len());
        out.extend_from_slice(&valid.as_bytes()[..fitting]);
        used += fitting;
        if fitting < valid.len() {
            return used;
        }
        if !chunk.invalid().is_empty() {
            if out.len() + REPLACEMENT.len() > limit {
                return used;
            }
            out.extend_from_slice(REPLACEMENT.as_bytes());
            used += chunk.invalid().len();
        }
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

    proptest! {
        #[test]
        fn parts_make_the_whole(text: Vec<u8>, room in 4_usize..40) {
            let mut parts = Vec::new();
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                let start = parts.len();
                let used = push_lossy_within(&mut parts, rest, room);
                prop_assert!(used > 0);
                prop_assert!(parts.len() - start <= room);
                prop_assert!(std::str::from_utf8(&parts[start..]).is_ok());
                rest = &rest[used..];
            }
            let mut whole = Vec::new();
            push_lossy(&mut whole, &text);
            prop_assert_eq!(parts, whole);
        }
    }
}
