//! RELP frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`.

use std::io::Write;

use thiserror::Error;

use super::RelpError;

/// The maximum length of the data in a peer's frame in bytes. Responses usually have a
/// few hundred bytes; the limit bounds the memory that a peer can make the client use.
pub const MAX_DATA: usize = 64 * 1024;
/// The maximum number of digits of `TXNR` and `DATALEN`.
const MAX_DIGITS: usize = 9;
/// The maximum length of `COMMAND` in bytes.
const MAX_COMMAND: usize = 32;
/// The maximum length of a frame before the data: three words, each with a separator.
const MAX_HEAD: usize = 2 * (MAX_DIGITS + 1) + MAX_COMMAND + 1;

/// The reason why bytes are not a valid frame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The transaction number is invalid.
    #[error("a frame that begins with {0:?} has no transaction number")]
    Transaction(String),
    /// The command is invalid.
    #[error("invalid command {0:?}")]
    Command(String),
    /// The length of the data is invalid.
    #[error("invalid data length {0:?}")]
    Length(String),
    /// The data is longer than [`MAX_DATA`].
    #[error("a frame announces {0} bytes of data, at most {MAX_DATA} are allowed")]
    TooLong(usize),
    /// The line feed after the data is missing.
    #[error("a frame does not end with a line feed")]
    Trailer,
}

/// A frame, borrowed from the receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// TXNR.
    pub transaction: u32,
    /// COMMAND.
    pub command: &'b [u8],
    /// DATA.
    pub data: &'b [u8],
}

/// Appends a frame.
pub(super) fn push_frame(out: &mut Vec<u8>, transaction: u32, command: &str, data: &[u8]) {
    write!(out, "{transaction} {command} {}", data.len()).expect("a Vec takes everything");
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// Splits a stream of bytes into frames. Never holds more than one incomplete frame.
#[derive(Debug, Default)]
pub struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Adds bytes, and calls `on_frame` for each frame that is complete now.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a valid frame, or if `on_frame` returns
    /// one.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(&Frame<'_>) -> Result<(), RelpError>,
    ) -> Result<(), RelpError> {
        self.rest.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((frame, length)) = parse(&self.rest[used..])? {
            on_frame(&frame)?;
            used += length;
        }
        self.rest.drain(..used);
        Ok(())
    }
}

/// Returns the first frame of `bytes` and its length, or `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((transaction, rest)) = word(
        bytes,
        MAX_DIGITS,
        u8::is_ascii_digit,
        FrameError::Transaction,
    )?
    else {
        return Ok(None);
    };
    let transaction = number(transaction);
    let Some((command, rest)) = word(
        rest,
        MAX_COMMAND,
        u8::is_ascii_alphabetic,
        FrameError::Command,
    )?
    else {
        return Ok(None);
    };
    // In a frame without data, the line feed may directly follow the length.
    let digits = rest
        .iter()
        .take(MAX_DIGITS)
        .take_while(|byte| byte.is_ascii_digit());
    let end = digits.count();
    let length = match rest.get(end) {
        Some(b' ' | b'\n') if end > 0 => number(&rest[..end]) as usize,
        Some(_) => return Err(FrameError::Length(excerpt(rest))),
        None => return Ok(None),
    };
    if length > MAX_DATA {
        return Err(FrameError::TooLong(length));
    }
    let start = match (rest[end], length) {
        (b'\n', 0) => end,
        (b'\n', _) => return Err(FrameError::Trailer),
        _ => end + 1,
    };
    let Some(trailer) = rest.get(start + length) else {
        return Ok(None);
    };
    if *trailer != b'\n' {
        return Err(FrameError::Trailer);
    }
    let frame = Frame {
        transaction,
        command,
        data: &rest[start..start + length],
    };
    let head = bytes.len() - rest.len();
    debug_assert!(head + start <= MAX_HEAD);
    Ok(Some((frame, head + start + length + 1)))
}

/// A word, and the bytes after the space that ends the word.
type Word<'b> = (&'b [u8], &'b [u8]);

/// Returns the first word, or `None` if it may be incomplete.
fn word(
    bytes: &[u8],
    max: usize,
    allowed: fn(&u8) -> bool,
    error: impl FnOnce(String) -> FrameError,
) -> Result<Option<Word<'_>>, FrameError> {
    let length = bytes
        .iter()
        .take(max)
        .take_while(|byte| allowed(byte))
        .count();
    match bytes.get(length) {
        Some(b' ') if length > 0 => Ok(Some((&bytes[..length], &bytes[length + 1..]))),
        Some(_) => Err(error(excerpt(bytes))),
        None => Ok(None),
    }
}

/// Returns the value of at most nine digits.
fn number(digits: &[u8]) -> u32 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(MAX_COMMAND)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(u32, String, String)>;

    fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Read, RelpError> {
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(piece) {
            frames.push(piece, |frame| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                read.push((frame.transaction, text(frame.command), text(frame.data)));
                Ok(())
            })?;
            assert!(frames.rest.len() <= MAX_HEAD + MAX_DATA);
        }
        Ok(read)
    }

    #[test]
    fn written_frames_are_read_in_pieces_of_any_size() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, 1, "open", b"a=b\nc=d");
        push_frame(&mut bytes, 2, "close", b"");
        push_frame(&mut bytes, 999_999_999, "rsp", b" \n");
        assert_eq!(
            bytes,
            b"1 open 7 a=b\nc=d\n2 close 0\n999999999 rsp 2  \n\n"
        );
        let frame = |n, command: &str, data: &str| (n, command.to_owned(), data.to_owned());
        let expected = [
            frame(1, "open", "a=b\nc=d"),
            frame(2, "close", ""),
            frame(999_999_999, "rsp", " \n"),
        ];
        for piece in 1..=bytes.len() {
            assert_eq!(read_in_pieces(&bytes, piece).unwrap(), expected);
        }
    }

    #[test]
    fn an_empty_response_may_have_a_space() {
        let read = read_in_pieces(b"4 rsp 0 \n", 1).unwrap();
        assert_eq!(read, [(4, "rsp".to_owned(), String::new())]);
    }

    #[test]
    fn invalid_frames_are_rejected_as_early_as_possible() {
        let long = "9".repeat(100);
        for (bytes, expected) in [
            ("HTTP/1.1 400 Bad Request", "has no transaction number"),
            ("1234567890", "has no transaction number"),
            (" rsp 0\n", "has no transaction number"),
            ("-1 rsp 0\n", "has no transaction number"),
            ("1  0\n", "invalid command"),
            ("1 r5p 0\n", "invalid command"),
            ("1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "invalid command"),
            ("1 rsp \n", "invalid data length"),
            ("1 rsp x \n", "invalid data length"),
            (&format!("1 rsp {long}"), "invalid data length"),
            ("1 rsp 999999999 ", "999999999 bytes"),
            ("1 rsp 65537 ", "65537 bytes"),
            ("1 rsp 6\n", "does not end with a line feed"),
            ("1 rsp 6 200 OK!", "does not end with a line feed"),
            ("1 rsp 0 x", "does not end with a line feed"),
        ] {
            for piece in [1, bytes.len()] {
                let error = read_in_pieces(bytes.as_bytes(), piece).unwrap_err();
                assert!(error.to_string().contains(expected), "{bytes:?}: {error}");
            }
        }
    }

    #[test]
    fn an_incomplete_frame_is_not_an_error() {
        let bytes = b"12 rsp 6 200 OK\n";
        for length in 0..bytes.len() {
            assert_eq!(read_in_pieces(&bytes[..length], 3).unwrap(), []);
        }
    }
}
