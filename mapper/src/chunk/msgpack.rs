//! msgpack, read in place.
//!
//! [`skip`] checks that a value is whole. Every [`Value`] inside one that was
//! checked can be read without errors, so that the iterators have none: they
//! end early where they are used on bytes that were not checked.

/// Why bytes are not a whole msgpack value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end before the value does.
    Truncated,
    /// A byte that msgpack never uses (0xc1).
    Reserved,
}

/// Something that was read, and the bytes that follow it.
pub type Read<'a, T> = Result<(T, &'a [u8]), Malformed>;

/// A value. Text is what may be UTF-8: msgpack's `str` and `bin` both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// An integer that is not negative.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// A floating point number.
    Float(f64),
    /// `str` or `bin`; any bytes.
    Text(&'a [u8]),
    /// Values in a row.
    Array(Array<'a>),
    /// Keys with values.
    Map(Map<'a>),
    /// An extension type and its bytes.
    Ext(i8, &'a [u8]),
}

/// The values of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    len: usize,
    /// They begin here, and end here where the array was [`read`].
    bytes: &'a [u8],
}

/// The keys and values of a map. Two that were [`read`] are equal where their
/// bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map<'a> {
    len: usize,
    /// They begin here, and end here where the map was [`read`].
    bytes: &'a [u8],
}

/// Splits the first value off `bytes`: the value, and what follows its head.
/// For an array or a map that is its first value, for others the next value.
/// Whether an array or a map is whole is not looked at.
#[allow(
    clippy::inline_always,
    reason = "a call would hand values over through memory: a quarter more instructions"
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

/// Skips one value, with all it holds, and gives what follows it.
///
/// # Errors
///
/// Where the value is not whole.
pub fn skip(bytes: &[u8]) -> Result<&[u8], Malformed> {
    skip_many(bytes, 1)
}

/// Skips values in a row. Nesting costs no stack: only how many values are
/// still to come is counted.
fn skip_many(bytes: &[u8], count: u64) -> Result<&[u8], Malformed> {
    let mut rest = bytes;
    let mut to_come = count;
    while to_come > 0 {
        let (value, behind) = head(rest)?;
        to_come = to_come - 1
            + match value {
                Value::Array(array) => array.values(),
                Value::Map(map) => map.values(),
                _ => 0,
            };
        rest = behind;
    }
    Ok(rest)
}

/// Reads one value, and gives what follows it.
///
/// # Errors
///
/// Where the value is not whole.
pub fn read(bytes: &[u8]) -> Read<'_, Value<'_>> {
    read_like(bytes, None)
}

/// Like [`read`], for a value that may well be a map that was read before: to
/// compare it costs much less than to go through it.
///
/// # Errors
///
/// Where the value is not whole.
#[allow(clippy::inline_always, reason = "as for head")]
#[inline(always)]
pub fn read_like<'a>(bytes: &'a [u8], known: Option<Map<'a>>) -> Read<'a, Value<'a>> {
    let (value, behind) = head(bytes)?;
    Ok(match value {
        Value::Map(map) => {
            if let Some(known) = known
                && known.len == map.len
                && let Some(rest) = behind.strip_prefix(known.bytes)
            {
                return Ok((Value::Map(known), rest));
            }
            let rest = skip_many(behind, map.values())?;
            (Value::Map(map.ending_before(rest)), rest)
        }
        Value::Array(array) => {
            let rest = skip_many(behind, array.values())?;
            let bytes = &behind[..behind.len() - rest.len()];
            (Value::Array(Array { bytes, ..array }), rest)
        }
        scalar => (scalar, behind),
    })
}

impl Array<'_> {
    /// How many values it says it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    const fn values(&self) -> u64 {
        self.len as u64
    }
}

impl Map<'_> {
    /// How many keys it says it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    const fn values(&self) -> u64 {
        self.len as u64 * 2
    }
}

impl<'a> Map<'a> {
    /// The keys and values as they are written, if the map was [`read`].
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The map, when it is known what follows it.
    pub(super) fn ending_before(self, rest: &[u8]) -> Self {
        Self {
            bytes: &self.bytes[..self.bytes.len() - rest.len()],
            ..self
        }
    }

    /// The value of the last key with this text: what a filter adds to a
    /// record goes before what its text was parsed into, as in Fluent Bit's
    /// own record accessor.
    #[must_use]
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.into_iter()
            .filter(|(found, _)| *found == Value::Text(key))
            .last()
            .map(|(_, value)| value)
    }
}

/// See [`Array`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
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
            left: self.len,
            rest: self.bytes,
        }
    }
}

/// See [`Map`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
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
            left: self.len,
            rest: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value, as another implementation of msgpack writes it.
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

    fn same(ours: Value<'_>, theirs: &rmpv::Value) -> bool {
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
                a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Map(a), rmpv::Value::Map(b)) => {
                a.len() == b.len()
                    && a.into_iter()
                        .zip(b)
                        .all(|((k, v), (l, w))| same(k, l) && same(v, w))
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
        fn reads_what_another_wrote(value in any_value()) {
            let bytes = encode(&value);
            let (read, rest) = read(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(same(read, &value), "{read:?} is not {value:?}");
        }

        #[test]
        fn a_part_is_truncated(value in any_value(), cut: prop::sample::Index) {
            let bytes = encode(&value);
            let part = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(skip(part), Err(Malformed::Truncated));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Ok((Value::Map(map), _)) = head(&bytes) {
                map.into_iter().for_each(drop);
            }
            let _ = skip(&bytes);
        }
    }

    #[test]
    fn a_length_that_lies_costs_nothing() {
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
    fn nesting_has_no_limit() {
        let mut deep = vec![0x91; 1_000_000];
        deep.push(0xc0);
        assert_eq!(skip(&deep), Ok([].as_slice()));
    }

    #[test]
    fn a_map_gives_the_last_of_two_equal_keys() {
        let bytes = [0x82, 0xa1, b'k', 0x01, 0xa1, b'k', 0x02];
        let Ok((Value::Map(map), _)) = read(&bytes) else {
            panic!("not a map");
        };
        assert_eq!(map.get(b"k"), Some(Value::Unsigned(2)));
        assert_eq!(map.get(b"l"), None);
    }
}
