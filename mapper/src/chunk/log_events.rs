//! The events of a chunk, in both of Fluent Bit's formats:
//! `[[timestamp, metadata], body]` since 2.1, `[timestamp, body]` before.

use super::fields::{Fields, read_record};
use super::msgpack::{self, Map, Read, Value};

/// When a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds after them.
    pub nanos: u32,
}

/// One element of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogEvent<'a> {
    /// A log record.
    Record(Record<'a>),
    /// The start or the end of a group (OpenTelemetry's resources and scopes),
    /// told by a negative time: not a log line.
    GroupMarker,
    /// Something that cannot be read. The iterator goes on with the next event
    /// that is whole.
    Damaged,
}

/// A log record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// When it was made; missing where the time is of no known form.
    pub time: Option<Time>,
    /// Its keys and values.
    pub body: Map<'a>,
    /// Those that messages are made of.
    pub fields: Fields<'a>,
}

/// Reads the events of a chunk.
#[derive(Clone, Debug)]
pub struct LogEvents<'a> {
    chunk: &'a [u8],
    message_key: &'a [u8],
    /// Where the next event begins.
    next: usize,
    /// The `kubernetes` map of the record given last.
    known: Option<Map<'a>>,
}

/// Fluent Bit marks groups by these seconds in the place of a time.
const GROUP_START: i32 = -1;
const GROUP_END: i32 = -2;

impl<'a> LogEvents<'a> {
    /// The events of a chunk's bytes, in whose records this key is the text's.
    #[must_use]
    pub const fn new(chunk: &'a [u8], message_key: &'a [u8]) -> Self {
        Self {
            chunk,
            message_key,
            next: 0,
            known: None,
        }
    }

    /// Reads the value at `start`, which is an event or not, and gives what
    /// follows it.
    #[inline]
    fn read(&self, start: usize) -> Read<'a, Option<LogEvent<'a>>> {
        let bytes = &self.chunk[start..];
        let (Value::Array(array), first) = msgpack::head(bytes)? else {
            return Ok((None, msgpack::skip(bytes)?));
        };
        if array.len() != 2 {
            return Ok((None, msgpack::skip(bytes)?));
        }
        let (head, in_head) = msgpack::head(first)?;
        let (time, second) = match head {
            Value::Array(head) if (1..=2).contains(&head.len()) => {
                (msgpack::head(in_head)?.0, msgpack::skip(first)?)
            }
            Value::Array(_) | Value::Map(_) => return Ok((None, msgpack::skip(bytes)?)),
            time => (time, in_head),
        };
        let (record, rest) = read_record(second, self.message_key, self.known)?;
        let event = record.and_then(|(body, fields)| event(time, body, fields));
        Ok((event, rest))
    }

    /// The first place, not before `from`, at which a whole record begins that
    /// has a time in the form that Fluent Bit itself writes.
    fn search(&self, from: usize) -> Option<usize> {
        /// More than any chunk has by accident; one that is made to have more
        /// is given up, so that the search ends.
        const CANDIDATES: usize = 1000;
        /// The head of the time: an extension of 8 bytes and type 0.
        const TIME: &[u8] = &[0xd7, 0x00];
        const ARRAY_OF_TWO: u8 = 0x92;

        memchr::memmem::find_iter(self.chunk.get(from..)?, TIME)
            .take(CANDIDATES)
            .filter_map(|at| match self.chunk[..from + at] {
                [.., ARRAY_OF_TWO, ARRAY_OF_TWO] => Some(from + at - 2),
                [.., ARRAY_OF_TWO] => Some(from + at - 1),
                _ => None,
            })
            .filter(|start| *start >= from)
            .find(|start| matches!(self.read(*start), Ok((Some(LogEvent::Record(_)), _))))
    }
}

impl<'a> Iterator for LogEvents<'a> {
    type Item = LogEvent<'a>;

    #[inline]
    fn next(&mut self) -> Option<LogEvent<'a>> {
        let start = self.next;
        if start == self.chunk.len() {
            return None;
        }
        let (event, behind) = match self.read(start) {
            Ok((event, rest)) => (event, self.chunk.len() - rest.len()),
            Err(_) => (None, self.chunk.len()),
        };
        let Some(event) = event else {
            // A wrong length may have made it swallow events that are whole.
            self.next = self.search(start + 1).unwrap_or(behind);
            return Some(LogEvent::Damaged);
        };
        if let LogEvent::Record(record) = event {
            self.known = record.fields.metadata.kubernetes;
        }
        self.next = behind;
        Some(event)
    }
}

#[inline]
fn event<'a>(time: Value<'_>, body: Map<'a>, fields: Fields<'a>) -> Option<LogEvent<'a>> {
    let time = match timestamp(time) {
        Timestamp::At(time) => Some(time),
        Timestamp::Unknown => None,
        Timestamp::GroupMarker => return Some(LogEvent::GroupMarker),
        Timestamp::Wrong => return None,
    };
    Some(LogEvent::Record(Record { time, body, fields }))
}

enum Timestamp {
    At(Time),
    GroupMarker,
    /// No time, but the record is one.
    Unknown,
    /// Something that never stands in the place of a time.
    Wrong,
}

#[inline]
fn timestamp(value: Value<'_>) -> Timestamp {
    match value {
        Value::Ext(0, data) => match *data {
            [s1, s2, s3, s4, n1, n2, n3, n4] => {
                let seconds = u32::from_be_bytes([s1, s2, s3, s4]);
                let nanos = u32::from_be_bytes([n1, n2, n3, n4]);
                match seconds as i32 {
                    GROUP_START | GROUP_END => Timestamp::GroupMarker,
                    // Seconds are unsigned up to the year 2106; what would be
                    // negative before 2038 is not told from what is late.
                    _ if nanos < 1_000_000_000 => Timestamp::At(Time {
                        seconds: seconds.into(),
                        nanos,
                    }),
                    _ => Timestamp::Unknown,
                }
            }
            _ => Timestamp::Unknown,
        },
        Value::Unsigned(seconds) => i64::try_from(seconds).map_or(Timestamp::Unknown, |seconds| {
            Timestamp::At(Time { seconds, nanos: 0 })
        }),
        // Group markers; other times before 1970 belong to no log line.
        Value::Negative(_) => Timestamp::GroupMarker,
        Value::Float(seconds) if seconds < 0.0 => Timestamp::GroupMarker,
        // Exact to the microsecond, which is how precise such a number is today;
        // to cut it off would lose one.
        Value::Float(seconds) if seconds.is_finite() && seconds < 1e15 => {
            let micros = ((seconds - seconds.floor()) * 1e6).round() as u32;
            Timestamp::At(Time {
                seconds: seconds.floor() as i64 + i64::from(micros / 1_000_000),
                nanos: micros % 1_000_000 * 1000,
            })
        }
        Value::Float(_) | Value::Nil | Value::Ext(..) => Timestamp::Unknown,
        Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Map(_) => Timestamp::Wrong,
    }
}

#[cfg(test)]
mod tests;
