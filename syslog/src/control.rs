//! Characters that a receiver may take for the end of a message in a stream with
//! line feeds between messages (RFC 6587, section 3.4.2).
//!
//! Receivers differ: some end a message at NUL (syslog-ng, Fluent Bit), some at a
//! carriage return, and some split text into lines by Unicode's rules. The
//! characters are therefore all C0 controls except the tab, DEL, and Unicode's line
//! ends U+0085, U+2028 and U+2029.

/// Returns the first character in `text` that may end a message, and its offset in
/// bytes. Bytes that are not UTF-8 are skipped.
#[must_use]
pub fn find(text: &[u8]) -> Option<(usize, char)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| may_begin(*byte))?;
        if let Some(character) = at_start(&text[at..]) {
            return Some((at, character));
        }
        from = at + 1;
    }
}

/// Overwrites each character that may end a message by as many spaces as it has
/// bytes, so that the length does not change.
pub fn blank(text: &mut [u8]) {
    // A pass without branches, which is enough for nearly all messages.
    if !text.iter().fold(false, |any, byte| any | may_begin(*byte)) {
        return;
    }
    let mut from = 0;
    while let Some((at, character)) = find(&text[from..]) {
        let start = from + at;
        from = start + character.len_utf8();
        text[start..from].fill(b' ');
    }
}

/// Whether this byte can begin a character that may end a message. The bytes 0xC2 and
/// 0xE2 also begin many harmless characters.
const fn may_begin(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f || byte == 0xc2 || byte == 0xe2
}

/// Returns the character at the start of `text`, if it may end a message. The first
/// byte must satisfy [`may_begin`].
fn at_start(text: &[u8]) -> Option<char> {
    match *text {
        [0xc2, 0x85, ..] => Some('\u{85}'),
        [0xe2, 0x80, 0xa8, ..] => Some('\u{2028}'),
        [0xe2, 0x80, 0xa9, ..] => Some('\u{2029}'),
        [byte, ..] if byte.is_ascii() => Some(char::from(byte)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An independent definition of the characters.
    fn may_end(character: char) -> bool {
        character.is_ascii_control() && character != '\t'
            || matches!(character, '\u{85}' | '\u{2028}' | '\u{2029}')
    }

    #[test]
    fn every_character_is_blanked_or_kept() {
        for character in '\0'..='\u{ffff}' {
            let mut text = format!("a{character}b").into_bytes();
            let expected = if may_end(character) {
                ["a", &" ".repeat(character.len_utf8()), "b"].concat()
            } else {
                format!("a{character}b")
            };
            blank(&mut text);
            assert_eq!(text, expected.as_bytes(), "{character:?}");
        }
    }

    #[test]
    fn the_first_control_character_is_found() {
        assert_eq!(find("é\tÂ“\u{2029}\n".as_bytes()), Some((8, '\u{2029}')));
        assert_eq!(find(b"\xe2\x80"), None);
        assert_eq!(find(b"\xc2\n"), Some((1, '\n')));
    }

    proptest! {
        #[test]
        fn only_control_characters_are_blanked(bytes: Vec<u8>, text: Vec<char>) {
            for original in [bytes, text.into_iter().collect::<String>().into_bytes()] {
                let mut blanked = original.clone();
                blank(&mut blanked);
                prop_assert_eq!(find(&blanked), None);
                prop_assert_eq!(blanked.len(), original.len());
                let text = String::from_utf8_lossy(&original);
                let expected: String = text
                    .chars()
                    .map(|c| if may_end(c) { " ".repeat(c.len_utf8()) } else { c.to_string() })
                    .collect();
                prop_assert_eq!(String::from_utf8_lossy(&blanked), expected);
            }
        }
    }
}
