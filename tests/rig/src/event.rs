//! Chunks in the format of Fluent Bit.

use rmpv::Value;

/// Returns a file of chunks for the host program. Each chunk is the tag's length (four
/// bytes, big endian), the tag, the data's length and the data.
#[must_use]
pub fn chunk_file(chunks: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for (tag, data) in chunks {
        for part in [tag.as_bytes(), data] {
            let length = u32::try_from(part.len()).expect("a chunk is small");
            file.extend(length.to_be_bytes());
            file.extend(part);
        }
    }
    file
}

/// Returns a map with text keys.
#[must_use]
pub fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
}

/// The format of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `[time, body]`, the format before Fluent Bit 2.1.
    Old,
    /// `[[time, {}], body]`.
    Current,
}

/// Encodes an event in the current format.
#[must_use]
pub fn event(seconds: u32, nanos: u32, body: Value) -> Vec<u8> {
    event_in(Format::Current, seconds, nanos, body)
}

/// Encodes an event.
#[must_use]
pub fn event_in(format: Format, seconds: u32, nanos: u32, body: Value) -> Vec<u8> {
    let time = Value::Ext(0, [seconds.to_be_bytes(), nanos.to_be_bytes()].concat());
    let head = match format {
        Format::Old => time,
        Format::Current => Value::Array(vec![time, map(vec![])]),
    };
    encode(&Value::Array(vec![head, body]))
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("writing to memory succeeds");
    bytes
}

/// Returns the tag of a container's log.
#[must_use]
pub fn container_tag(namespace: &str, pod: &str, container: &str) -> String {
    let id = crate::containers::container_id(namespace, pod, container);
    format!("kube.var.log.containers.{pod}_{namespace}_{container}-{id}.log")
}
