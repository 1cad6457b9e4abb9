//! msgpack as JSON.

use std::io::Write;

use smallvec::SmallVec;

use super::msgpack::{Entries, Value, Values};

/// Appends `value` as JSON.
///
/// Bytes that are not UTF-8 are replaced, numbers that JSON does not know
/// (NaN, infinities) become `null`, an extension becomes the hexadecimal text
/// of its bytes, keys that are not text become text, and a key that holds
/// others becomes `?`. Nesting costs heap and not stack, which is small where
/// a flush runs.
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

enum Open<'a> {
    Array { values: Values<'a>, first: bool },
    Map { entries: Entries<'a>, first: bool },
}

/// Containers within containers; few records have more.
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
    serde_json::to_writer(out, value).expect("a scalar is always JSON, and memory takes it");
}

fn push_hex(out: &mut Vec<u8>, data: &[u8]) {
    out.push(b'"');
    for byte in data {
        write!(out, "{byte:02x}").expect("memory takes it");
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
    fn every_kind_of_value() {
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
    fn deep_nesting_costs_no_stack() {
        let mut deep = vec![0x91; 1000];
        deep.push(0xc0);
        let expected = ["[".repeat(1000), "null".to_owned(), "]".repeat(1000)].concat();
        assert_eq!(json(&deep), expected);
    }
}
