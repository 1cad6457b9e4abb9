//! The records of a container, as Fluent Bit stores them.
//!
//! ```text
//! [[-1, {"kubernetes": {...}, "pod_logs": {...}}], {}]    start of a group
//! [[time, {}], {"log": "...", "stream": "stdout"}]        a text; "_p": "P" if it is cut
//! [[-2, {}], {}]                                          end of the group
//! ```
//!
//! Tenants control the texts alone, so a group's metadata is trusted.

use std::collections::BTreeMap;

use positions::KEY;
use reader::line::{Stream, Time};
use reader::{ContainerId, Passage};
use rmp::encode::{
    write_array_len, write_bool, write_map_len, write_str, write_str_len, write_uint,
};

use crate::config::Records;

/// The seconds of the times that mark the start and the end of a group.
const GROUP_START: i32 = -1;
const GROUP_END: i32 = -2;

/// The last second that a text can have. Higher ones mark groups.
const LAST_SECOND: i64 = u32::MAX as i64 - 2;

/// The beginning of a tag, which a namespace follows.
const TAG: &str = "ns.";
/// The beginning of a tag that the filter `kubernetes` understands with
/// `kube_tag_prefix kube.var.log.containers.`
const FLAT_TAG: &str = "kube.var.log.containers.";
/// The number of hexadecimal digits of a container's ID in such a tag.
const ID: usize = 64;

/// Encodes the records of one passage at a time.
#[derive(Debug)]
pub(crate) struct Encoder {
    form: Records,
    node: String,
    /// The encoded records since the last passage.
    records: Vec<u8>,
}

/// The container that texts are from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) id: &'a ContainerId,
    /// The labels of its pod; none if they are unknown.
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
}

impl Encoder {
    pub(crate) fn new(form: Records, node: String) -> Self {
        Self {
            form,
            node,
            records: Vec::new(),
        }
    }

    /// Returns whether each record has its container, with the labels.
    pub(crate) fn is_flat(&self) -> bool {
        self.form == Records::Flat
    }

    /// Returns the tag of a container.
    pub(crate) fn tag(&self, id: &ContainerId) -> String {
        let ContainerId { pod, container } = id;
        let (namespace, name) = (&pod.namespace, &pod.pod);
        match self.form {
            Records::Group => format!("{TAG}{namespace}"),
            Records::Flat => {
                let digits = pod.uid.replace('-', "");
                format!("{FLAT_TAG}{name}_{namespace}_{container}-{digits:0>ID$}.log")
            }
        }
    }

    /// Adds a text.
    pub(crate) fn push(
        &mut self,
        from: From<'_>,
        text: &[u8],
        at: Time,
        stream: Stream,
        is_cut: bool,
    ) {
        let bytes = &mut self.records;
        // The time of a text must not mark a group, whatever a runtime has written.
        let seconds = at.seconds.clamp(0, LAST_SECOND) as u32;
        header(bytes, seconds, at.nanos, 0);
        let is_flat = self.form == Records::Flat;
        infallible(write_map_len(
            bytes,
            2 + u32::from(is_cut) + u32::from(is_flat),
        ));
        pair(bytes, "log", text);
        pair(bytes, "stream", stream.name().as_bytes());
        if is_cut {
            pair(bytes, "_p", b"P");
        }
        if is_flat {
            infallible(write_str(bytes, "kubernetes"));
            kubernetes(bytes, from, &self.node);
        }
    }

    /// Takes the records since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let records = self.records.clone();
        self.records.clear();
        records
    }

    /// Completes a passage with its records.
    pub(crate) fn finish(
        &self,
        from: From<'_>,
        passage: &Passage,
        mut records: Vec<u8>,
    ) -> Vec<u8> {
        if self.is_flat() {
            return records;
        }
        let mut bytes = Vec::with_capacity(records.len() + 1024);
        header(&mut bytes, GROUP_START as u32, 0, 2);
        infallible(write_str(&mut bytes, "kubernetes"));
        kubernetes(&mut bytes, from, &self.node);
        infallible(write_str(&mut bytes, KEY));
        place(&mut bytes, passage);
        infallible(write_map_len(&mut bytes, 0));
        bytes.append(&mut records);
        header(&mut bytes, GROUP_END as u32, 0, 0);
        infallible(write_map_len(&mut bytes, 0));
        bytes
    }
}

/// Writes the beginning of an event, up to the entries of its metadata.
fn header(bytes: &mut Vec<u8>, seconds: u32, nanos: u32, metadata: u32) {
    infallible(write_array_len(bytes, 2));
    infallible(write_array_len(bytes, 2));
    // An extension of type 0 with 8 bytes.
    bytes.extend_from_slice(&[0xd7, 0x00]);
    bytes.extend_from_slice(&seconds.to_be_bytes());
    bytes.extend_from_slice(&nanos.to_be_bytes());
    infallible(write_map_len(bytes, metadata));
}

/// Writes the `kubernetes` map of a container.
fn kubernetes(bytes: &mut Vec<u8>, from: From<'_>, node: &str) {
    let From { id, labels } = from;
    let entries = [
        ("namespace_name", &*id.pod.namespace),
        ("pod_name", &*id.pod.pod),
        ("pod_id", &*id.pod.uid),
        ("container_name", &*id.container),
        ("host", node),
    ];
    let count = entries.len() as u32 + u32::from(labels.is_some());
    infallible(write_map_len(bytes, count));
    for (key, value) in entries {
        pair(bytes, key, value.as_bytes());
    }
    if let Some(labels) = labels {
        infallible(write_str(bytes, "labels"));
        infallible(write_map_len(bytes, labels.len() as u32));
        for (key, value) in labels {
            pair(bytes, key, value.as_bytes());
        }
    }
}

/// Writes the map that [`positions::Group`] describes.
fn place(bytes: &mut Vec<u8>, passage: &Passage) {
    let end = crate::position::entry(&passage.to);
    infallible(write_map_len(bytes, 5));
    for (key, number) in [
        ("begin", passage.begin),
        ("from", passage.from),
        ("to", end.place),
    ] {
        infallible(write_str(bytes, key));
        infallible(write_uint(bytes, number));
    }
    pair(bytes, "position", end.position.as_bytes());
    infallible(write_str(bytes, "last"));
    infallible(write_bool(bytes, passage.is_last));
}

/// Writes a key and a text, which need not be valid UTF-8.
fn pair(bytes: &mut Vec<u8>, key: &str, text: &[u8]) {
    infallible(write_str(bytes, key));
    infallible(write_str_len(bytes, text.len() as u32));
    bytes.extend_from_slice(text);
}

fn infallible<T, E: std::fmt::Debug>(result: Result<T, E>) {
    result.expect("writing to memory never fails");
}

#[cfg(test)]
mod tests {
    use mapper::chunk::{LogEvent, LogEvents, Value};
    use reader::Position;
    use reader::pod_folder::PodFolder;

    use super::*;

    fn id() -> ContainerId {
        let pod = PodFolder::parse("shop_web_2f6b0c9e-0000-4000-8000-000000000001");
        ContainerId {
            pod: pod.unwrap(),
            container: "app".to_owned(),
        }
    }

    fn passage() -> Passage {
        Passage {
            begin: 40,
            from: 48,
            to: Position::beginning(20, 0),
            is_last: false,
        }
    }

    const AT: Time = Time {
        seconds: 1_772_366_400,
        nanos: 123,
    };

    #[test]
    fn a_group_has_the_container_and_the_place() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let id = id();
        let from = From {
            id: &id,
            labels: Some(&labels),
        };
        let mut encoder = Encoder::new(Records::Group, "node-1".to_owned());
        assert_eq!(encoder.tag(&id), "ns.shop");
        for _ in 0..2 {
            encoder.push(from, b"a\xff", AT, Stream::Stdout, false);
            encoder.push(from, b"b", AT, Stream::Stderr, true);
            let records = encoder.take();
            let bytes = encoder.finish(from, &passage(), records);
            let events: Vec<LogEvent<'_>> = LogEvents::new(&bytes, b"log").collect();
            let [
                LogEvent::GroupStart(start),
                LogEvent::Record(one),
                LogEvent::Record(two),
                LogEvent::GroupEnd,
            ] = events[..]
            else {
                panic!("{events:?}");
            };
            let text = |key: &str| start.kubernetes.unwrap().get(key.as_bytes());
            for (key, value) in [
                ("namespace_name", "shop"),
                ("pod_name", "web"),
                ("pod_id", "2f6b0c9e-0000-4000-8000-000000000001"),
                ("container_name", "app"),
                ("host", "node-1"),
            ] {
                assert_eq!(text(key), Some(Value::Text(value.as_bytes())), "{key}");
            }
            let Some(Value::Map(labels)) = text("labels") else {
                panic!("no labels");
            };
            assert_eq!(labels.get(b"app"), Some(Value::Text(b"web")));
            let place = start.place.unwrap();
            assert_eq!(
                (place.begin, place.from, place.to, place.is_last),
                (40, 48, 80, false)
            );
            assert_eq!(crate::position::decode(place.position), Some(passage().to));
            assert_eq!(one.fields.message, Some(Value::Text(b"a\xff")));
            let time = one.time.unwrap();
            assert_eq!((time.seconds, time.nanos), (AT.seconds, AT.nanos));
            assert_eq!(two.body.get(b"stream"), Some(Value::Text(b"stderr")));
            assert_eq!(two.body.get(b"_p"), Some(Value::Text(b"P")));
        }
    }

    #[test]
    fn no_text_has_the_time_of_a_marker() {
        let id = id();
        let from = From {
            id: &id,
            labels: None,
        };
        let mut encoder = Encoder::new(Records::Group, "node-1".to_owned());
        let wrapped = i64::from(u32::MAX);
        for (seconds, expected) in [
            (-1, 0),
            (-2, 0),
            (i64::MIN, 0),
            (wrapped, wrapped - 2),
            (wrapped - 1, wrapped - 2),
            (i64::MAX, wrapped - 2),
        ] {
            let at = Time { seconds, nanos: 0 };
            encoder.push(from, b"a", at, Stream::Stdout, false);
            let records = encoder.take();
            let bytes = encoder.finish(from, &passage(), records);
            let events: Vec<LogEvent<'_>> = LogEvents::new(&bytes, b"log").collect();
            let [
                LogEvent::GroupStart(_),
                LogEvent::Record(record),
                LogEvent::GroupEnd,
            ] = events[..]
            else {
                panic!("{seconds}: {events:?}");
            };
            assert_eq!(record.time.unwrap().seconds, expected);
        }
    }

    #[test]
    fn flat_records_have_the_container_each() {
        let id = id();
        let from = From {
            id: &id,
            labels: None,
        };
        let mut encoder = Encoder::new(Records::Flat, "node-1".to_owned());
        let tag = encoder.tag(&id);
        let identity = mapper::identity::Identity::from_tag(&tag).unwrap();
        assert_eq!(
            (identity.namespace, identity.pod, identity.container),
            ("shop", "web", "app")
        );
        encoder.push(from, b"a", AT, Stream::Stdout, false);
        let records = encoder.take();
        let bytes = encoder.finish(from, &passage(), records);
        let mut events = LogEvents::new(&bytes, b"log");
        let Some(LogEvent::Record(record)) = events.next() else {
            panic!("no record");
        };
        let kubernetes = record.fields.container.kubernetes.unwrap();
        assert_eq!(kubernetes.get(b"pod_name"), Some(Value::Text(b"web")));
        assert_eq!(events.next(), None);
    }
}
