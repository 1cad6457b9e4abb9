//! The values of a record that messages are made from, found in one pass.

use super::msgpack::{self, Map, Read, Value};

/// The values of a record that messages are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fields<'a> {
    /// The value of the configured message key, or else of `message`.
    pub message: Option<Value<'a>>,
    /// The value of `stream`: `stdout` or `stderr` for container logs.
    pub stream: Option<&'a [u8]>,
    /// The metadata about the record's origin.
    pub container: ContainerMetadata<'a>,
}

/// The metadata in a record, which is the same in all records of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ContainerMetadata<'a> {
    /// The `kubernetes` map, which the kubernetes filter adds.
    pub kubernetes: Option<Map<'a>>,
    /// The `cluster_name`, which PKS adds. It takes precedence over the node's name
    /// as HOSTNAME.
    pub cluster_name: Option<&'a [u8]>,
    /// Whether the record has a key `kubernetes` whose value is not a map. Templates
    /// can refer to such a value, which [`ContainerMetadata::kubernetes`] does not contain.
    pub is_ambiguous: bool,
}

/// The key that many inputs other than tail use for the text.
const MESSAGE: &[u8] = b"message";

/// Reads the record at the start of `bytes`, and returns it with the bytes after it.
///
/// Returns `None` for the record if the value is not a map, or if one of its keys
/// cannot be a key (an array, a map or an extension), which means that a length is
/// corrupt. The last of duplicate keys counts. `previous` is the `kubernetes` map of
/// the previous record, see [`msgpack::read_with_hint`].
pub(super) fn read_record<'a>(
    bytes: &'a [u8],
    message_key: &[u8],
    previous: Option<Map<'a>>,
) -> Read<'a, Option<(Map<'a>, Fields<'a>)>> {
    let (Value::Map(record), entries) = msgpack::head(bytes)? else {
        return Ok((None, msgpack::skip(bytes)?));
    };
    let mut fields = Fields::default();
    let mut fallback = None;
    let mut rest = entries;
    for _ in 0..record.len() {
        let (key, after_key) = msgpack::head(rest)?;
        let key = match key {
            Value::Text(key) => key,
            Value::Array(_) | Value::Map(_) | Value::Ext(..) => {
                return Ok((None, msgpack::skip(bytes)?));
            }
            _ => b"",
        };
        let (value, after_value) = msgpack::read_with_hint(after_key, previous)?;
        rest = after_value;
        if key == message_key {
            fields.message = Some(value);
            continue;
        }
        let metadata = &mut fields.container;
        match (key, value) {
            (b"kubernetes", Value::Map(map)) => metadata.kubernetes = Some(map),
            (b"kubernetes", _) => metadata.is_ambiguous = true,
            (b"stream", Value::Text(text)) => fields.stream = Some(text),
            (b"cluster_name", Value::Text(text)) => metadata.cluster_name = Some(text),
            (MESSAGE, value) => fallback = Some(value),
            _ => {}
        }
    }
    fields.message = fields.message.or(fallback);
    Ok((Some((record.ending_before(rest), fields)), rest))
}

impl<'a> ContainerMetadata<'a> {
    /// Returns the name of the cluster, or else of the node.
    #[must_use]
    pub fn hostname(&self) -> Option<&'a [u8]> {
        self.cluster_name
            .filter(|name| !name.is_empty())
            .or_else(|| self.node())
    }

    /// Returns the name of the node on which the pod runs.
    #[must_use]
    pub fn node(&self) -> Option<&'a [u8]> {
        match self.kubernetes?.get(b"host")? {
            Value::Text(node) => Some(node).filter(|node| !node.is_empty()),
            _ => None,
        }
    }

    /// Returns the pod's labels.
    #[must_use]
    pub fn labels(&self) -> Option<Map<'a>> {
        match self.kubernetes?.get(b"labels")? {
            Value::Map(labels) => Some(labels),
            _ => None,
        }
    }
}
