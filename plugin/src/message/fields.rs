//! The keys of a record that messages are made of, found in one pass.

use crate::chunk::{Map, Value};

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    /// What becomes the text.
    pub(super) message: Option<Value<'a>>,
    /// `stdout` or `stderr`.
    pub(super) stream: Option<&'a [u8]>,
    /// What the kubernetes filter adds.
    pub(super) kubernetes: Option<Map<'a>>,
    /// The pod's labels, of that.
    pub(super) labels: Option<Map<'a>>,
    /// The node, of that.
    node: Option<&'a [u8]>,
    /// PKS's name of the cluster, which goes before the node's.
    cluster_name: Option<&'a [u8]>,
    /// PKS's name of the virtual machine.
    pub(super) vm_id: Option<&'a [u8]>,
}

/// What many inputs besides tail call the text.
const MESSAGE: &[u8] = b"message";

impl<'a> Fields<'a> {
    /// Finds the keys. None where something that is no key stands in the place
    /// of one, which happens only where a length is wrong.
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
                fields.message = fields.message.or(Some(value));
                continue;
            }
            match (key, value) {
                (b"kubernetes", Value::Map(map)) => fields.read_kubernetes(map),
                (b"stream", Value::Text(text)) => fields.stream = Some(text),
                (b"cluster_name", Value::Text(text)) => fields.cluster_name = Some(text),
                (b"vm_id", Value::Text(text)) => fields.vm_id = Some(text),
                (MESSAGE, value) => fallback = Some(value),
                _ => {}
            }
        }
        fields.message = fields.message.or(fallback);
        Some(fields)
    }

    fn read_kubernetes(&mut self, kubernetes: Map<'a>) {
        self.kubernetes = Some(kubernetes);
        for entry in kubernetes {
            match entry {
                (Value::Text(b"host"), Value::Text(host)) => self.node = Some(host),
                (Value::Text(b"labels"), Value::Map(labels)) => self.labels = Some(labels),
                _ => {}
            }
        }
    }

    /// The cluster or the node.
    pub(super) fn hostname(&self) -> Option<&'a [u8]> {
        self.cluster_name
            .or(self.node)
            .filter(|name| !name.is_empty())
    }
}
