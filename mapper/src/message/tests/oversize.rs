//! Tests of messages that exceed `max_message_size`.

use super::*;

/// Returns the number and count in a message's part element.
fn part(message: &Message) -> Option<(usize, usize)> {
    let number = |name| message.param("part@47450", name)?.parse().ok();
    let element = message.structured_data.last()?;
    if element.id != "part@47450" {
        assert_eq!(message.param("part@47450", "number"), None);
        return None;
    }
    assert_eq!(element.params.len(), 2);
    Some((number("number")?, number("count")?))
}

#[test]
fn a_long_message_is_split_truncated_or_dropped() {
    let text = "€".repeat(10_000);
    let chunk = event(line(&text));
    let (messages, tally) = map_all(&mapper(&[]), TAG, &chunk);
    let joined: String = messages.iter().map(Message::text).collect();
    assert_eq!(joined, text);
    assert_eq!(messages.len(), 4);
    assert_eq!(tally.count(LossReason::Split), 1);
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(message.structured_data.len(), 2);
        assert_eq!(message.structured_data[0], messages[0].structured_data[0]);
        assert_eq!(part(message), Some((number, 4)));
    }

    let (messages, tally) = map_all(&mapper(&[("oversize", "truncate")]), TAG, &chunk);
    assert_eq!(messages.len(), 1);
    assert!(text.starts_with(messages[0].text()));
    assert_eq!(part(&messages[0]), None);
    assert_eq!(tally.count(LossReason::Truncated), 1);

    let (messages, tally) = map_all(&mapper(&[("oversize", "drop")]), TAG, &chunk);
    assert!(messages.is_empty());
    assert_eq!(tally.count(LossReason::Oversize), 1);
}

#[test]
fn a_message_of_ten_mebibytes_is_split() {
    let text = "0123456789".repeat(1024 * 1024);
    let (messages, _) = map_all(
        &mapper(&[("max_message_size", "64k")]),
        TAG,
        &event(line(&text)),
    );
    let joined: String = messages.iter().map(Message::text).collect();
    assert_eq!(joined, text);
    assert!(messages.len() > 100);
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(part(message), Some((number, messages.len())));
    }
}

#[test]
fn the_smallest_size_has_room_for_the_text() {
    let keys = [
        ("max_message_size", "1024"),
        ("sanitizehost", "off"),
        ("hostname", "$long"),
        ("app_name", "$long"),
        ("procid", "$long"),
        ("msgid", "$long"),
        (
            "structured_data",
            r#"[a@1 x="$long"][b@1 x="$long"][c@1 x="y"]"#,
        ),
    ];
    let body = map(vec![
        ("log", "x".repeat(2000).into()),
        ("long", "y".repeat(3000).into()),
        ("kubernetes", kubernetes(vec![("app", "web".into())])),
    ]);
    let (messages, tally) = map_all(&mapper(&keys), TAG, &event(body));
    let joined: String = messages.iter().map(Message::text).collect();
    assert_eq!(joined, "x".repeat(2000));
    assert!(tally.count(LossReason::ParamOmitted) > 0);
}

#[test]
fn a_message_without_structured_data_is_split() {
    let text = "x".repeat(20_000);
    let chunk = event(line(&text));
    for (keys, tag) in [
        (vec![("kubernetes_structured_data", "off")], TAG),
        (vec![], "no.container"),
    ] {
        let (messages, _) = map_all(&mapper(&keys), tag, &chunk);
        let joined: String = messages.iter().map(Message::text).collect();
        assert_eq!(joined, text);
        for (number, message) in (1..).zip(&messages) {
            assert_eq!(message.structured_data.len(), 1);
            assert_eq!(part(message), Some((number, messages.len())));
        }
    }
}

#[test]
fn a_message_that_just_fits_is_not_split() {
    let size = |text: usize| {
        let (messages, tally) = map_all(&mapper(&[]), TAG, &event(line(&"x".repeat(text))));
        assert_eq!(
            tally.count(LossReason::Split),
            u64::from(messages.len() > 1)
        );
        messages.iter().map(part).collect::<Vec<_>>()
    };
    let mut batch = Batch::new(Framing::Datagram);
    let empty = event(line(""));
    mapper(&[]).map_chunk(TAG, &empty, &mut batch, &mut Workspace::default());
    let room = 8000 - batch.bytes().len();
    assert_eq!(size(room), [None]);
    assert_eq!(size(room + 1), [Some((1, 2)), Some((2, 2))]);
}

/// The digits of the part count reduce the room for the text at each power of ten.
#[test]
fn part_counts_of_all_widths_fit() {
    let mapper = mapper(&[("max_message_size", "1024")]);
    let mut counts = Vec::new();
    for length in (0..9000).step_by(97).chain((80_000..84_000).step_by(350)) {
        let text = "x".repeat(length);
        let (messages, _) = map_all(&mapper, TAG, &event(line(&text)));
        let joined: String = messages.iter().map(Message::text).collect();
        assert_eq!(joined, text);
        if messages.len() > 1 {
            for (number, message) in (1..).zip(&messages) {
                assert_eq!(part(message), Some((number, messages.len())));
            }
        }
        counts.push(messages.len());
    }
    assert!(
        [9, 10, 11, 99, 100, 101]
            .iter()
            .all(|count| counts.contains(count))
    );
}

/// Generates texts with characters of all lengths and with invalid UTF-8.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"plain ".to_vec()),
        "\\PC{1,8}".prop_map(String::into_bytes),
        Just("\u{feff}".as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..6),
    ];
    (proptest::collection::vec(piece, 0..40), 1_usize..60)
        .prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

proptest! {
    #[test]
    fn the_parts_contain_the_complete_text(
        text in any_text(),
        size in 1024_usize..9000,
        keys in proptest::sample::subsequence(
            vec![
                ("bom", "on"),
                ("kubernetes_structured_data", "off"),
                ("structured_data", "[id@1 a=\"$log\"]"),
                ("hostname", "$log"),
            ],
            0..=4,
        ),
    ) {
        let size = size.to_string();
        let keys = [&[("max_message_size", size.as_str())], keys.as_slice()].concat();
        let body = map(vec![("log", Rmpv::Binary(text.clone()))]);
        // Checks that no part exceeds the limit, and that the strict parser accepts it.
        let (messages, tally) = map_all(&mapper(&keys), TAG, &event(body));

        let has_bom = keys.contains(&("bom", "on"));
        let mut joined = String::new();
        for message in &messages {
            // The parser takes a U+FEFF at the start of a text for a byte order mark.
            joined.push_str(if message.bom && !has_bom { "\u{feff}" } else { "" });
            joined.push_str(message.text());
        }
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        prop_assert_eq!(joined, String::from_utf8_lossy(text));

        prop_assert_eq!(tally.count(LossReason::Split), u64::from(messages.len() > 1));
        for (number, message) in (1..).zip(&messages) {
            let expected = (messages.len() > 1).then_some((number, messages.len()));
            prop_assert_eq!(part(message), expected);
        }
    }
}
