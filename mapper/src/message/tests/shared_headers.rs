//! Tests of the cache of shared headers.

use super::*;

#[test]
fn a_kubernetes_key_that_is_not_a_map_is_not_cached() {
    let body = |name: &str| map(vec![("log", "x".into()), ("kubernetes", name.into())]);
    let chunk = [event(body("one")), event(body("two"))].concat();
    let (messages, _) = map_all(&mapper(&[("hostname", "$kubernetes")]), TAG, &chunk);
    let hostnames: Vec<&str> = messages
        .iter()
        .filter_map(|m| m.hostname.as_deref())
        .collect();
    assert_eq!(hostnames, ["one", "two"]);
}

/// Generates records of several containers and agents.
fn any_body() -> impl Strategy<Value = Rmpv> {
    let label = prop_oneof![Just("web"), Just("db")];
    let host = prop_oneof![Just("node-1"), Just("node-2")];
    let kubernetes = proptest::option::of((host, label).prop_map(|(host, label)| {
        map(vec![
            ("host", host.into()),
            ("namespace_name", "shop".into()),
            ("labels", map(vec![("app", label.into())])),
        ])
    }));
    let name = || proptest::option::of(prop_oneof![Just("a"), Just("b")]);
    (kubernetes, name(), name(), name(), "[a-z]{0,9}").prop_map(
        |(kubernetes, cluster, vm, user, log)| {
            let mut entries = vec![("log", log.into())];
            entries.extend(kubernetes.map(|map| ("kubernetes", map)));
            entries.extend(cluster.map(|name| ("cluster_name", name.into())));
            entries.extend(vm.map(|name| ("vm_id", name.into())));
            entries.extend(user.map(|name| ("user", name.into())));
            map(entries)
        },
    )
}

proptest! {
    #[test]
    fn a_record_is_mapped_independently_of_its_chunk(
        bodies in proptest::collection::vec(any_body(), 1..8),
        keys in proptest::option::of(proptest::sample::select(vec![
            ("identity", "record"),
            ("record_cluster_name", "off"),
            ("app_name", "$kubernetes['labels']['app'] ?? 'none'"),
            ("procid", "$user"),
            ("structured_data", "[id@1 user=\"$user\"]"),
        ])),
    ) {
        let mapper = mapper(keys.as_slice());
        let alone: Vec<Message> = bodies
            .iter()
            .flat_map(|body| map_all(&mapper, TAG, &event(body.clone())).0)
            .collect();
        let chunk: Vec<u8> = bodies.into_iter().flat_map(event).collect();
        prop_assert_eq!(map_all(&mapper, TAG, &chunk).0, alone);
    }
}

/// Generates records of pods that differ in a label, in their size, or in the type of
/// `kubernetes`.
fn any_pod() -> impl Strategy<Value = Rmpv> {
    let label = (0_usize..3, prop_oneof![Just(1_usize), Just(200), Just(900)]);
    let pod = (0_u8..4, proptest::collection::vec(label, 0..3)).prop_map(|(pod, labels)| {
        let labels = labels
            .into_iter()
            .map(|(key, length)| (["app", "b", "c"][key], "v".repeat(length).into()));
        map(vec![
            ("pod_name", format!("web-{pod}").into()),
            ("namespace_name", "shop".into()),
            ("labels", map(labels.collect())),
        ])
    });
    let kubernetes = prop_oneof![8 => pod, 1 => Just(map(vec![])), 1 => Just("text".into())];
    let name = proptest::option::of(prop_oneof![Just("a"), Just("")]);
    (proptest::option::of(kubernetes), name, "[a-z]{0,9}").prop_map(|(kubernetes, cluster, log)| {
        let mut entries = vec![("log", log.into())];
        entries.extend(kubernetes.map(|map| ("kubernetes", map)));
        entries.extend(cluster.map(|name| ("cluster_name", name.into())));
        map(entries)
    })
}

proptest! {
    /// Uses few kinds of records and many of each, so that nearly all shared headers
    /// come from the cache.
    #[test]
    fn a_cached_shared_header_equals_a_new_one(
        bodies in proptest::collection::vec(any_pod(), 1..40),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..120),
        keys in proptest::option::of(proptest::sample::select(vec![
            ("record_cluster_name", "off"),
            ("app_name", "$kubernetes['labels']['app'] ?? 'none'"),
            ("hostname", "$kubernetes"),
            ("max_message_size", "1024"),
        ])),
    ) {
        let keys: Vec<_> = keys.into_iter().chain([("identity", "record")]).collect();
        let mapper = mapper(&keys);
        let events: Vec<Vec<u8>> = bodies.into_iter().map(event).collect();
        let events: Vec<&[u8]> = order.iter().map(|at| at.get(&events).as_slice()).collect();
        let frames = |chunk: &[u8], space: &mut Workspace| {
            let mut batch = Batch::new(Framing::OctetCounting);
            let tally = mapper.map_chunk("forwarded", chunk, &mut batch, space);
            (batch.bytes().to_vec(), tally)
        };
        let mut alone = (Vec::new(), Tally::default());
        for event in &events {
            let (bytes, tally) = frames(event, &mut Workspace::default());
            alone.0.extend(bytes);
            alone.1.merge(&tally);
        }
        let mut space = Workspace::default();
        prop_assert_eq!(&frames(&events.concat(), &mut space), &alone);
        prop_assert_eq!(&frames(&events.concat(), &mut space), &alone);
    }
}
