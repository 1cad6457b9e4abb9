//! Escaping of control characters, for receivers that end a message at a control
//! character (`control_characters escape`).

use std::io::Write;

use syslog::control;

/// Returns the text with its control characters escaped as `\n`, `\r` or `\u0000`.
/// The result is written into `buffer` only if there is anything to escape. Tabs and
/// backslashes are kept.
pub(super) fn escape<'t>(text: &'t [u8], buffer: &'t mut Vec<u8>) -> &'t [u8] {
    let Some(mut next) = control::find(text) else {
        return text;
    };
    buffer.clear();
    let mut rest = text;
    loop {
        let (at, character) = next;
        buffer.extend_from_slice(&rest[..at]);
        match character {
            '\n' => buffer.extend_from_slice(br"\n"),
            '\r' => buffer.extend_from_slice(br"\r"),
            other => {
                write!(buffer, r"\u{:04x}", u32::from(other))
                    .expect("writing to a Vec never fails");
            }
        }
        rest = &rest[at + character.len_utf8()..];
        match control::find(rest) {
            Some(found) => next = found,
            None => break,
        }
    }
    buffer.extend_from_slice(rest);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        escape(text, &mut b"previous content".to_vec()).to_vec()
    }

    #[test]
    fn every_control_character_but_the_tab_is_escaped() {
        for (text, expected) in [
            ("", ""),
            ("plain é\ttext \\n", "plain é\ttext \\n"),
            ("a\nb\r\n", r"a\nb\r\n"),
            ("\0\u{1b}[0m\u{7f}", r"\u0000\u001b[0m\u007f"),
            ("a\u{85}b\u{2028}\u{2029}", r"a\u0085b\u2028\u2029"),
        ] {
            assert_eq!(escaped(text.as_bytes()), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn invalid_utf8_is_kept() {
        assert_eq!(escaped(b"\xff\n\xe2\x80\n"), b"\xff\\n\xe2\x80\\n");
    }
}
