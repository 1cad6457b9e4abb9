//! Comparisons with the messages that the plugin of PKS (TKGI) created from the same
//! records, byte for byte. docs/MIGRATION.md lists the differences.

use super::*;

/// Removes the differences that all messages have: PKS wrote `+00:00` instead of `Z`,
/// no trailing zeros in a second's fraction, and a line feed after each text.
fn normalize(pks: &str) -> String {
    let pks = pks.strip_suffix('\n').unwrap();
    let (time, rest) = pks.split_once("+00:00 ").unwrap();
    let (second, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{second}.{fraction:0<6}Z {rest}")
}

fn bytes(tag: &str, nanos: u32, body: Rmpv) -> String {
    let keys = [("instancename", "sink"), ("cluster", "true")];
    let chunk = rig::event::event(1_772_366_400, nanos, body);
    let mut batch = Batch::new(Framing::Datagram);
    mapper(&keys).map_chunk(tag, &chunk, &mut batch, &mut Workspace::default());
    String::from_utf8(batch.bytes().to_vec()).unwrap()
}

fn container_record(host: &str, labels: Vec<(&str, Rmpv)>, more: Vec<(&str, Rmpv)>) -> Rmpv {
    let kubernetes = map(vec![
        ("pod_name", "web-0".into()),
        ("namespace_name", "shop".into()),
        ("container_name", "nginx".into()),
        ("host", host.into()),
        ("labels", map(labels)),
    ]);
    map([vec![("kubernetes", kubernetes)], more].concat())
}

#[test]
fn messages_equal_those_of_pks() {
    let app = |value: &str| vec![("app", value.into())];
    let log = |text: &str| vec![("log", text.into())];
    let event = map(vec![
        ("log", "Back-off\n".into()),
        (
            "kubernetes",
            map(vec![
                ("pod_name", "web-0".into()),
                ("namespace_name", "shop".into()),
                ("container_name", "nginx".into()),
                ("host", "node-1".into()),
            ]),
        ),
    ]);
    for (tag, nanos, body, pks) in [
        (
            TAG,
            123_456_789,
            container_record("node-1", app("web"), log("hello\n")),
            "<14>1 2026-03-01T12:00:00.123456+00:00 node-1 pod.log/shop/web-0/nginx - - \
             [kubernetes@47450 app=\"web\" namespace_name=\"shop\" object_name=\"web-0\" \
             container_name=\"nginx\" vm_id=\"node-1\"] hello\n",
        ),
        (
            TAG,
            100_000_000,
            container_record("node-1", app("web"), log("hello")),
            "<14>1 2026-03-01T12:00:00.1+00:00 node-1 pod.log/shop/web-0/nginx - - \
             [kubernetes@47450 app=\"web\" namespace_name=\"shop\" object_name=\"web-0\" \
             container_name=\"nginx\" vm_id=\"node-1\"] hello\n",
        ),
        (
            TAG,
            0,
            container_record(
                "node_7",
                app("a\"b]c\\d"),
                vec![
                    ("log", "a\nb\0c\n".into()),
                    ("cluster_name", "prod.eu".into()),
                ],
            ),
            "<14>1 2026-03-01T12:00:00+00:00 prod.eu pod.log/shop/web-0/nginx - - \
             [kubernetes@47450 app=\"a\\\"b\\]c\\\\d\" namespace_name=\"shop\" object_name=\"web-0\" \
             container_name=\"nginx\" vm_id=\"node_7\"] a\nb\0c\n",
        ),
        (
            TAG,
            0,
            container_record("a b", vec![("number", 7.into())], log("ERROR: x\n")),
            "<14>1 2026-03-01T12:00:00+00:00 a-b pod.log/shop/web-0/nginx - - \
             [kubernetes@47450 namespace_name=\"shop\" object_name=\"web-0\" \
             container_name=\"nginx\" vm_id=\"a b\"] ERROR: x\n",
        ),
        (
            "k8s.event",
            0,
            event,
            "<14>1 2026-03-01T12:00:00+00:00 node-1 k8s.event/shop/web-0/nginx - - \
             [kubernetes@47450 namespace_name=\"shop\" object_name=\"web-0\" \
             container_name=\"nginx\" vm_id=\"node-1\"] Back-off\n",
        ),
    ] {
        assert_eq!(bytes(tag, nanos, body), normalize(pks));
    }
}

/// Differences that receivers may notice after a migration from PKS.
#[test]
fn unusual_records_differ_from_pks() {
    let ours = |host: &str, labels, log: Rmpv| {
        bytes(TAG, 0, container_record(host, labels, vec![("log", log)]))
    };
    // PKS wrote ode-7.xample.com-80.
    let text = ours("-Node_7-.Example.com:80-", vec![], "x".into());
    assert!(
        text.contains(" -Node-7-.Example.com:80- pod.log/"),
        "{text}"
    );
    // PKS wrote statefulset.kubernetes.io/pod-name.
    let key = "statefulset.kubernetes.io/pod-name";
    let text = ours("n", vec![(key, "web-0".into())], "x".into());
    assert!(
        text.contains(" .kubernetes.io/pod-name~4e0ce825=\"web-0\""),
        "{text}"
    );
    // PKS lost both and closed the connection.
    let labels = vec![("a b", "v".into()), ("app", Rmpv::Binary(b"\xff".to_vec()))];
    let text = ours("n", labels, "x".into());
    assert!(
        text.contains(" a_b~10a3f9f2=\"v\" app=\"\u{fffd}\""),
        "{text}"
    );
    // PKS wrote an empty MSG.
    assert!(ours("n", vec![], map(vec![("a", 1.into())])).ends_with("] {\"a\":1}"));
    // PKS kept the carriage return and the byte.
    assert!(ours("n", vec![], "a\r\n".into()).ends_with("] a"));
    let latin = Rmpv::Binary(b"caf\xe9".to_vec());
    assert!(ours("n", vec![], latin).ends_with("] caf\u{fffd}"));
}
