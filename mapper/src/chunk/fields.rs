//! The keys of a record that messages are made of, found in one pass.

use super::msgpack::{self, Map, Read, Value};

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fields<'a> {
    /// What becomes the text.
    pub message: Option<Value<'a>>,
    /// `stdout` or `stderr`.
    pub stream: Option<&'a [u8]>,
    /// Where the record is from.
    pub metadata: Metadata<'a>,
}

/// What a record says of where it is from: alike in all records of a pod's
/// container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metadata<'a> {
    /// What the kubernetes filter adds.
    pub kubernetes: Option<Map<'a>>,
    /// PKS's name of the cluster, which goes before the node's.
    pub cluster_name: Option<&'a [u8]>,
    /// Whether the record also has a `kubernetes` that is no map, which a template
    /// may refer to.
    pub is_ambiguous: bool,
}

/// What many inputs besides tail call the text.
const MESSAGE: &[u8] = b"message";

/// Reads the record that `bytes` begin with, and gives what follows it. None
/// where it is no map, or where something that is no key stands in the place
/// of one, which happens only where a length is wrong.
///
/// Of equal keys the last counts. A value that is `known`, the `kubernetes` map
/// of the record before, is compared and not looked into.
pub(super) fn read_record<'a>(
    bytes: &'a [u8],
    message_key: &[u8],
    known: Option<Map<'a>>,
) -> Read<'a, Option<(Map<'a>, Fields<'a>)>> {
    let (Value::Map(record), entries) = msgpack::head(bytes)? else {
        return Ok((None, msgpack::skip(bytes)?));
    };
    let mut fields = Fields::default();
    let mut fallback = None;
    let mut rest = entries;
    for _ in 0..record.len() {
        let (key, behind) = msgpack::head(rest)?;
        let key = match key {
            Value::Text(key) => key,
            Value::Array(_) | Value::Map(_) | Value::Ext(..) => {
                return Ok((None, msgpack::skip(bytes)?));
            }
            _ => b"",
        };
        let (value, behind) = msgpack::read_like(behind, known)?;
        rest = behind;
        if key == message_key {
            fields.message = Some(value);
            continue;
        }
        let metadata = &mut fields.metadata;
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

impl<'a> Metadata<'a> {
    /// The cluster or the node.
    #[must_use]
    pub fn hostname(&self) -> Option<&'a [u8]> {
        self.cluster_name
            .filter(|name| !name.is_empty())
            .or_else(|| self.node())
    }

    /// The node on which the pod runs.
    #[must_use]
    pub fn node(&self) -> Option<&'a [u8]> {
        match self.kubernetes?.get(b"host")? {
            Value::Text(node) => Some(node).filter(|node| !node.is_empty()),
            _ => None,
        }
    }

    /// The pod's labels.
    #[must_use]
    pub fn labels(&self) -> Option<Map<'a>> {
        match self.kubernetes?.get(b"labels")? {
            Value::Map(labels) => Some(labels),
            _ => None,
        }
    }
}
