//! The text fields of the header: HOSTNAME, APP-NAME, PROCID and MSGID
//! (RFC 5424, sections 6.2.4 to 6.2.7).

use thiserror::Error;

/// A header field of at most `MAX` printable ASCII characters, or the NILVALUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field<'a, const MAX: usize>(&'a str);

/// HOSTNAME (RFC 5424, section 6.2.4).
pub type Hostname<'a> = Field<'a, 255>;
/// APP-NAME (RFC 5424, section 6.2.5).
pub type AppName<'a> = Field<'a, 48>;
/// PROCID (RFC 5424, section 6.2.6).
pub type ProcId<'a> = Field<'a, 128>;
/// MSGID (RFC 5424, section 6.2.7).
pub type MsgId<'a> = Field<'a, 32>;

/// The reason why a text is not a valid header field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// The text has more characters than the field may have.
    #[error("has {length} characters, at most {max} are allowed")]
    TooLong {
        /// The length of the text in bytes.
        length: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// The text has a character that is not PRINTUSASCII (RFC 5424, section 6:
    /// %d33-126).
    #[error(
        "has the character {character:?} at byte {at}, only printable ASCII without spaces is allowed"
    )]
    NotPrintable {
        /// The character.
        character: char,
        /// The offset of the character in bytes.
        at: usize,
    },
}

/// A buffer for a field whose text must be changed to fit.
#[derive(Clone, Debug)]
pub struct Scratch<const MAX: usize>([u8; MAX]);

impl<const MAX: usize> Default for Scratch<MAX> {
    fn default() -> Self {
        Self([0; MAX])
    }
}

impl<'a, const MAX: usize> Field<'a, MAX> {
    /// The NILVALUE, written as `-`.
    pub const NIL: Self = Self("");

    /// The maximum number of characters.
    pub const MAX: usize = MAX;

    /// Returns the field with this text. An empty text becomes [`Field::NIL`].
    ///
    /// # Errors
    ///
    /// Returns an error if the text is longer than `MAX` or not printable ASCII.
    pub fn new(text: &'a str) -> Result<Self, FieldError> {
        if let Some((at, character)) = text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
            return Err(FieldError::NotPrintable { character, at });
        }
        if text.len() > MAX {
            return Err(FieldError::TooLong {
                length: text.len(),
                max: MAX,
            });
        }
        Ok(Self(text))
    }

    /// Returns the field that is closest to `text`: bytes that are not printable ASCII
    /// are replaced by `_`, and the text is truncated to `MAX`. The field borrows
    /// `text` if nothing is replaced, and `scratch` otherwise.
    pub fn fit(text: &'a [u8], scratch: &'a mut Scratch<MAX>) -> Self {
        Self::fit_with(text, scratch, |byte| byte.is_ascii_graphic(), b'_')
    }

    /// Like [`Field::fit`], but replaces each byte for which `keep` returns false by
    /// `replacement`. Bytes that are not printable ASCII are always replaced.
    pub fn fit_with(
        text: &'a [u8],
        scratch: &'a mut Scratch<MAX>,
        keep: impl Fn(u8) -> bool,
        replacement: u8,
    ) -> Self {
        debug_assert!(replacement.is_ascii_graphic());
        let keep = |byte: &u8| byte.is_ascii_graphic() && keep(*byte);
        let text = &text[..text.len().min(MAX)];
        let fitted = if text.iter().all(keep) {
            text
        } else {
            for (to, from) in scratch.0.iter_mut().zip(text) {
                *to = if keep(from) { *from } else { replacement };
            }
            &scratch.0[..text.len()]
        };
        Self(std::str::from_utf8(fitted).expect("all bytes are ASCII"))
    }

    /// Whether this is the NILVALUE.
    #[must_use]
    pub const fn is_nil(self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text, which is empty for the NILVALUE.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Appends the text, or `-` for the NILVALUE.
    pub fn encode(self, out: &mut Vec<u8>) {
        if self.is_nil() {
            out.push(b'-');
        } else {
            out.extend_from_slice(self.0.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_those_of_the_rfc() {
        assert_eq!(
            (Hostname::MAX, AppName::MAX, ProcId::MAX, MsgId::MAX),
            (255, 48, 128, 32)
        );
    }

    #[test]
    fn errors_state_the_value_and_the_limit() {
        let long = "x".repeat(33);
        assert_eq!(
            MsgId::new(&long).unwrap_err().to_string(),
            "has 33 characters, at most 32 are allowed"
        );
        assert!(matches!(
            MsgId::new("a b"),
            Err(FieldError::NotPrintable {
                character: ' ',
                at: 1
            })
        ));
    }

    #[test]
    fn the_empty_text_is_nil() {
        let mut out = Vec::new();
        Hostname::new("").unwrap().encode(&mut out);
        assert_eq!(out, b"-");
    }

    #[test]
    fn a_text_that_fits_is_borrowed() {
        let text = b"node-7.example";
        let mut scratch = Scratch::default();
        let field = Hostname::fit(text, &mut scratch);
        assert_eq!(field.as_str().as_ptr(), text.as_ptr());
    }

    proptest! {
        #[test]
        fn fitting_always_gives_a_valid_field(text: Vec<u8>) {
            let mut scratch = Scratch::default();
            let field = MsgId::fit(&text, &mut scratch);
            prop_assert_eq!(MsgId::new(field.as_str()), Ok(field));
            prop_assert_eq!(field.is_nil(), text.is_empty());
        }
    }
}
