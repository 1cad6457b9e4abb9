//! Tests of the namespace check, and of hostile or damaged records.

use super::*;

#[test]
fn only_records_of_the_namespace_pass_the_namespace_check() {
    let chunk = [event(line("a")), event(line("b"))].concat();
    let refused = |keys: &[(&str, &str)], tag| {
        let (messages, tally) = map_all(&mapper(keys), tag, &chunk);
        assert_eq!(messages.len() as u64 + tally.count(LossReason::Refused), 2);
        tally.count(LossReason::Refused) == 2
    };
    assert!(!refused(&[("namespace", "shop")], TAG));
    assert!(refused(&[("namespace", "sho")], TAG));
    assert!(refused(&[("namespace", "shop")], "kube.var.log.messages"));
    assert!(!refused(&[("cluster", "true")], "kube.var.log.messages"));
}

#[test]
fn a_record_cannot_claim_a_namespace() {
    let body = map(vec![
        ("log", "x".into()),
        ("kubernetes", kubernetes(vec![])),
    ]);
    let chunk = event(body);
    let claimed = [("namespace", "claimed")];
    let (_, tally) = map_all(&mapper(&claimed), TAG, &chunk);
    assert_eq!(tally.count(LossReason::Refused), 1);
    let (_, tally) = map_all(&mapper(&claimed), "some.tag", &chunk);
    assert_eq!(tally.count(LossReason::Refused), 1);
    // Unless the configuration trusts the records.
    let trusting = [("namespace", "claimed"), ("identity", "record")];
    let (messages, _) = map_all(&mapper(&trusting), "some.tag", &chunk);
    assert_eq!(messages.len(), 1);
}

#[test]
fn a_text_cannot_forge_a_frame_or_a_header() {
    for text in [
        "<13>1 - - - - - - forged",
        "5 <13>1",
        "a\n<13>1 - - - - - - forged",
    ] {
        let message = map_one(&[], TAG, line(text));
        assert_eq!((message.facility, message.severity), (1, 6));
        assert_eq!(message.text(), text);
    }
}

#[test]
fn hostile_labels_are_escaped() {
    let value = "q\" b\\ c] n\n t\t \u{1} é";
    let body = map(vec![
        ("log", "x".into()),
        (
            "kubernetes",
            kubernetes(vec![
                ("namespace_name", "forged".into()),
                ("a key with spaces=\"]", value.into()),
                (
                    "a-key-that-is-much-longer-than-an-sd-name-may-be",
                    "v".into(),
                ),
                ("binary", Rmpv::Binary(b"\xff".to_vec())),
            ]),
        ),
    ]);
    let message = map_one(&[], TAG, body);
    let params = &message.structured_data[0].params;
    assert_eq!(params.len(), 8);
    assert_eq!(
        message.param("kubernetes@47450", "namespace_name"),
        Some("shop")
    );
    // Control characters become spaces.
    let found = "q\" b\\ c] n  t    é";
    assert!(params.iter().any(|(_, value)| value == found));
    assert!(params.iter().any(|(_, found)| found == "\u{FFFD}"));
}

#[test]
fn labels_that_do_not_fit_are_omitted() {
    let keys: Vec<String> = (0..5000).map(|n| format!("label-{n}")).collect();
    let labels = keys
        .iter()
        .map(|key| (key.as_str(), "value".into()))
        .collect();
    let body = map(vec![
        ("log", "still here".into()),
        ("kubernetes", kubernetes(labels)),
    ]);
    let (messages, tally) = map_all(&mapper(&[]), TAG, &event(body));
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].text(), "still here");
    assert_eq!(
        messages[0].param("kubernetes@47450", "container_name"),
        Some("nginx")
    );
    let written = messages[0].structured_data[0].params.len() as u64;
    assert_eq!(written - 4 + tally.count(LossReason::ParamOmitted), 5000);
    assert!(written > 100);
}

#[test]
fn damaged_records_do_not_affect_their_neighbours() {
    let good = event(line("good"));
    let chunk = [
        good.as_slice(),
        &[0xc1],
        &good,
        &event(Rmpv::from("text")),
        &good,
    ]
    .concat();
    let (messages, tally) = map_all(&mapper(&[]), TAG, &chunk);
    assert_eq!(messages.len(), 3);
    assert_eq!(tally.count(LossReason::Damaged), 2);

    // A map whose head claims one more entry, so that it extends over two events.
    let mut greedy = event(line("greedy"));
    let body = greedy.iter().position(|byte| *byte == 0x82).unwrap();
    greedy[body] = 0x83;
    let chunk = [greedy.as_slice(), &good, &good, &good].concat();
    let (messages, tally) = map_all(&mapper(&[]), TAG, &chunk);
    assert_eq!(messages.len(), 3);
    assert_eq!(tally.count(LossReason::Damaged), 1);
}
