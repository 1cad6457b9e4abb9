//! PEM texts (RFC 7468): repairs unambiguous mistakes, and describes other problems.

use std::borrow::Cow;
use std::fmt;

use rustls::pki_types::pem::Error;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Reader, SliceReader, Tag, Tagged};

/// The byte order mark in UTF-8. Some editors put it at the start of a text, and `cat`
/// then moves it into the middle.
const MARK: &[u8] = b"\xEF\xBB\xBF";
const BEGIN: &[u8] = b"-----BEGIN ";
const LABEL_END: &[u8] = b"-----";

/// A binary format of certificates and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// DER.
    Der,
    /// PKCS #12, also called PFX.
    Pkcs12,
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Der => "DER",
            Self::Pkcs12 => "PKCS #12",
        })
    }
}

impl Binary {
    /// Returns the OpenSSL command that converts this format to PEM.
    pub(super) fn command(self, wanted: &str) -> &'static str {
        match (self, wanted) {
            (Self::Der, "certificate") => "openssl x509 -inform der -in FILE -out NEW",
            (Self::Der, _) => "openssl pkey -inform der -in FILE -out NEW",
            (Self::Pkcs12, "certificate") => "openssl pkcs12 -nokeys -in FILE -out NEW",
            (Self::Pkcs12, _) => "openssl pkcs12 -nocerts -noenc -in FILE -out NEW",
        }
    }
}

/// Converts a text to UTF-8 without byte order marks, with each block on a new line.
pub(super) fn repair(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let bytes = match &bytes[..] {
        [0xFF, 0xFE, units @ ..] => Cow::Owned(utf16(units, u16::from_le_bytes)),
        [0xFE, 0xFF, units @ ..] => Cow::Owned(utf16(units, u16::from_be_bytes)),
        _ => bytes,
    };
    let bytes = if find(&bytes, MARK).is_some() {
        Cow::Owned(replace(&bytes, MARK, b""))
    } else {
        bytes
    };
    // The result of `cat` if a file does not end with a line feed.
    let glued = [LABEL_END, BEGIN].concat();
    if find(&bytes, &glued).is_some() {
        return Cow::Owned(replace(&bytes, &glued, &[LABEL_END, b"\n", BEGIN].concat()));
    }
    bytes
}

fn utf16(units: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = units.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units)
        .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.into_bytes()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn replace(mut text: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    while let Some(at) = find(text, part) {
        replaced.extend_from_slice(&text[..at]);
        replaced.extend_from_slice(by);
        text = &text[at + part.len()..];
    }
    replaced.extend_from_slice(text);
    replaced
}

/// Detects a binary format. Returns None for text.
pub(super) fn binary(bytes: &[u8]) -> Option<Binary> {
    let whole = AnyRef::from_der(bytes).ok()?;
    if whole.tag() != Tag::Sequence {
        return None;
    }
    // PFX ::= SEQUENCE { version INTEGER {v3(3)}, ... (RFC 7292, section 4)
    let version = SliceReader::new(whole.value()).and_then(|mut reader| reader.decode::<u8>());
    Some(match version {
        Ok(3) => Binary::Pkcs12,
        _ => Binary::Der,
    })
}

/// Returns the labels of the blocks in the text, such as `CERTIFICATE`.
fn all_labels(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.filter_map(|line| {
        let label = line.strip_prefix(BEGIN)?;
        Some(&label[..find(label, LABEL_END)?])
    })
}

/// Returns up to five distinct labels, quoted for an error. Empty if there are none.
pub(super) fn labels(text: &[u8]) -> String {
    let mut labels: Vec<String> = Vec::new();
    for label in all_labels(text) {
        let label = format!("{:?}", String::from_utf8_lossy(label));
        if !labels.contains(&label) && labels.len() < 5 {
            labels.push(label);
        }
    }
    labels.join(", ")
}

/// Returns whether the text contains an encrypted key, in the format of PKCS #8 or with
/// the older headers of RFC 1421.
pub(super) fn holds_encrypted_key(text: &[u8]) -> bool {
    all_labels(text).any(|label| label == b"ENCRYPTED PRIVATE KEY")
        || find(text, b"Proc-Type: 4,ENCRYPTED").is_some()
}

/// Describes why a text with blocks is invalid. The text itself is left out, as it may
/// contain a key.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => format!(
            "the line -----END {}----- is missing",
            String::from_utf8_lossy(end_marker).escape_debug()
        ),
        Error::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end with -----".to_owned()
        }
        Error::Base64Decode(_) => "a block is not valid Base64".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &[u8] = b"-----BEGIN X-----\nAAAA\n-----END X-----\n";

    fn repaired(bytes: &[u8]) -> Vec<u8> {
        repair(Cow::Borrowed(bytes)).into_owned()
    }

    #[test]
    fn a_valid_text_is_not_copied() {
        assert!(matches!(repair(Cow::Borrowed(PEM)), Cow::Borrowed(PEM)));
    }

    #[test]
    fn byte_order_marks_and_utf_16_are_converted() {
        assert_eq!(
            repaired(&[MARK, PEM, MARK, PEM].concat()),
            [PEM, PEM].concat()
        );
        let text = std::str::from_utf8(PEM).unwrap();
        let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        assert_eq!(repaired(&little), PEM);
        assert_eq!(repaired(&big), PEM);
        // An incomplete unit at the end is left out.
        assert_eq!(repaired(&little[..little.len() - 1]), PEM[..PEM.len() - 1]);
    }

    #[test]
    fn blocks_without_a_line_feed_between_them_are_separated() {
        let glued = [PEM.trim_ascii_end(), PEM.trim_ascii_end(), PEM].concat();
        assert_eq!(repaired(&glued), [PEM, PEM, PEM].concat());
    }

    #[test]
    fn labels_are_escaped_and_listed_once() {
        assert_eq!(labels(PEM), r#""X""#);
        let text =
            b"-----BEGIN A\x1b[1m-----\n-----BEGIN X-----\n-----BEGIN X-----\n x -----BEGIN Y-----";
        assert_eq!(labels(text), r#""A\u{1b}[1m", "X""#);
        assert_eq!(labels(b"nothing"), "");
    }
}
