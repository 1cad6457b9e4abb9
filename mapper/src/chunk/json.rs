//! Conversion of msgpack values to JSON.

use std::io::Write;

use smallvec::SmallVec;

use super::msgpack::{Entries, Value, Values};

/// Appends `value` as JSON.
///
/// - Invalid UTF-8 is replaced with U+FFFD.
/// - Numbers without a JSON representation (NaN, infinities) become `null`.
/// - An extension becomes a string of its bytes in hexadecimal.
/// - A scalar key becomes a string; a key that is an array or a map becomes `"?"`.
///
/// Nested values use the heap instead of the stack, because the stack of a flush is
/// small.
pub fn push_json(out: &mut Vec<u8>, value: Value<'_>) {
    let mut open = Stack::new();
    push_value(out, value, &mut open);
    while let Some(container) = open.last_mut() {
        match container {
            Open::Array { values, first } => {
                if let Some(value) = values.next() {
                    separate(out, first);
                    push_value(out, value, &mut open);
                } else {
                    out.push(b']');
                    open.pop();
                }
            }
            Open::Map { entries, first } => {
                if let Some((key, value)) = entries.next() {
                    separate(out, first);
                    push_key(out, key);
                    out.push(b':');
                    push_value(out, value, &mut open);
                } else {
                    out.push(b'}');
                    open.pop();
                }
            }
        }
    }
}

/// An array or a map whose end is not written yet.
enum Open<'a> {
    Array { values: Values<'a>, first: bool },
    Map { entries: Entries<'a>, first: bool },
}

/// The open arrays and maps, outermost first. Few records are nested more deeply
/// than the inline capacity.
type Stack<'a> = SmallVec<[Open<'a>; 8]>;

fn separate(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

fn push_value<'a>(out: &mut Vec<u8>, value: Value<'a>, open: &mut Stack<'a>) {
    match value {
        Value::Array(array) => {
            out.push(b'[');
            open.push(Open::Array {
                values: array.into_iter(),
                first: true,
            });
        }
        Value::Map(map) => {
            out.push(b'{');
            open.push(Open::Map {
                entries: map.into_iter(),
                first: true,
            });
        }
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(value) => push(out, &value),
        Value::Unsigned(value) => push(out, &value),
        Value::Negative(value) => push(out, &value),
        Value::Float(value) => push(out, &value),
        Value::Text(text) => push(out, &String::from_utf8_lossy(text)),
        Value::Ext(_, data) => push_hex(out, data),
    }
}

fn push_key(out: &mut Vec<u8>, key: Value<'_>) {
    match key {
        Value::Text(text) => push(out, &String::from_utf8_lossy(text)),
        Value::Ext(_, data) => push_hex(out, data),
        Value::Array(_) | Value::Map(_) => push(out, "?"),
        scalar => {
            out.push(b'"');
            push_value(out, scalar, &mut Stack::new());
            out.push(b'"');
        }
    }
}

fn push<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value)
        .expect("a scalar serializes, and writing to a Vec never fails");
}

fn push_hex(out: &mut Vec<u8>, data: &[u8]) {
    out.push(b'"');
    for byte in data {
        write!(out, "{byte:02x}").expect("writing to a Vec never fails");
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::msgpack;
    use super::*;

    fn json(bytes: &[u8]) -> String {
        let (value, rest) = msgpack::read(bytes).unwrap();
        assert!(rest.is_empty());
        let mut out = Vec::new();
        push_json(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_types_have_a_json_form() {
        for (bytes, expected) in [
            (b"\xc0".as_slice(), "null"),
            (b"\xc3", "true"),
            (b"\x07", "7"),
            (b"\xff", "-1"),
            (b"\xcb\x3f\xf8\0\0\0\0\0\0", "1.5"),
            (b"\xcb\x7f\xf8\0\0\0\0\0\0", "null"),
            (b"\xa3a\"\n", r#""a\"\n""#),
            (b"\xc4\x02\xffa", "\"\u{FFFD}a\""),
            (b"\xd4\x05\xab", "\"ab\""),
            (b"\x90", "[]"),
            (b"\x93\x01\x80\x91\x02", "[1,{},[2]]"),
            (
                b"\x82\xa1a\x01\x02\x92\xc0\xc2",
                r#"{"a":1,"2":[null,false]}"#,
            ),
        ] {
            assert_eq!(json(bytes), expected);
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let mut deep = vec![0x91; 1000];
        deep.push(0xc0);
        let expected = ["[".repeat(1000), "null".to_owned(), "]".repeat(1000)].concat();
        assert_eq!(json(&deep), expected);
    }
}
