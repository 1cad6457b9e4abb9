//! Splits a stream of bytes into frames (RFC 6587, section 3.4; RFC 5425, section 4.3).

use thiserror::Error;

/// Splits a stream into frames as its bytes arrive.
#[derive(Clone, Debug)]
pub struct Splitter {
    kind: Kind,
    max: usize,
    buffer: Vec<u8>,
    start: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    OctetCounting,
    Newline,
}

/// A framing error. The rest of the stream cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The frame does not start with MSG-LEN (NONZERO-DIGIT *DIGIT) and a space.
    #[error("MSG-LEN is a number without leading zeros and a space, not {0:?}")]
    Length(String),
    /// A frame is longer than the receiver accepts.
    #[error("a frame of more than {0} bytes")]
    TooLong(usize),
}

impl Splitter {
    /// `MSG-LEN SP SYSLOG-MSG`.
    #[must_use]
    pub const fn octet_counting(max: usize) -> Self {
        Self::new(Kind::OctetCounting, max)
    }

    /// `SYSLOG-MSG LF`.
    #[must_use]
    pub const fn newline(max: usize) -> Self {
        Self::new(Kind::Newline, max)
    }

    const fn new(kind: Kind, max: usize) -> Self {
        Self {
            kind,
            max,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns whether the buffer ends with an incomplete frame.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Returns the next complete frame, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the stream is not framed correctly.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FramingError> {
        let rest = &self.buffer[self.start..];
        let frame = match self.kind {
            Kind::OctetCounting => octet_counted(rest, self.max)?,
            Kind::Newline => line(rest, self.max)?,
        };
        let Some((skip, length, total)) = frame else {
            return Ok(None);
        };
        let at = self.start + skip;
        self.start += total;
        Ok(Some(&self.buffer[at..at + length]))
    }
}

/// The offset of the message, its length, and the length of its frame.
type Place = Option<(usize, usize, usize)>;

fn octet_counted(rest: &[u8], max: usize) -> Result<Place, FramingError> {
    /// The maximum number of digits of an accepted length.
    const DIGITS: usize = 10;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let wrong = || {
        let shown = &rest[..rest.len().min(DIGITS + 1)];
        FramingError::Length(String::from_utf8_lossy(shown).into_owned())
    };
    if digits > DIGITS || (digits > 0 && rest[0] == b'0') {
        return Err(wrong());
    }
    match rest.get(digits) {
        None => Ok(None),
        Some(b' ') if digits > 0 => {
            let length = std::str::from_utf8(&rest[..digits])
                .ok()
                .and_then(|text| text.parse::<usize>().ok())
                .ok_or_else(wrong)?;
            if length > max {
                return Err(FramingError::TooLong(max));
            }
            let total = digits + 1 + length;
            Ok((rest.len() >= total).then_some((digits + 1, length, total)))
        }
        Some(_) => Err(wrong()),
    }
}

fn line(rest: &[u8], max: usize) -> Result<Place, FramingError> {
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(length) if length <= max => Ok(Some((0, length, length + 1))),
        None if rest.len() <= max => Ok(None),
        _ => Err(FramingError::TooLong(max)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut splitter: Splitter, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut frames = Vec::new();
        for part in parts {
            splitter.push(part);
            while let Some(frame) = splitter.next_frame()? {
                frames.push(frame.to_vec());
            }
        }
        assert!(!splitter.unfinished());
        Ok(frames)
    }

    #[test]
    fn newline_framing_splits_at_line_feeds() {
        let frames = all(Splitter::newline(10), &[b"on", b"e\ntwo", b"\n\n"]).unwrap();
        assert_eq!(frames, [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
    }

    #[test]
    fn an_invalid_msg_len_is_rejected() {
        for wrong in [
            b"05 hello".as_slice(),
            b"5hello",
            b" hello",
            b"x",
            b"12345678901 x",
            b"<14>1",
        ] {
            let mut splitter = Splitter::octet_counting(100);
            splitter.push(wrong);
            assert!(
                matches!(splitter.next_frame(), Err(FramingError::Length(_))),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn frames_over_the_limit_are_rejected() {
        let mut splitter = Splitter::octet_counting(100);
        splitter.push(b"101 ");
        assert_eq!(splitter.next_frame(), Err(FramingError::TooLong(100)));
        let mut splitter = Splitter::newline(3);
        splitter.push(b"four");
        assert_eq!(splitter.next_frame(), Err(FramingError::TooLong(3)));
    }

    proptest! {
        #[test]
        fn the_frames_do_not_depend_on_how_the_stream_is_split(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
            size in 1_usize..50,
        ) {
            let stream: Vec<u8> = messages
                .iter()
                .flat_map(|m| [format!("{} ", m.len()).into_bytes(), m.clone()].concat())
                .collect();
            let parts: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(all(Splitter::octet_counting(300), &parts).unwrap(), messages);
        }
    }
}
