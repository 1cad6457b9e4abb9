//! The log events of a chunk, in both formats of Fluent Bit:
//! `[[timestamp, metadata], body]` since version 2.1, `[timestamp, body]` before.
//!
//! Reading continues after damage. If a chunk cannot be read from some position on, the
//! reader searches for the next position at which a whole record with a time in Fluent
//! Bit's own form begins, so one damaged record does not lose the records after it.

use positions::Group;

use super::fields::{Fields, read_record};
use super::msgpack::{self, Map, Read, Value};

/// The time of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second, less than 1,000,000,000.
    pub nanos: u32,
}

/// An element of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogEvent<'a> {
    /// A log record.
    Record(Record<'a>),
    /// The start of a group of records (a resource or a scope of OpenTelemetry, a container),
    /// recognized by its negative time. It is not a log line.
    GroupStart(GroupMetadata<'a>),
    /// The end of a group.
    GroupEnd,
    /// Bytes that are not a valid event. The iterator continues with the next valid
    /// record.
    Damaged,
}

/// Returns whether a chunk begins with a group of the input that reads pod logs, which has all
/// records of the chunk then.
#[must_use]
pub fn is_of_pod_logs(chunk: &[u8]) -> bool {
    let first = LogEvents::new(chunk, b"").next();
    matches!(first, Some(LogEvent::GroupStart(metadata)) if metadata.place.is_some())
}

/// The metadata of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupMetadata<'a> {
    /// The container's identity, node and labels.
    pub kubernetes: Option<Map<'a>>,
    /// The place of the group in the container's log, if the input that reads pod logs made it.
    pub place: Option<Group<'a>>,
}

/// A log record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// The record's time, or `None` if its format is unknown.
    pub time: Option<Time>,
    /// The record's keys and values.
    pub body: Map<'a>,
    /// The values that messages are made from.
    pub fields: Fields<'a>,
}

/// An iterator over the log events of a chunk.
#[derive(Clone, Debug)]
pub struct LogEvents<'a, 'k> {
    chunk: &'a [u8],
    message_key: &'k [u8],
    /// The position of the next event in the chunk.
    next: usize,
    /// The `kubernetes` map of the previous record.
    previous: Option<Map<'a>>,
}

/// The number of seconds that Fluent Bit uses as the time of a group's start.
const GROUP_START: i32 = -1;
/// The number of seconds that Fluent Bit uses as the time of a group's end.
const GROUP_END: i32 = -2;

impl<'a, 'k> LogEvents<'a, 'k> {
    /// Returns an iterator over the events of a chunk. `message_key` is the key of a
    /// record's text.
    #[must_use]
    pub const fn new(chunk: &'a [u8], message_key: &'k [u8]) -> Self {
        Self {
            chunk,
            message_key,
            next: 0,
            previous: None,
        }
    }

    /// Reads the value at `start`, and returns it with the bytes after it. Returns
    /// `None` for the event if the value is not a valid event.
    #[inline]
    fn read(&self, start: usize) -> Read<'a, Option<LogEvent<'a>>> {
        let bytes = &self.chunk[start..];
        let (Value::Array(array), first) = msgpack::head(bytes)? else {
            return Ok((None, msgpack::skip(bytes)?));
        };
        if array.len() != 2 {
            return Ok((None, msgpack::skip(bytes)?));
        }
        let (header, after_head) = msgpack::head(first)?;
        let (time, second) = match header {
            Value::Array(header) if (1..=2).contains(&header.len()) => {
                (msgpack::head(after_head)?.0, msgpack::skip(first)?)
            }
            Value::Array(_) | Value::Map(_) => return Ok((None, msgpack::skip(bytes)?)),
            time => (time, after_head),
        };
        let (record, rest) = read_record(second, self.message_key, self.previous)?;
        let event = record.and_then(|(body, fields)| log_event(time, body, fields));
        match event {
            Some(LogEvent::GroupStart(_)) => {
                let metadata = group_metadata(header, after_head).unwrap_or_default();
                Ok((Some(LogEvent::GroupStart(metadata)), rest))
            }
            _ => Ok((event, rest)),
        }
    }

    /// Returns the first position, not before `from`, of a valid record whose time
    /// has the format that Fluent Bit itself writes.
    fn find_record(&self, from: usize) -> Option<usize> {
        /// The maximum number of positions to try. No chunk has more by accident;
        /// the limit bounds the search in a maliciously crafted chunk.
        const CANDIDATES: usize = 1000;
        /// The head of a time: an extension of type 0 with 8 bytes.
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

impl<'a> Iterator for LogEvents<'a, '_> {
    type Item = LogEvent<'a>;

    #[inline]
    fn next(&mut self) -> Option<LogEvent<'a>> {
        let start = self.next;
        if start == self.chunk.len() {
            return None;
        }
        let (event, end) = match self.read(start) {
            Ok((event, rest)) => (event, self.chunk.len() - rest.len()),
            Err(_) => (None, self.chunk.len()),
        };
        let Some(event) = event else {
            // With a corrupt length, the damaged event may include valid ones.
            self.next = self.find_record(start + 1).unwrap_or(end);
            return Some(LogEvent::Damaged);
        };
        if let LogEvent::Record(record) = event {
            self.previous = record.fields.container.kubernetes;
        }
        self.next = end;
        Some(event)
    }
}

/// Reads the metadata of a group, whose header is followed by these bytes.
#[cold]
fn group_metadata<'a>(header: Value<'_>, bytes: &'a [u8]) -> Option<GroupMetadata<'a>> {
    let Value::Array(header) = header else {
        return None;
    };
    let after_time = msgpack::skip(bytes).ok().filter(|_| header.len() == 2)?;
    let Value::Map(metadata) = msgpack::read(after_time).ok()?.0 else {
        return None;
    };
    let map = |key: &str| match metadata.get(key.as_bytes()) {
        Some(Value::Map(map)) => Some(map),
        _ => None,
    };
    let kubernetes = map("kubernetes");
    Some(GroupMetadata {
        kubernetes,
        place: kubernetes
            .zip(map(positions::KEY))
            .and_then(|(kubernetes, place)| group_place(kubernetes, place)),
    })
}

fn group_place<'a>(kubernetes: Map<'a>, place: Map<'a>) -> Option<Group<'a>> {
    let text = |map: Map<'a>, key: &str| match map.get(key.as_bytes())? {
        Value::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let number = |key: &str| match place.get(key.as_bytes())? {
        Value::Unsigned(number) => Some(number),
        _ => None,
    };
    Some(Group {
        uid: text(kubernetes, "pod_id")?,
        container: text(kubernetes, "container_name")?,
        begin: number("begin")?,
        from: number("from")?,
        to: number("to")?,
        position: text(place, "position")?,
        is_last: place.get(b"last") == Some(Value::Bool(true)),
    })
}

#[inline]
fn log_event<'a>(time: Value<'_>, body: Map<'a>, fields: Fields<'a>) -> Option<LogEvent<'a>> {
    let time = match event_time(time) {
        EventTime::Known(time) => Some(time),
        EventTime::Unknown => None,
        EventTime::GroupStart => return Some(LogEvent::GroupStart(GroupMetadata::default())),
        EventTime::GroupEnd => return Some(LogEvent::GroupEnd),
        EventTime::Invalid => return None,
    };
    Some(LogEvent::Record(Record { time, body, fields }))
}

/// The meaning of the value at the position of an event's time.
enum EventTime {
    Known(Time),
    GroupStart,
    GroupEnd,
    /// An unknown format: the event is a record without a time.
    Unknown,
    /// A type that no time has: the event is damaged.
    Invalid,
}

#[inline]
fn event_time(value: Value<'_>) -> EventTime {
    match value {
        Value::Ext(0, data) => match *data {
            [s1, s2, s3, s4, n1, n2, n3, n4] => {
                let seconds = u32::from_be_bytes([s1, s2, s3, s4]);
                let nanos = u32::from_be_bytes([n1, n2, n3, n4]);
                match seconds as i32 {
                    GROUP_START => EventTime::GroupStart,
                    GROUP_END => EventTime::GroupEnd,
                    // Other values with the highest bit set are times from 2038 to
                    // 2106, not negative times.
                    _ if nanos < 1_000_000_000 => EventTime::Known(Time {
                        seconds: seconds.into(),
                        nanos,
                    }),
                    _ => EventTime::Unknown,
                }
            }
            _ => EventTime::Unknown,
        },
        Value::Unsigned(seconds) => i64::try_from(seconds).map_or(EventTime::Unknown, |seconds| {
            EventTime::Known(Time { seconds, nanos: 0 })
        }),
        // No log line has a time before 1970.
        Value::Negative(seconds) if seconds == i64::from(GROUP_START) => EventTime::GroupStart,
        Value::Negative(_) => EventTime::GroupEnd,
        Value::Float(seconds) if seconds < 0.0 => EventTime::GroupEnd,
        // For current times, an f64 is precise to about a microsecond. Truncating
        // instead of rounding would be off by one microsecond at times.
        Value::Float(seconds) if seconds.is_finite() && seconds < 1e15 => {
            let micros = ((seconds - seconds.floor()) * 1e6).round() as u32;
            EventTime::Known(Time {
                seconds: seconds.floor() as i64 + i64::from(micros / 1_000_000),
                nanos: micros % 1_000_000 * 1000,
            })
        }
        Value::Float(_) | Value::Nil | Value::Ext(..) => EventTime::Unknown,
        Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Map(_) => EventTime::Invalid,
    }
}

#[cfg(test)]
mod tests;
