//! The lines of a log file, as container runtimes write them.
//!
//! ```text
//! CRI (containerd, CRI-O)   2026-03-01T12:00:00.123456789Z stdout F hello
//! json-file (Docker)        {"log":"hello\n","stream":"stdout","time":"2026-03-01T12:00:00.1Z"}
//! ```
//!
//! A runtime writes a long line of a container in parts of 16 KiB. In CRI each part but the
//! last has the tag `P` instead of `F`; in json-file only the last one ends with a line feed.

use std::borrow::Cow;

use serde::Deserialize;

/// A line of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The time at which the runtime read the line from the container.
    pub time: Time,
    /// The stream of the container.
    pub stream: Stream,
    /// Whether the container's line continues in the next line of this stream.
    pub is_partial: bool,
    /// The text, without a line feed at its end. Runtimes do not change invalid UTF-8 in CRI.
    pub text: Cow<'a, [u8]>,
}

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// The seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// The nanoseconds within the second.
    pub nanos: u32,
}

/// An output stream of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of Docker's json-file driver. It may have other keys, such as `attrs`.
#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// Parses a line without its line feed. Returns `None` for any other text, such as a line
    /// that was cut off when the machine stopped.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        match line.first()? {
            b'{' => Self::parse_json(line),
            _ => Self::parse_cri(line),
        }
    }

    fn parse_cri(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = split(line)?;
        let (stream, rest) = split(rest)?;
        // Tags are separated by colons, and the first is P or F. An empty text may lack the
        // space before it.
        let (tags, text) = split(rest).unwrap_or((rest, b""));
        let is_partial = match tags.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self {
            time: Time::parse(time)?,
            stream: Stream::parse(stream)?,
            is_partial,
            text: Cow::Borrowed(text),
        })
    }

    fn parse_json(line: &'a [u8]) -> Option<Self> {
        let JsonLine { log, stream, time } = serde_json::from_slice(line).ok()?;
        let is_partial = !log.ends_with('\n');
        let text = match log {
            Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('\n').unwrap_or(text)),
            Cow::Owned(mut text) => {
                text.truncate(text.len() - usize::from(!is_partial));
                Cow::Owned(text)
            }
        };
        Some(Self {
            time: Time::parse(time.as_bytes())?,
            stream: Stream::parse(stream.as_bytes())?,
            is_partial,
            text: match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        })
    }
}

/// Splits a text at its first space.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text)?;
    Some((&text[..at], &text[at + 1..]))
}

impl Stream {
    fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }

    /// Returns the stream's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Time {
    /// Parses an RFC 3339 time with up to nine digits of a second's fraction and any offset:
    /// CRI-O writes the node's local time.
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(19)?;
        let separators = [head[4], head[7], head[10], head[13], head[16]];
        if separators != *b"--T::" {
            return None;
        }
        let [year, month, day] = [
            number(&head[..4])?,
            number(&head[5..7])?,
            number(&head[8..10])?,
        ];
        let [hour, minute, second] = [
            number(&head[11..13])?,
            number(&head[14..16])?,
            number(&head[17..])?,
        ];
        // A leap second is 60.
        let is_valid = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !is_valid {
            return None;
        }
        let (nanos, zone) = fraction(rest)?;
        let local = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self {
            seconds: local - offset(zone)?,
            nanos,
        })
    }
}

/// Returns the value of decimal digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some(value * 10 + i64::from(digit))
    })
}

/// Parses the fraction of a second, if there is one. Returns the nanoseconds and the rest.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let value = number(&rest[..length])? as u32;
    Some((value * 10_u32.pow(9 - length as u32), &rest[length..]))
}

/// Returns the offset of a time zone in seconds.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, time) = match zone {
        b"Z" => return Some(0),
        [b'+', time @ ..] => (1, time),
        [b'-', time @ ..] => (-1, time),
        _ => return None,
    };
    let [h1, h2, b':', m1, m2] = *time else {
        return None;
    };
    Some(sign * (number(&[h1, h2])? * 3600 + number(&[m1, m2])? * 60))
}

/// Returns the days since 1970-01-01 in the Gregorian calendar. The year begins with March, so
/// that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Line<'_>> {
        Line::parse(line.as_bytes())
    }

    #[test]
    fn cri_lines() {
        let line = parse("2026-03-01T12:00:00.123456789Z stdout F hello  world").unwrap();
        assert_eq!(line.text, &b"hello  world"[..]);
        assert_eq!((line.stream, line.is_partial), (Stream::Stdout, false));
        let time = Time {
            seconds: 1_772_366_400,
            nanos: 123_456_789,
        };
        assert_eq!(line.time, time);
        let part = parse("2026-03-01T13:00:00.5+01:00 stderr P:x a").unwrap();
        assert_eq!((part.stream, part.is_partial), (Stream::Stderr, true));
        assert_eq!(
            (part.time.seconds, part.time.nanos),
            (time.seconds, 500_000_000)
        );
        for empty in [
            "2026-03-01T12:00:00Z stdout F ",
            "2026-03-01T12:00:00Z stdout F",
        ] {
            assert_eq!(parse(empty).unwrap().text, &b""[..]);
        }
    }

    #[test]
    fn json_file_lines() {
        let line = r#"{"log":"a\tb\n","stream":"stderr","attrs":{"tag":"x"},"time":"2026-03-01T12:00:00.1Z"}"#;
        let line = parse(line).unwrap();
        assert_eq!(line.text, &b"a\tb"[..]);
        assert_eq!((line.stream, line.is_partial), (Stream::Stderr, false));
        let part = r#"{"log":"a","stream":"stdout","time":"2026-03-01T12:00:00Z"}"#;
        let part = parse(part).unwrap();
        assert!(part.is_partial && matches!(part.text, Cow::Borrowed(b"a")));
    }

    #[test]
    fn other_texts_are_not_lines() {
        for line in [
            "",
            "hello",
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00Z stdout",
            "2026-03-01T12:00:00Z stdin F x",
            "2026-03-01T12:00:00Z stdout X x",
            "2026-03-01T12:00:00 stdout F x",
            "2026-13-01T12:00:00Z stdout F x",
            "2026-03-01T24:00:00Z stdout F x",
            "2026-03-01T12:00:00.Z stdout F x",
            "2026-03-01T12:00:00.1234567890Z stdout F x",
            "2026-03-01T12:00:00+1:00 stdout F x",
            r#"{"log":"x\n","stream":"stdout"}"#,
            r#"{"log":"x\n","#,
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    /// Days of well-known dates, and each day of a span with leap years.
    #[test]
    fn days_follow_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1969, 12, 31), -1);
        let mut expected = days(1896, 1, 1);
        for year in 1896..=2104 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for month in 1..=12 {
                let last = match month {
                    2 if is_leap => 29,
                    2 => 28,
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                for day in 1..=last {
                    assert_eq!(days(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }
}
