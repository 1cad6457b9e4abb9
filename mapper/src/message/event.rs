//! The mapping of Kubernetes Events, which share the format of logs: facility, HOSTNAME,
//! structured data, size limits and escapes.

use syslog::{Batch, HeaderPrefix, Pri, Severity, Timestamp};

use super::{EVENT, HeaderValues, LossReason, Mapper, Tally, Workspace};
use crate::chunk::{Map, Time};
use crate::identity::Identity;
use crate::template::TemplateContext;

/// A Kubernetes Event.
#[derive(Clone, Copy, Debug)]
pub struct KubernetesEvent<'a> {
    /// The time of the last occurrence.
    pub time: Option<Time>,
    /// The severity of its type.
    pub severity: Severity,
    /// The namespace that it belongs to.
    pub namespace: &'a str,
    /// The name of the object that it is about.
    pub object: &'a str,
    /// The node that it belongs to.
    pub node: Option<&'a str>,
    /// The names and values of its other fields.
    pub params: &'a [(&'a str, &'a str)],
    /// The text of the message.
    pub text: &'a str,
}

impl Mapper {
    /// Appends the message of an Event to `batch`. Returns the counts of messages and
    /// losses.
    pub fn map_event(
        &self,
        event: &KubernetesEvent<'_>,
        batch: &mut Batch,
        space: &mut Workspace,
    ) -> Tally {
        let mut tally = Tally::default();
        let identity = Identity::of_object(event.namespace, event.object);
        if !self.passes_namespace_check(identity) {
            tally.add(LossReason::Refused);
            return tally;
        }
        let context = TemplateContext {
            record: Map::default(),
            kubernetes: None,
            tag: EVENT,
            identity,
        };
        let time = event.time;
        let prefix = HeaderPrefix {
            pri: Pri::new(self.facility(&context, &mut space.value), event.severity),
            timestamp: time.and_then(|time| Timestamp::from_unix(time.seconds, time.nanos).ok()),
        };
        self.encode_shared_header(&WithContext { event, context }, space);
        self.push_message(prefix, event.text.as_bytes(), batch, space, &mut tally);
        tally
    }
}

/// An Event with its context.
struct WithContext<'e, 'a> {
    event: &'e KubernetesEvent<'a>,
    context: TemplateContext<'a>,
}

impl HeaderValues for WithContext<'_, '_> {
    fn context(&self) -> &TemplateContext<'_> {
        &self.context
    }

    fn app_name(&self) -> &'static str {
        EVENT
    }

    fn hostname(&self) -> Option<&[u8]> {
        self.node()
    }

    fn node(&self) -> Option<&[u8]> {
        let node = self.event.node.filter(|node| !node.is_empty());
        node.map(str::as_bytes)
    }

    fn params(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let params = self.event.params.iter();
        params.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}
