//! A zero-copy msgpack reader.
//!
//! [`read`] and [`skip`] check that a value is complete, including its nested
//! values. The iterators over arrays and maps therefore return no errors; on bytes
//! that were not checked, they end early.

/// The error of bytes that are not a complete msgpack value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end before the value does.
    Truncated,
    /// The reserved byte 0xc1, which msgpack never uses.
    Reserved,
}

/// The result of reading: the value, and the bytes after it.
pub type Read<'a, T> = Result<(T, &'a [u8]), Malformed>;

/// A msgpack value. `str` and `bin` are both text, because `str` is not guaranteed
/// to be UTF-8 and `bin` may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `nil`.
    Nil,
    /// A boolean.
    Bool(bool),
    /// A non-negative integer.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// A floating-point number.
    Float(f64),
    /// `str` or `bin`: arbitrary bytes.
    Text(&'a [u8]),
    /// An array.
    Array(Array<'a>),
    /// A map.
    Map(Map<'a>),
    /// An extension: its type and its bytes.
    Ext(i8, &'a [u8]),
}

/// A msgpack array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    /// The number of values, according to the header.
    len: usize,
    /// The encoded values. If the array was not [`read`], more bytes may follow.
    bytes: &'a [u8],
}

/// A msgpack map. Maps that were [`read`] are equal if they have the same encoded
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Map<'a> {
    /// The number of entries, according to the header.
    len: usize,
    /// The encoded keys and values. If the map was not [`read`], more bytes may
    /// follow.
    bytes: &'a [u8],
}

/// Reads the head of the first value in `bytes`, and returns the value with the
/// bytes after the head.
///
/// A scalar is read entirely, so that the next value follows. After the head of an
/// array or a map, its first nested value follows; the nested values are not checked.
#[allow(
    clippy::inline_always,
    reason = "a call would pass values through memory, which takes a quarter more instructions"
)]
#[inline(always)]
pub(super) fn head(bytes: &[u8]) -> Read<'_, Value<'_>> {
    let (&marker, rest) = bytes.split_first().ok_or(Malformed::Truncated)?;
    Ok(match marker {
        0x00..=0x7f => (Value::Unsigned(marker.into()), rest),
        0x80..=0x8f => map(usize::from(marker & 0x0f), rest),
        0x90..=0x9f => array(usize::from(marker & 0x0f), rest),
        0xa0..=0xbf => text(usize::from(marker & 0x1f), rest)?,
        0xc0 => (Value::Nil, rest),
        0xc1 => return Err(Malformed::Reserved),
        0xc2 => (Value::Bool(false), rest),
        0xc3 => (Value::Bool(true), rest),
        0xc4 | 0xd9 => {
            let (len, rest) = length::<1>(rest)?;
            text(len, rest)?
        }
        0xc5 | 0xda => {
            let (len, rest) = length::<2>(rest)?;
            text(len, rest)?
        }
        0xc6 | 0xdb => {
            let (len, rest) = length::<4>(rest)?;
            text(len, rest)?
        }
        0xc7 => {
            let (len, rest) = length::<1>(rest)?;
            ext(len, rest)?
        }
        0xc8 => {
            let (len, rest) = length::<2>(rest)?;
            ext(len, rest)?
        }
        0xc9 => {
            let (len, rest) = length::<4>(rest)?;
            ext(len, rest)?
        }
        0xca => {
            let (bytes, rest) = take(rest)?;
            (Value::Float(f32::from_be_bytes(bytes).into()), rest)
        }
        0xcb => {
            let (bytes, rest) = take(rest)?;
            (Value::Float(f64::from_be_bytes(bytes)), rest)
        }
        0xcc => {
            let (bytes, rest) = take(rest)?;
            (Value::Unsigned(u8::from_be_bytes(bytes).into()), rest)
        }
        0xcd => {
            let (bytes, rest) = take(rest)?;
            (Value::Unsigned(u16::from_be_bytes(bytes).into()), rest)
        }
        0xce => {
            let (bytes, rest) = take(rest)?;
            (Value::Unsigned(u32::from_be_bytes(bytes).into()), rest)
        }
        0xcf => {
            let (bytes, rest) = take(rest)?;
            (Value::Unsigned(u64::from_be_bytes(bytes)), rest)
        }
        0xd0 => {
            let (bytes, rest) = take(rest)?;
            (signed(i8::from_be_bytes(bytes).into()), rest)
        }
        0xd1 => {
            let (bytes, rest) = take(rest)?;
            (signed(i16::from_be_bytes(bytes).into()), rest)
        }
        0xd2 => {
            let (bytes, rest) = take(rest)?;
            (signed(i32::from_be_bytes(bytes).into()), rest)
        }
        0xd3 => {
            let (bytes, rest) = take(rest)?;
            (signed(i64::from_be_bytes(bytes)), rest)
        }
        0xd4..=0xd8 => ext(1 << (marker - 0xd4), rest)?,
        0xdc => {
            let (len, rest) = length::<2>(rest)?;
            array(len, rest)
        }
        0xdd => {
            let (len, rest) = length::<4>(rest)?;
            array(len, rest)
        }
        0xde => {
            let (len, rest) = length::<2>(rest)?;
            map(len, rest)
        }
        0xdf => {
            let (len, rest) = length::<4>(rest)?;
            map(len, rest)
        }
        0xe0..=0xff => (signed(i64::from(marker as i8)), rest),
    })
}

fn take<const N: usize>(bytes: &[u8]) -> Read<'_, [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    Ok((*taken, rest))
}

fn length<const N: usize>(bytes: &[u8]) -> Read<'_, usize> {
    let (digits, rest) = take::<N>(bytes)?;
    let length = digits
        .iter()
        .fold(0, |length, digit| length << 8 | usize::from(*digit));
    Ok((length, rest))
}

fn text(len: usize, rest: &[u8]) -> Read<'_, Value<'_>> {
    let (text, rest) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
    Ok((Value::Text(text), rest))
}

fn ext(len: usize, rest: &[u8]) -> Read<'_, Value<'_>> {
    let ([kind], rest) = take::<1>(rest)?;
    let (data, rest) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
    Ok((Value::Ext(kind as i8, data), rest))
}

fn array(len: usize, bytes: &[u8]) -> (Value<'_>, &[u8]) {
    (Value::Array(Array { len, bytes }), bytes)
}

fn map(len: usize, bytes: &[u8]) -> (Value<'_>, &[u8]) {
    (Value::Map(Map { len, bytes }), bytes)
}

fn signed(value: i64) -> Value<'static> {
    u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
}

/// Skips one value with its nested values, and returns the bytes after it.
///
/// # Errors
///
/// Returns an error if the value is truncated or contains the reserved byte.
pub fn skip(bytes: &[u8]) -> Result<&[u8], Malformed> {
    skip_many(bytes, 1)
}

/// Skips `count` consecutive values. Counts the remaining values instead of
/// recursing, so that nested values use no stack.
fn skip_many(bytes: &[u8], count: u64) -> Result<&[u8], Malformed> {
    let mut rest = bytes;
    let mut remaining = count;
    while remaining > 0 {
        let (value, after) = head(rest)?;
        remaining = remaining - 1
            + match value {
                Value::Array(array) => array.values(),
                Value::Map(map) => map.values(),
                _ => 0,
            };
        rest = after;
    }
    Ok(rest)
}

/// Reads one value, and returns it with the bytes after it.
///
/// # Errors
///
/// Returns an error if the value is truncated or contains the reserved byte.
pub fn read(bytes: &[u8]) -> Read<'_, Value<'_>> {
    read_with_hint(bytes, None)
}

/// Reads one value like [`read`], faster if it equals `previous`, a map that was
/// read before: comparing the bytes costs much less than parsing them.
///
/// # Errors
///
/// Returns an error if the value is truncated or contains the reserved byte.
#[allow(clippy::inline_always, reason = "as for head")]
#[inline(always)]
pub fn read_with_hint<'a>(bytes: &'a [u8], previous: Option<Map<'a>>) -> Read<'a, Value<'a>> {
    let (value, after_head) = head(bytes)?;
    Ok(match value {
        Value::Map(map) => {
            if let Some(previous) = previous
                && previous.len == map.len
                && let Some(rest) = after_head.strip_prefix(previous.bytes)
            {
                return Ok((Value::Map(previous), rest));
            }
            let rest = skip_many(after_head, map.values())?;
            (Value::Map(map.ending_before(rest)), rest)
        }
        Value::Array(array) => {
            let rest = skip_many(after_head, array.values())?;
            let bytes = &after_head[..after_head.len() - rest.len()];
            (Value::Array(Array { bytes, ..array }), rest)
        }
        scalar => (scalar, after_head),
    })
}

impl Array<'_> {
    /// Returns the number of values, according to the header.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the array is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    const fn values(&self) -> u64 {
        self.len as u64
    }
}

impl Map<'_> {
    /// Returns the number of entries, according to the header.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the map is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    const fn values(&self) -> u64 {
        self.len as u64 * 2
    }
}

impl<'a> Map<'a> {
    /// Returns the encoded keys and values, if the map was [`read`]. Otherwise, more
    /// bytes may follow them.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the map without `rest`, the bytes after its last value.
    pub(super) fn ending_before(self, rest: &[u8]) -> Self {
        Self {
            bytes: &self.bytes[..self.bytes.len() - rest.len()],
            ..self
        }
    }

    /// Returns the value of the last key with this text. As in Fluent Bit's record
    /// accessor, a key that a filter appended takes precedence over one that was
    /// parsed from the log line.
    #[must_use]
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.into_iter()
            .filter(|(found, _)| *found == Value::Text(key))
            .last()
            .map(|(_, value)| value)
    }
}

/// An iterator over the values of an [`Array`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    remaining: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (value, rest) = read(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        Values {
            remaining: self.len,
            rest: self.bytes,
        }
    }
}

/// An iterator over the keys and values of a [`Map`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    remaining: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (key, rest) = read(self.rest).ok()?;
        let (value, rest) = read(rest).ok()?;
        self.rest = rest;
        Some((key, value))
    }
}

impl<'a> IntoIterator for Map<'a> {
    type Item = (Value<'a>, Value<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        Entries {
            remaining: self.len,
            rest: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Generates any value, for another msgpack implementation to encode.
    pub(crate) fn any_value() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            Just(rmpv::Value::Nil),
            any::<bool>().prop_map(rmpv::Value::from),
            any::<u64>().prop_map(rmpv::Value::from),
            any::<i64>().prop_map(rmpv::Value::from),
            any::<f32>().prop_map(rmpv::Value::from),
            any::<f64>().prop_map(rmpv::Value::from),
            ".{0,40}".prop_map(rmpv::Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::from),
            (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, data)| rmpv::Value::Ext(kind, data)),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(rmpv::Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(rmpv::Value::Map),
            ]
        })
    }

    fn is_same(ours: Value<'_>, theirs: &rmpv::Value) -> bool {
        match (ours, theirs) {
            (Value::Nil, rmpv::Value::Nil) => true,
            (Value::Bool(a), rmpv::Value::Boolean(b)) => a == *b,
            (Value::Unsigned(a), rmpv::Value::Integer(b)) => Some(a) == b.as_u64(),
            (Value::Negative(a), rmpv::Value::Integer(b)) => a < 0 && Some(a) == b.as_i64(),
            (Value::Float(a), rmpv::Value::F32(b)) => a.to_bits() == f64::from(*b).to_bits(),
            (Value::Float(a), rmpv::Value::F64(b)) => a.to_bits() == b.to_bits(),
            (Value::Text(a), rmpv::Value::String(b)) => a == b.as_bytes(),
            (Value::Text(a), rmpv::Value::Binary(b)) => a == b,
            (Value::Ext(kind, data), rmpv::Value::Ext(k, d)) => kind == *k && data == d,
            (Value::Array(a), rmpv::Value::Array(b)) => {
                a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| is_same(a, b))
            }
            (Value::Map(a), rmpv::Value::Map(b)) => {
                a.len() == b.len()
                    && a.into_iter()
                        .zip(b)
                        .all(|((k, v), (l, w))| is_same(k, l) && is_same(v, w))
            }
            _ => false,
        }
    }

    fn encode(value: &rmpv::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn values_of_another_implementation_are_read(value in any_value()) {
            let bytes = encode(&value);
            let (read, rest) = read(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(is_same(read, &value), "{read:?} is not {value:?}");
        }

        #[test]
        fn an_incomplete_value_is_truncated(value in any_value(), cut: prop::sample::Index) {
            let bytes = encode(&value);
            let start = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(skip(start), Err(Malformed::Truncated));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            if let Ok((Value::Map(map), _)) = head(&bytes) {
                map.into_iter().for_each(drop);
            }
            let _ = skip(&bytes);
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error() {
        assert_eq!(
            skip(&[0xdf, 0xff, 0xff, 0xff, 0xff]),
            Err(Malformed::Truncated)
        );
        assert_eq!(
            skip(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'a']),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn the_nesting_depth_is_unlimited() {
        let mut deep = vec![0x91; 1_000_000];
        deep.push(0xc0);
        assert_eq!(skip(&deep), Ok([].as_slice()));
    }

    #[test]
    fn the_last_of_duplicate_keys_counts() {
        let bytes = [0x82, 0xa1, b'k', 0x01, 0xa1, b'k', 0x02];
        let Ok((Value::Map(map), _)) = read(&bytes) else {
            panic!("not a map");
        };
        assert_eq!(map.get(b"k"), Some(Value::Unsigned(2)));
        assert_eq!(map.get(b"l"), None);
    }
}
