//! The keys of a record that messages are made of, found in one pass.

use crate::chunk::{Map, Value};

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    /// What becomes the text.
    pub(super) message: Option<Value<'a>>,
    /// `stdout` or `stderr`.
    pub(super) stream: Option<&'a [u8]>,
    /// Where the record is from.
    pub(super) metadata: Metadata<'a>,
}

/// What a record says of where it is from: alike in all records of a pod's
/// container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Metadata<'a> {
    /// What the kubernetes filter adds.
    pub(super) kubernetes: Option<Map<'a>>,
    /// PKS's name of the cluster, which goes before the node's.
    cluster_name: Option<&'a [u8]>,
    /// PKS's name of the virtual machine.
    pub(super) vm_id: Option<&'a [u8]>,
}

/// What many inputs besides tail call the text.
const MESSAGE: &[u8] = b"message";

impl<'a> Fields<'a> {
    /// Finds the keys; of equal ones the last. None where something that is no
    /// key stands in the place of one, which happens only where a length is
    /// wrong.
    pub(super) fn read(record: Map<'a>, message_key: &[u8]) -> Option<Self> {
        let mut fields = Self::default();
        let mut fallback = None;
        for (key, value) in record {
            let key = match key {
                Value::Text(key) => key,
                Value::Array(_) | Value::Map(_) | Value::Ext(..) => return None,
                _ => continue,
            };
            if key == message_key {
                fields.message = Some(value);
                continue;
            }
            let metadata = &mut fields.metadata;
            match (key, value) {
                (b"kubernetes", Value::Map(map)) => metadata.kubernetes = Some(map),
                (b"stream", Value::Text(text)) => fields.stream = Some(text),
                (b"cluster_name", Value::Text(text)) => metadata.cluster_name = Some(text),
                (b"vm_id", Value::Text(text)) => metadata.vm_id = Some(text),
                (MESSAGE, value) => fallback = Some(value),
                _ => {}
            }
        }
        fields.message = fields.message.or(fallback);
        Some(fields)
    }
}

impl<'a> Metadata<'a> {
    /// The cluster or the node.
    pub(super) fn hostname(&self) -> Option<&'a [u8]> {
        let node = || match self.kubernetes?.get(b"host")? {
            Value::Text(node) => Some(node),
            _ => None,
        };
        self.cluster_name
            .or_else(node)
            .filter(|name| !name.is_empty())
    }

    /// The pod's labels.
    pub(super) fn labels(&self) -> Option<Map<'a>> {
        match self.kubernetes?.get(b"labels")? {
            Value::Map(labels) => Some(labels),
            _ => None,
        }
    }
}
