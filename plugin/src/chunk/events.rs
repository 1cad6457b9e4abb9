//! The events of a chunk, in both of Fluent Bit's formats:
//! `[[timestamp, metadata], body]` since 2.1, `[timestamp, body]` before.

use super::msgpack::{self, Malformed, Map, Value};

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
pub enum Event<'a> {
    /// A log record. The time is missing where it is of no known form.
    Record {
        /// When it was made.
        time: Option<Time>,
        /// Its keys and values.
        body: Map<'a>,
    },
    /// The start or the end of a group (OpenTelemetry's resources and scopes),
    /// told by a negative time: not a log line.
    GroupMarker,
    /// Something that cannot be read. The iterator goes on with the next event
    /// that is whole.
    Damaged,
}

/// Reads the events of a chunk.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    chunk: &'a [u8],
    /// Where the next event begins.
    next: usize,
    /// Where the event given last begins.
    last: usize,
}

/// Fluent Bit marks groups by these seconds in the place of a time.
const GROUP_START: i32 = -1;
const GROUP_END: i32 = -2;

impl<'a> Events<'a> {
    /// The events of a chunk's bytes.
    #[must_use]
    pub const fn new(chunk: &'a [u8]) -> Self {
        Self {
            chunk,
            next: 0,
            last: 0,
        }
    }

    /// The event given last turned out not to be one: look for the next within
    /// it, since a wrong length may have made it swallow some that are whole.
    pub fn distrust_last(&mut self) {
        self.next = find_event(self.chunk, self.last + 1).unwrap_or(self.next);
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let bytes = self.chunk.get(self.next..).filter(|b| !b.is_empty())?;
        self.last = self.next;
        let (event, behind) = match read_event(bytes) {
            Ok((event, rest)) => (event, self.chunk.len() - rest.len()),
            // Unless there is a whole event further on, the chunk ends here.
            Err(_) => (None, self.chunk.len()),
        };
        self.next = behind;
        if event.is_none() {
            self.distrust_last();
        }
        Some(event.unwrap_or(Event::Damaged))
    }
}

/// The first place, not before `from`, at which a whole record begins that has
/// a time in the form that Fluent Bit itself writes.
fn find_event(chunk: &[u8], from: usize) -> Option<usize> {
    /// More than any chunk has by accident; one that is made to have more is
    /// given up, so that the search ends.
    const CANDIDATES: usize = 1000;
    /// The head of the time: an extension of 8 bytes and type 0.
    const TIME: &[u8] = &[0xd7, 0x00];
    const ARRAY_OF_TWO: u8 = 0x92;

    memchr::memmem::find_iter(chunk.get(from..)?, TIME)
        .take(CANDIDATES)
        .filter_map(|at| match chunk[..from + at] {
            [.., ARRAY_OF_TWO, ARRAY_OF_TWO] => Some(from + at - 2),
            [.., ARRAY_OF_TWO] => Some(from + at - 1),
            _ => None,
        })
        .filter(|start| *start >= from)
        .find(|start| {
            let found = read_event(&chunk[*start..]);
            matches!(found, Ok((Some(Event::Record { .. }), _)))
        })
}

/// Reads the value that `bytes` begin with, which is an event or not, and
/// gives what follows it. Each byte is looked at once.
fn read_event(bytes: &[u8]) -> Result<(Option<Event<'_>>, &[u8]), Malformed> {
    let (Value::Array(array), first) = msgpack::head(bytes)? else {
        return Ok((None, msgpack::skip(bytes)?));
    };
    if array.len() != 2 {
        return Ok((None, msgpack::skip(bytes)?));
    }
    let (head, second) = msgpack::read(first)?;
    let (body, rest) = msgpack::read(second)?;
    let time = match head {
        Value::Array(head) if (1..=2).contains(&head.len()) => head.into_iter().next(),
        time => Some(time),
    };
    let event = match (time, body) {
        (Some(time), Value::Map(body)) => event(time, body),
        _ => None,
    };
    Ok((event, rest))
}

fn event<'a>(time: Value<'_>, body: Map<'a>) -> Option<Event<'a>> {
    match timestamp(time) {
        Timestamp::At(time) => Some(Event::Record {
            time: Some(time),
            body,
        }),
        Timestamp::GroupMarker => Some(Event::GroupMarker),
        Timestamp::Unknown => Some(Event::Record { time: None, body }),
        Timestamp::Wrong => None,
    }
}

enum Timestamp {
    At(Time),
    GroupMarker,
    /// No time, but the record is one.
    Unknown,
    /// Something that never stands in the place of a time.
    Wrong,
}

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
        Value::Float(seconds) if seconds.is_finite() && seconds < 1e15 => {
            let nanos = ((seconds - seconds.floor()) * 1e9) as u32;
            Timestamp::At(Time {
                seconds: seconds.floor() as i64,
                nanos: nanos.min(999_999_999),
            })
        }
        Value::Float(_) | Value::Nil | Value::Ext(..) => Timestamp::Unknown,
        Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Map(_) => Timestamp::Wrong,
    }
}

#[cfg(test)]
mod tests;
