//! STRUCTURED-DATA (RFC 5424, section 6.3).

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;
use thiserror::Error;

use crate::text::REPLACEMENT;

/// A name of at most `MAX` printable ASCII characters without `=`, `]` and `"`
/// (SD-NAME, RFC 5424, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name<'a, const MAX: usize>(&'a str);

/// PARAM-NAME (RFC 5424, section 6.3.3).
pub type SdName<'a> = Name<'a, 32>;

/// SD-ID (RFC 5424, section 6.3.2). It may be longer than the 32 characters of RFC 5424
/// ([`SdId::is_longer_than_rfc_5424`]), because some services expect a token there.
pub type SdId<'a> = Name<'a, 128>;

/// An [`SdName`] that owns its text.
pub type SdNameBuf = NameBuf<{ SdName::MAX }>;

/// An [`SdId`] that owns its text.
pub type SdIdBuf = NameBuf<{ SdId::MAX }>;

/// The reason why a text cannot be a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdNameError {
    /// The name is empty.
    #[error("is empty")]
    Empty,
    /// The name has more characters than allowed.
    #[error("has {length} characters, at most {max} are allowed")]
    TooLong {
        /// The number of characters.
        length: usize,
        /// The maximum number of characters.
        max: usize,
    },
    /// The name has a character that SD-NAME excludes.
    #[error(
        "has the character {0:?}, allowed is printable ASCII without spaces, '=', ']' and '\"'"
    )]
    Character(char),
}

impl<'a, const MAX: usize> Name<'a, MAX> {
    /// The maximum number of characters.
    pub const MAX: usize = MAX;

    /// Returns the name with this text.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is empty, longer than `MAX`, or has a character
    /// that SD-NAME (RFC 5424, section 6) excludes.
    pub fn new(text: &'a str) -> Result<Self, SdNameError> {
        // Only ASCII is allowed, so checking the bytes is enough.
        if !text.bytes().all(|byte| Self::allows(char::from(byte))) {
            let character = text.chars().find(|character| !Self::allows(*character));
            return Err(SdNameError::Character(character.unwrap_or_default()));
        }
        match text.len() {
            0 => Err(SdNameError::Empty),
            length if length > MAX => Err(SdNameError::TooLong { length, max: MAX }),
            _ => Ok(Self(text)),
        }
    }

    /// Returns a name known at compile time. In a constant, an invalid name fails to
    /// compile.
    ///
    /// # Panics
    ///
    /// Panics if [`Name::new`] would return an error.
    #[must_use]
    pub const fn literal(text: &'static str) -> Name<'static, MAX> {
        let bytes = text.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= MAX);
        let mut at = 0;
        while at < bytes.len() {
            assert!(Self::allows(bytes[at] as char));
            at += 1;
        }
        Name(text)
    }

    /// Whether a name may contain this character.
    #[must_use]
    pub const fn allows(character: char) -> bool {
        character.is_ascii_graphic() && !matches!(character, '=' | ']' | '"')
    }

    /// Returns the text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl SdId<'_> {
    /// The maximum number of characters by RFC 5424 (section 6, SD-NAME).
    pub const RFC_5424_MAX: usize = 32;

    /// Whether a receiver that enforces RFC 5424 may reject this SD-ID.
    #[must_use]
    pub const fn is_longer_than_rfc_5424(self) -> bool {
        self.0.len() > Self::RFC_5424_MAX
    }
}

/// A [`Name`] that owns its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameBuf<const MAX: usize> {
    text: [u8; MAX],
    len: u8,
}

impl<const MAX: usize> NameBuf<MAX> {
    /// Returns the name.
    #[must_use]
    pub fn as_name(&self) -> Name<'_, MAX> {
        let text = &self.text[..usize::from(self.len)];
        Name(std::str::from_utf8(text).expect("an SD-NAME is ASCII"))
    }
}

impl<const MAX: usize> From<Name<'_, MAX>> for NameBuf<MAX> {
    fn from(name: Name<'_, MAX>) -> Self {
        const { assert!(MAX <= u8::MAX as usize) };
        let mut text = [0; MAX];
        text[..name.0.len()].copy_from_slice(name.0.as_bytes());
        Self {
            text,
            len: name.0.len() as u8,
        }
    }
}

impl<const MAX: usize> fmt::Debug for Name<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// An SD-ID occurs more than once in a message, which RFC 5424, section 6.3.2, forbids.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the message has structured data {0:?} already")]
pub struct DuplicateSdId(String);

/// Writes STRUCTURED-DATA and the space before it.
#[derive(Debug)]
pub struct StructuredData<'b> {
    out: &'b mut Vec<u8>,
    /// The ranges in `out` of the SD-IDs that were written.
    ids: SmallVec<[Range<usize>; 4]>,
}

impl<'b> StructuredData<'b> {
    /// Begins the structured data after the header in `out`.
    pub fn begin(out: &'b mut Vec<u8>) -> Self {
        out.push(b' ');
        Self {
            out,
            ids: SmallVec::new(),
        }
    }

    /// Begins an element.
    ///
    /// # Errors
    ///
    /// Returns an error if there is already an element with this SD-ID. Nothing is
    /// written then.
    pub fn element(&mut self, id: SdId<'_>) -> Result<Element<'_>, DuplicateSdId> {
        let id = id.as_str();
        if self
            .ids
            .iter()
            .any(|range| &self.out[range.clone()] == id.as_bytes())
        {
            return Err(DuplicateSdId(id.to_owned()));
        }
        self.out.push(b'[');
        let start = self.out.len();
        self.out.extend_from_slice(id.as_bytes());
        self.ids.push(start..self.out.len());
        Ok(Element { out: self.out })
    }

    /// Ends the structured data. Without elements, the NILVALUE `-` is written.
    pub fn finish(self) {
        if self.ids.is_empty() {
            self.out.push(b'-');
        }
    }
}

/// Writes an SD-ELEMENT. Dropping the value ends the element.
#[derive(Debug)]
pub struct Element<'b> {
    out: &'b mut Vec<u8>,
}

impl Element<'_> {
    /// Appends a parameter. In `value`, invalid UTF-8 is replaced, and `"`, `\` and `]`
    /// are escaped (RFC 5424, section 6.3.3). Control characters become spaces, because
    /// receivers that escape them may truncate the longer text.
    pub fn param(&mut self, name: SdName<'_>, value: &[u8]) {
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_str().as_bytes());
        self.out.extend_from_slice(b"=\"");
        let start = self.out.len();
        if std::str::from_utf8(value).is_ok() {
            push_escaped(self.out, value);
        } else {
            for chunk in value.utf8_chunks() {
                push_escaped(self.out, chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    self.out.extend_from_slice(REPLACEMENT.as_bytes());
                }
            }
        }
        for byte in &mut self.out[start..] {
            if byte.is_ascii_control() {
                *byte = b' ';
            }
        }
        self.out.push(b'"');
    }

    /// Appends a parameter like [`Element::param`], unless this would make the buffer
    /// longer than `limit` bytes. Returns whether the parameter was written.
    #[must_use]
    pub fn param_within(&mut self, name: SdName<'_>, value: &[u8], limit: usize) -> bool {
        let start = self.out.len();
        // A value that is too long even without escapes is not copied at all.
        if start + value.len() < limit {
            self.param(name, value);
            if self.out.len() <= limit {
                return true;
            }
            self.out.truncate(start);
        }
        false
    }
}

impl Drop for Element<'_> {
    fn drop(&mut self) {
        self.out.push(b']');
    }
}

fn push_escaped(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = memchr::memchr3(b'"', b'\\', b']', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SdName<'_> {
        SdName::new(text).unwrap()
    }

    fn id(text: &str) -> SdId<'_> {
        SdId::new(text).unwrap()
    }

    #[test]
    fn names_follow_the_rfc() {
        assert!(SdName::new("exampleSDID@32473").is_ok());
        assert_eq!(SdName::new(""), Err(SdNameError::Empty));
        let error = SdName::new(&"x".repeat(33)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "has 33 characters, at most 32 are allowed"
        );
        for character in ['=', ' ', ']', '"', '\n', 'é', '\u{7f}'] {
            let text = format!("a{character}");
            assert_eq!(SdName::new(&text), Err(SdNameError::Character(character)));
        }
    }

    #[test]
    fn an_id_may_be_longer_than_the_rfc_allows() {
        let text = "x".repeat(129);
        let longer = |length: usize| id(&text[..length]).is_longer_than_rfc_5424();
        assert_eq!([32, 33, 128].map(longer), [false, true, true]);
        let error = SdNameError::TooLong {
            length: 129,
            max: 128,
        };
        assert_eq!(SdId::new(&text), Err(error));
    }

    #[test]
    fn no_element_is_nil() {
        let mut out = Vec::new();
        StructuredData::begin(&mut out).finish();
        assert_eq!(out, b" -");
    }

    #[test]
    fn values_are_escaped() {
        let mut out = Vec::new();
        let mut data = StructuredData::begin(&mut out);
        data.element(id("a"))
            .unwrap()
            .param(name("k"), b"q\"b\\c]\n\xff");
        data.finish();
        assert_eq!(out, " [a k=\"q\\\"b\\\\c\\] \u{FFFD}\"]".as_bytes());
    }

    #[test]
    fn a_duplicate_id_is_rejected() {
        let mut out = Vec::new();
        let mut data = StructuredData::begin(&mut out);
        drop(data.element(id("a")).unwrap());
        drop(data.element(id("ab")).unwrap());
        assert_eq!(
            data.element(id("a")).unwrap_err().to_string(),
            "the message has structured data \"a\" already"
        );
        data.finish();
        assert_eq!(out, b" [a][ab]");
    }

    #[test]
    fn a_parameter_that_does_not_fit_is_left_out() {
        let mut out = Vec::new();
        let mut data = StructuredData::begin(&mut out);
        let mut element = data.element(id("a")).unwrap();
        assert!(element.param_within(name("k"), b"1", 9));
        assert!(!element.param_within(name("k"), b"]]", 14));
        assert!(!element.param_within(name("k"), b"1", 9));
        drop(element);
        data.finish();
        assert_eq!(out, b" [a k=\"1\"]");
    }
}
