use std::collections::HashMap;

use proptest::prelude::*;
use receiver::message::parse;
use receiver::{Message, Splitter};
use rig::event::map;
use rmpv::Value as Rmpv;
use syslog::Framing;

use super::*;
use crate::config::Properties;

mod framing;
mod group;
mod isolation;
mod oversize;
mod pks;
mod shared_headers;

const TAG: &str = "kube.var.log.containers.web-0_shop_nginx-\
                   0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.log";

struct Keys<'a>(HashMap<&'a str, &'a str>);

impl Properties for Keys<'_> {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|value| (*value).to_owned())
    }
}

fn mapper(keys: &[(&str, &str)]) -> Mapper {
    let mut all = HashMap::from([("servers", "localhost"), ("transport", "tcp")]);
    all.extend(keys.iter().copied());
    if !all.contains_key("namespace") && all.get("identity") != Some(&"none") {
        all.insert("cluster", "on");
    }
    Mapper::new(&Config::parse(&Keys(all)).unwrap(), "machine".to_owned())
}

fn kubernetes(labels: Vec<(&str, Rmpv)>) -> Rmpv {
    map(vec![
        ("host", "node-1".into()),
        ("pod_name", "claimed".into()),
        ("namespace_name", "claimed".into()),
        ("labels", map(labels)),
    ])
}

/// Encodes a record with the time 2026-03-01T12:00:00.123456789Z.
fn event(body: Rmpv) -> Vec<u8> {
    rig::event::event(1_772_366_400, 123_456_789, body)
}

fn map_all(mapper: &Mapper, tag: &str, chunk: &[u8]) -> (Vec<Message>, Tally) {
    let mut batch = Batch::new(Framing::OctetCounting);
    let tally = mapper.map_chunk(tag, chunk, &mut batch, &mut Workspace::default());
    let mut splitter = Splitter::octet_counting(usize::MAX);
    splitter.push(batch.bytes());
    let mut messages = Vec::new();
    while let Some(frame) = splitter.next_frame().unwrap() {
        assert!(frame.len() <= mapper.layout.max_message_size);
        messages.push(parse(frame).unwrap());
    }
    assert!(!splitter.unfinished());
    assert_eq!(messages.len() as u64, tally.messages);
    (messages, tally)
}

fn map_one(keys: &[(&str, &str)], tag: &str, body: Rmpv) -> Message {
    let (messages, tally) = map_all(&mapper(keys), tag, &event(body));
    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(messages.len(), 1);
    messages.into_iter().next().unwrap()
}

fn line(text: &str) -> Rmpv {
    map(vec![("log", text.into()), ("stream", "stderr".into())])
}

#[test]
fn a_container_log_line_has_the_layout_of_pks() {
    let body = map(vec![
        ("log", "hello\n".into()),
        ("kubernetes", kubernetes(vec![("app", "web".into())])),
    ]);
    let message = map_one(&[], TAG, body);
    assert_eq!((message.facility, message.severity), (1, 6));
    assert_eq!(
        message.timestamp.as_ref().unwrap().text,
        "2026-03-01T12:00:00.123456Z"
    );
    assert_eq!(message.hostname.as_deref(), Some("node-1"));
    assert_eq!(
        message.app_name.as_deref(),
        Some("pod.log/shop/web-0/nginx")
    );
    assert_eq!(
        (message.procid.as_ref(), message.msgid.as_ref()),
        (None, None)
    );
    let params: Vec<(&str, &str)> = message.structured_data[0]
        .params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(message.structured_data[0].id, "kubernetes@47450");
    assert_eq!(
        params,
        [
            ("app", "web"),
            ("namespace_name", "shop"),
            ("object_name", "web-0"),
            ("container_name", "nginx"),
            ("vm_id", "node-1"),
        ]
    );
    assert_eq!(message.text(), "hello");
}

#[test]
fn other_records_have_sensible_defaults() {
    let message = map_one(&[], "app.audit", map(vec![("message", "hi".into())]));
    assert_eq!(message.hostname.as_deref(), Some("machine"));
    assert_eq!(message.app_name.as_deref(), Some("app.audit"));
    assert!(message.structured_data.is_empty());
    assert_eq!(message.text(), "hi");

    let message = map_one(
        &[],
        "metrics",
        map(vec![("cpu", 1.into()), ("ok", true.into())]),
    );
    assert_eq!(message.text(), r#"{"cpu":1,"ok":true}"#);
}

#[test]
fn events_of_pks_are_recognized_by_their_tag() {
    let kubernetes = map(vec![
        ("namespace_name", "shop".into()),
        ("pod_name", "web-0".into()),
    ]);
    let body = map(vec![("log", "Back-off".into()), ("kubernetes", kubernetes)]);
    let message = map_one(&[("namespace", "shop")], "k8s.event", body);
    assert_eq!(message.app_name.as_deref(), Some("k8s.event/shop/web-0"));
    assert_eq!(
        message.param("kubernetes@47450", "object_name"),
        Some("web-0")
    );
}

#[test]
fn the_cluster_name_takes_precedence_over_the_node() {
    let body = |cluster: &str| {
        map(vec![
            ("log", "x".into()),
            ("cluster_name", cluster.into()),
            ("vm_id", "forged".into()),
            ("kubernetes", kubernetes(vec![])),
        ])
    };
    let hostname = |keys: &[(&str, &str)], cluster| {
        let message = map_one(keys, TAG, body(cluster));
        assert_eq!(message.param("kubernetes@47450", "vm_id"), Some("node-1"));
        message.hostname.unwrap()
    };
    assert_eq!(hostname(&[], "Prod_1"), "Prod-1");
    assert_eq!(hostname(&[("sanitizehost", "off")], "Prod_1"), "Prod_1");
    assert_eq!(hostname(&[], ""), "node-1");
    // For pipelines in which a container can set the record's keys.
    let ignored = [("record_cluster_name", "off")];
    assert_eq!(hostname(&ignored, "forged"), "node-1");
}

#[test]
fn a_known_node_is_the_last_parameter() {
    let body = |host: Rmpv| {
        map(vec![
            ("log", "x".into()),
            ("kubernetes", map(vec![("host", host)])),
        ])
    };
    let last = |host: Rmpv| {
        let message = map_one(&[], TAG, body(host));
        assert_eq!(
            message.param("kubernetes@47450", "namespace_name"),
            Some("shop")
        );
        message.structured_data[0].params.last().unwrap().clone()
    };
    let node = |name: &str| ("vm_id".to_owned(), name.to_owned());
    let container = ("container_name".to_owned(), "nginx".to_owned());
    assert_eq!(last("Node_7".into()), node("Node_7"));
    assert_eq!(last("a\"]b".into()), node("a\"]b"));
    assert_eq!(last("".into()), container);
    assert_eq!(last(7.into()), container);
    // Longer than any host name, and than the limit of the structured data.
    assert_eq!(last("x".repeat(256).into()), container);
    assert_eq!(last("x".repeat(20_000).into()), container);
}

#[test]
fn severities_come_from_the_stream_a_keyword_or_a_template() {
    let severity = |keys: &[(&str, &str)], body| map_one(keys, TAG, body).severity;
    assert_eq!(severity(&[("severity", "stream")], line("x")), 3);
    assert_eq!(severity(&[("severity", "warning")], line("x")), 4);
    let levels = [("severity", "$level")];
    assert_eq!(severity(&levels, map(vec![("level", "WARN".into())])), 4);
    assert_eq!(severity(&levels, map(vec![("level", 50.into())])), 3);
    assert_eq!(severity(&levels, map(vec![("level", 40.0.into())])), 4);
    let texts = [("severity", "$log")];
    assert_eq!(severity(&texts, line("[error] no")), 3);
    assert_eq!(severity(&texts, line("ERROR: no")), 3);
    assert_eq!(
        severity(&texts, line("E1126 12:00:00.000000 1 a.go:1] no")),
        3
    );
    assert_eq!(severity(&texts, line("errors: 0")), 6);
    assert_eq!(severity(&levels, map(vec![("level", "?".into())])), 6);
    assert_eq!(severity(&[("severity", "$level ?? 'debug'")], line("x")), 7);
    let facility = map_one(&[("facility", "$f ?? 'local3'")], TAG, line("x")).facility;
    assert_eq!(facility, 19);
}

#[test]
fn templates_can_set_every_field() {
    let keys = [
        ("hostname", "$kubernetes['host'].example"),
        ("app_name", "$kubernetes['labels']['app'] ?? 'none'"),
        ("procid", "$pid"),
        ("msgid", "$TAG[0]"),
        ("message", "[$stream] $log"),
        ("timestamp", "$time"),
        (
            "structured_data",
            r#"[id@1 pod="$kubernetes['pod_name']" gone="$gone"]"#,
        ),
        ("kubernetes_structured_data", "off"),
        ("bom", "on"),
    ];
    let body = map(vec![
        ("log", "hello".into()),
        ("stream", "stdout".into()),
        ("pid", 42.into()),
        ("time", "2020-01-02T03:04:05+01:00".into()),
        ("kubernetes", kubernetes(vec![])),
    ]);
    let message = map_one(&keys, TAG, body);
    assert_eq!(message.hostname.as_deref(), Some("node-1.example"));
    assert_eq!(message.app_name.as_deref(), Some("none"));
    assert_eq!(message.procid.as_deref(), Some("42"));
    assert_eq!(message.msgid.as_deref(), Some("kube"));
    assert_eq!(
        message.timestamp.as_ref().unwrap().text,
        "2020-01-02T03:04:05.000000+01:00"
    );
    // The pod of the tag, not the one that the record claims.
    assert_eq!(message.structured_data.len(), 1);
    assert_eq!(message.param("id@1", "pod"), Some("web-0"));
    assert_eq!(message.param("id@1", "gone"), None);
    assert!(message.bom);
    assert_eq!(message.text(), "[stdout] hello");
}

#[test]
fn a_template_can_set_the_timestamp() {
    for (time, seconds, micros) in [
        (Rmpv::from(1_577_934_245), 1_577_934_245, 0),
        (Rmpv::from(1_577_934_245.25), 1_577_934_245, 250_000),
        (Rmpv::from("1577934245.5"), 1_577_934_245, 500_000),
        (Rmpv::from(1_577_934_245.000_001), 1_577_934_245, 1),
        (Rmpv::from("1577934245.123457"), 1_577_934_245, 123_457),
        (Rmpv::from(1_577_934_245_123_u64), 1_577_934_245, 123_000),
        (Rmpv::from(1_577_934_245_123.0), 1_577_934_245, 123_000),
        (
            Rmpv::from(1_577_934_245_123_456_u64),
            1_577_934_245,
            123_456,
        ),
        (
            Rmpv::from(1_577_934_245_123_456_789_u64),
            1_577_934_245,
            123_456,
        ),
        (Rmpv::from(1.577_934_245_123_456e18), 1_577_934_245, 123_456),
        // For other values, the record's own time.
        (Rmpv::from("yesterday"), 1_772_366_400, 123_456),
        (Rmpv::from("nan"), 1_772_366_400, 123_456),
        (Rmpv::from("-inf"), 1_772_366_400, 123_456),
        (Rmpv::from(f64::NAN), 1_772_366_400, 123_456),
        (Rmpv::from(f64::INFINITY), 1_772_366_400, 123_456),
        (Rmpv::from(-1), 1_772_366_400, 123_456),
        (Rmpv::from(1e30), 1_772_366_400, 123_456),
    ] {
        let body = map(vec![("log", "x".into()), ("t", time)]);
        let timestamp = map_one(&[("timestamp", "$t")], TAG, body)
            .timestamp
            .unwrap();
        assert_eq!((timestamp.seconds, timestamp.micros), (seconds, micros));
    }
}

#[test]
fn only_selected_records_are_mapped() {
    let records = |stream: &str| event(map(vec![("log", "x".into()), ("stream", stream.into())]));
    let chunk = [records("stdout"), records("stderr")].concat();
    for (keys, expected) in [
        (vec![], 2),
        (vec![("stream", "stderr")], 1),
        (vec![("containers", "ngin*")], 2),
        (vec![("containers", "other")], 0),
        (vec![("exclude_containers", "nginx")], 0),
    ] {
        let (messages, tally) = map_all(&mapper(&keys), TAG, &chunk);
        assert_eq!(messages.len(), expected, "{keys:?}");
        assert_eq!(tally.counts().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
