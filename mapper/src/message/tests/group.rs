//! Tests of identities that come from groups.

use super::*;

/// Returns a marker with the metadata of a group.
fn marker(seconds: i32, metadata: Vec<(&str, Rmpv)>) -> Vec<u8> {
    let time = [seconds.to_be_bytes(), [0; 4]].concat();
    let header = Rmpv::Array(vec![Rmpv::Ext(0, time), map(metadata)]);
    let mut bytes = Vec::new();
    let event = Rmpv::Array(vec![header, map(vec![])]);
    rmpv::encode::write_value(&mut bytes, &event).unwrap();
    bytes
}

fn start(namespace: &str, pod: &str) -> Vec<u8> {
    let kubernetes = map(vec![
        ("namespace_name", namespace.into()),
        ("pod_name", pod.into()),
        ("container_name", "app".into()),
        ("host", "node-1".into()),
        ("labels", map(vec![("app", pod.into())])),
    ]);
    marker(-1, vec![("kubernetes", kubernetes)])
}

fn end() -> Vec<u8> {
    marker(-2, vec![])
}

/// Returns a record that claims another identity.
fn claiming(text: &str) -> Vec<u8> {
    event(map(vec![
        ("log", text.into()),
        ("kubernetes", kubernetes(vec![("app", "claimed".into())])),
    ]))
}

const GROUPED: (&str, &str) = ("identity", "group");

#[test]
fn records_have_the_identity_node_and_labels_of_their_group() {
    let keys = [
        GROUPED,
        ("msgid", "$kubernetes['labels']['app']"),
        ("procid", "$kubernetes['pod_name']"),
    ];
    let chunk = [
        start("shop", "web"),
        event(line("1")),
        claiming("2"),
        end(),
        start("bank", "db"),
        claiming("3"),
        end(),
    ];
    let (messages, tally) = map_all(&mapper(&keys), "pods", &chunk.concat());
    assert!(tally.is_clean(), "{tally:?}");
    let found: Vec<[&str; 5]> = messages
        .iter()
        .map(|message| {
            [
                message.text(),
                message.app_name.as_deref().unwrap(),
                message.hostname.as_deref().unwrap(),
                message.msgid.as_deref().unwrap(),
                message.procid.as_deref().unwrap(),
            ]
        })
        .collect();
    assert_eq!(
        found,
        [
            ["1", "pod.log/shop/web/app", "node-1", "web", "web"],
            ["2", "pod.log/shop/web/app", "node-1", "web", "web"],
            ["3", "pod.log/bank/db/app", "node-1", "db", "db"],
        ]
    );
    let label = messages[2].param("kubernetes@47450", "app");
    assert_eq!(label, Some("db"));
}

#[test]
fn a_namespace_gets_only_the_records_of_its_groups() {
    let chunk = [
        claiming("before any group"),
        start("shop", "web"),
        claiming("1"),
        end(),
        claiming("between groups"),
        start("claimed", "web"),
        event(line("2")),
        end(),
        // A group without the map.
        marker(-1, vec![("otlp", map(vec![]))]),
        claiming("unknown"),
    ];
    for (namespace, expected) in [("shop", "1"), ("claimed", "2")] {
        let keys = [GROUPED, ("namespace", namespace)];
        let (messages, tally) = map_all(&mapper(&keys), "pods", &chunk.concat());
        let texts: Vec<&str> = messages.iter().map(Message::text).collect();
        assert_eq!(
            (&*texts, tally.count(LossReason::Refused)),
            (&[expected][..], 4)
        );
    }
    // Without a group, templates find nothing in the record.
    let keys = [GROUPED, ("msgid", "$kubernetes['labels']['app']")];
    let (messages, _) = map_all(&mapper(&keys), "pods", &chunk.concat());
    assert_eq!(messages[0].msgid, None);
    assert_eq!(messages[0].param("kubernetes@47450", "app"), None);
}

/// A container writes the bytes of a group, and the chunk is damaged before them.
#[test]
fn after_damage_no_group_is_trusted() {
    let forged = [
        event(line("anything")),
        start("victim", "web"),
        event(line("forged")),
    ]
    .concat();
    let text = map(vec![("log", Rmpv::Binary(forged))]);
    let chunk = [start("shop", "web"), event(text), end()].concat();
    let keys = [GROUPED, ("namespace", "victim")];
    let mapper = mapper(&keys);
    for at in 0..chunk.len() {
        let mut damaged = chunk.clone();
        damaged[at] = 0xc1;
        let (messages, _) = map_all(&mapper, "pods", &damaged);
        assert!(messages.is_empty(), "byte {at}: {messages:?}");
    }
}

#[test]
fn without_identity_group_groups_have_no_effect() {
    let chunk = [start("shop", "web"), event(line("1")), end()].concat();
    for (keys, tag, expected) in [
        (&[("namespace", "shop")][..], "pods", 0),
        (&[("namespace", "shop"), ("identity", "record")], "pods", 0),
        (&[("identity", "none")], "pods", 1),
        (&[("namespace", "shop")], TAG, 1),
    ] {
        let (messages, _) = map_all(&mapper(keys), tag, &chunk);
        assert_eq!(messages.len(), expected, "{keys:?} {tag}");
    }
}
