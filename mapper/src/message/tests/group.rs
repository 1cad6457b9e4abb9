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

/// Returns the start of a group of the input that reads pod logs.
fn placed(pod: &str, from: u64, to: u64) -> Vec<u8> {
    let kubernetes = map(vec![
        ("namespace_name", "shop".into()),
        ("pod_name", pod.into()),
        ("pod_id", format!("uid-of-{pod}").into()),
        ("container_name", "app".into()),
    ]);
    let place = map(vec![
        ("begin", 5.into()),
        ("from", from.into()),
        ("to", to.into()),
        ("position", "here".into()),
        ("last", (to == from).into()),
    ]);
    marker(-1, vec![("kubernetes", kubernetes), ("pod_logs", place)])
}

#[test]
fn groups_that_are_not_wanted_are_skipped() {
    let chunk = [
        placed("web", 5, 10),
        event(line("1")),
        end(),
        placed("db", 10, 20),
        event(line("2")),
        event(line("3")),
        end(),
        placed("web", 20, 20),
        end(),
        start("shop", "web"),
        event(line("4")),
    ]
    .concat();
    let mut batch = Batch::new(Framing::Newline);
    let mut asked = Vec::new();
    let space = &mut Workspace::default();
    let tally = mapper(&[GROUPED]).map_groups("pods", &chunk, &mut batch, space, |group| {
        asked.push(*group);
        group.uid == "uid-of-web"
    });
    // Those of other inputs are not asked for.
    assert_eq!((tally.messages, tally.is_clean()), (2, true));
    let group = |uid, from, to, is_last| positions::Group {
        uid,
        container: "app",
        begin: 5,
        from,
        to,
        position: "here",
        is_last,
    };
    assert_eq!(
        asked,
        [
            group("uid-of-web", 5, 10, false),
            group("uid-of-db", 10, 20, false),
            group("uid-of-web", 20, 20, true),
        ]
    );
}

/// Such a group is not asked for, so that the output does not take it.
#[test]
fn after_damage_no_group_is_wanted() {
    let chunk = [
        &[0xc1][..],
        &placed("web", 5, 10),
        &event(line("1")),
        &end(),
    ]
    .concat();
    let mut batch = Batch::new(Framing::Newline);
    let space = &mut Workspace::default();
    let tally = mapper(&[GROUPED]).map_groups("pods", &chunk, &mut batch, space, |_| {
        panic!("not to be asked");
    });
    assert!(!tally.is_clean());
}

#[test]
fn groups_outside_the_scope_are_taken_but_not_sent() {
    let chunk = [
        placed("web", 5, 10),
        event(line("1")),
        end(),
        placed("db", 10, 20),
        event(line("2")),
        end(),
    ]
    .concat();
    for (key, value, expected) in [
        ("namespaces", "shop", 2),
        ("namespaces", "bank", 0),
        ("exclude_namespaces", "shop", 0),
        ("exclude_pods", "shop/w*", 1),
    ] {
        let mapper = mapper(&[GROUPED, ("cluster", "on"), (key, value)]);
        let mut batch = Batch::new(Framing::Newline);
        let (mut taken, space) = (0, &mut Workspace::default());
        let tally = mapper.map_groups("pods", &chunk, &mut batch, space, |_| {
            taken += 1;
            true
        });
        assert_eq!((tally.messages, taken), (expected, 2), "{key} {value}");
    }
}
