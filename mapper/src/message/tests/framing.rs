//! Newline framing: control characters in a record.

use super::*;

/// Maps a record, and returns the messages that a receiver reads which ends a message
/// at any control character.
fn lines(keys: &[(&str, &str)], body: Rmpv) -> Vec<Message> {
    let keys = [&[("framing", "newline")], keys].concat();
    let mapper = mapper(&keys);
    let mut batch = Batch::new(Framing::Newline);
    let tally = mapper.map_chunk(TAG, &event(body), &mut batch, &mut Workspace::default());
    let stream = String::from_utf8(batch.bytes().to_vec()).unwrap();
    let ends = |c: char| {
        c.is_ascii_control() && c != '\t' || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let lines: Vec<&str> = stream.split_terminator(ends).collect();
    assert_eq!(lines.len() as u64, tally.messages, "{stream:?}");
    lines
        .into_iter()
        .map(|line| {
            assert!(line.len() <= mapper.layout.max_message_size);
            parse(line.as_bytes()).unwrap()
        })
        .collect()
}

fn text(keys: &[(&str, &str)], text: &str) -> String {
    let lines = lines(keys, line(text));
    assert_eq!(lines.len(), 1);
    lines[0].text().to_owned()
}

const ESCAPE: [(&str, &str); 1] = [("control_characters", "escape")];

#[test]
fn control_characters_become_spaces_or_escapes() {
    let hostile = "a\nb\r\0c\td\u{85}\u{2028}e\\n\r\n";
    assert_eq!(text(&[], hostile), "a b  c\td     e\\n");
    assert_eq!(
        text(&ESCAPE, hostile),
        "a\\nb\\r\\u0000c\td\\u0085\\u2028e\\n"
    );
}

#[test]
fn other_framings_keep_control_characters() {
    for keys in [&[][..], &ESCAPE] {
        assert_eq!(map_one(keys, TAG, line("a\nb\0")).text(), "a\nb\0");
    }
}

#[test]
fn templates_and_json_records_are_escaped() {
    let keys = [ESCAPE[0], ("message", "$stream\n$log")];
    assert_eq!(text(&keys, "a\nb"), "stderr\\na\\nb");
    let body = map(vec![("other", "a\nb\u{2028}".into())]);
    assert_eq!(lines(&ESCAPE, body)[0].text(), r#"{"other":"a\nb\u2028"}"#);
}

proptest! {
    #[test]
    fn a_record_cannot_inject_a_message(
        text in "([\u{0}-\u{20}\u{7f}\u{85}\u{2028}\u{2029}]|<0>1 - - - - - - |x){0,3000}",
        value in "[\u{0}-\u{20}\u{7f}\u{85}\u{2028}\u{2029}\"\\]a]{0,100}",
        size in 1024_usize..3000,
        escape: bool,
    ) {
        let size = size.to_string();
        let keys = [
            ("max_message_size", size.as_str()),
            ("control_characters", if escape { "escape" } else { "space" }),
            ("structured_data", "[id@1 a=\"$value\"]"),
            ("hostname", "$value"),
            ("msgid", "$value"),
        ];
        let labels = kubernetes(vec![("label", value.as_str().into()), (&value, "b".into())]);
        let body = map(vec![
            ("log", text.as_str().into()),
            ("value", value.as_str().into()),
            ("kubernetes", labels),
        ]);
        let messages = lines(&keys, body);
        let joined: String = messages.iter().map(Message::text).collect();
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut expected = text.as_bytes().to_vec();
        if escape {
            expected = escape::escape(text.as_bytes(), &mut Vec::new()).to_vec();
        } else {
            syslog::control::blank(&mut expected);
        }
        prop_assert_eq!(joined.as_bytes(), expected);
        for message in &messages {
            prop_assert_eq!(message.facility, 1);
            prop_assert_eq!(
                message.param("kubernetes@47450", "namespace_name"),
                Some("shop")
            );
        }
    }
}
