//! Round trips through a strict parser that shares no code with the encoder. The
//! parser accepts each encoded message, and rejects truncated ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use proptest::collection::vec;
use proptest::prelude::*;
use receiver::message::parse;
use receiver::{Message, Splitter};
use syslog::text::push_lossy;
use syslog::{
    AppName, Batch, Facility, Framing, HeaderPrefix, HeaderSource, Hostname, MsgId, Pri, ProcId,
    Scratch, SdId, SdName, SecondCache, Severity, StructuredData, Timestamp,
};

#[derive(Clone, Debug)]
struct Input {
    facility: u8,
    severity: u8,
    timestamp: Option<(i64, u32, i16, u8)>,
    /// HOSTNAME, APP-NAME, PROCID and MSGID, as arbitrary bytes.
    fields: [Vec<u8>; 4],
    elements: Vec<Element>,
    text: Vec<u8>,
}

/// An SD-ID, and PARAM-NAMEs with their values.
type Element = (String, Vec<(String, Vec<u8>)>);

fn sd_name() -> impl Strategy<Value = String> {
    "[!#-<>-\\\\^-~]{1,32}"
}

fn any_input() -> impl Strategy<Value = Input> {
    let bytes = |max| {
        prop_oneof![
            vec(any::<u8>(), 0..max),
            ".{0,60}".prop_map(String::into_bytes)
        ]
    };
    let time = (
        -62_000_000_000_i64..253_000_000_000,
        0_u32..1_000_000,
        -1439_i16..1440,
        0_u8..=6,
    );
    (
        (0_u8..24, 0_u8..8),
        proptest::option::of(time),
        [bytes(300), bytes(300), bytes(300), bytes(300)],
        vec((sd_name(), vec((sd_name(), bytes(80)), 0..5)), 0..4),
        bytes(500),
    )
        .prop_map(
            |((facility, severity), timestamp, fields, mut elements, text)| {
                elements.sort_by(|a, b| a.0.cmp(&b.0));
                elements.dedup_by(|a, b| a.0 == b.0);
                Input {
                    facility,
                    severity,
                    timestamp,
                    fields,
                    elements,
                    text,
                }
            },
        )
}

/// Encodes the input. Returns the length of the header and the structured data.
fn encode(input: &Input, out: &mut Vec<u8>) -> usize {
    let [hostname, app_name, procid, msgid] = &input.fields;
    let (mut h, mut a, mut p, mut m) = (
        Scratch::default(),
        Scratch::default(),
        Scratch::default(),
        Scratch::default(),
    );
    let start = out.len();
    HeaderPrefix {
        pri: Pri::new(
            Facility::from_name(&input.facility.to_string()).unwrap(),
            Severity::from_number(input.severity).unwrap(),
        ),
        timestamp: input.timestamp.map(|(seconds, micros, offset, digits)| {
            Timestamp::from_unix(seconds, micros * 1000)
                .and_then(|timestamp| timestamp.with_offset(offset))
                .unwrap()
                .with_digits(digits)
        }),
    }
    .encode(&mut SecondCache::default(), out);
    assert!(out.len() - start <= HeaderPrefix::MAX);
    HeaderSource {
        hostname: Hostname::fit(hostname, &mut h),
        app_name: AppName::fit(app_name, &mut a),
        procid: ProcId::fit(procid, &mut p),
        msgid: MsgId::fit(msgid, &mut m),
    }
    .encode(out);
    let mut data = StructuredData::begin(out);
    for (id, params) in &input.elements {
        let mut element = data.element(SdId::new(id).unwrap()).unwrap();
        for (name, value) in params {
            element.param(SdName::new(name).unwrap(), value);
        }
    }
    data.finish();
    let end = out.len() - start;
    out.push(b' ');
    push_lossy(out, &input.text);
    end
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the expected value of a parameter with these bytes.
fn expected_param(bytes: &[u8]) -> String {
    lossy(bytes).replace(|c: char| c.is_ascii_control(), " ")
}

/// Returns the expected header field with these bytes.
fn expected_field(bytes: &[u8], max: usize) -> Option<String> {
    let text: String = bytes
        .iter()
        .take(max)
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '_'
            }
        })
        .collect();
    (!text.is_empty() && text != "-").then_some(text)
}

fn check(input: &Input, message: &Message) {
    assert_eq!(
        (message.facility, message.severity),
        (input.facility, input.severity)
    );
    let timestamp = message
        .timestamp
        .as_ref()
        .map(|t| (t.seconds, t.micros, t.offset));
    let expected = input.timestamp.map(|(seconds, micros, offset, digits)| {
        let unit = 10_u32.pow(6 - u32::from(digits));
        (seconds, micros / unit * unit, i32::from(offset))
    });
    assert_eq!(timestamp, expected);
    let [hostname, app_name, procid, msgid] = &input.fields;
    assert_eq!(message.hostname, expected_field(hostname, 255));
    assert_eq!(message.app_name, expected_field(app_name, 48));
    assert_eq!(message.procid, expected_field(procid, 128));
    assert_eq!(message.msgid, expected_field(msgid, 32));

    assert_eq!(message.structured_data.len(), input.elements.len());
    for (element, (id, params)) in message.structured_data.iter().zip(&input.elements) {
        assert_eq!(element.id, *id);
        let expected: Vec<(String, String)> = params
            .iter()
            .map(|(name, value)| (name.clone(), expected_param(value)))
            .collect();
        assert_eq!(element.params, expected);
    }
    // The parser removes a BOM at the beginning of the text.
    let text = lossy(&input.text);
    assert_eq!(
        message.text(),
        text.strip_prefix('\u{feff}').unwrap_or(&text)
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_strict_parser_reads_every_message(input in any_input()) {
        let mut out = Vec::new();
        encode(&input, &mut out);
        check(&input, &parse(&out).unwrap());
    }

    #[test]
    fn a_truncated_message_is_rejected(input in any_input(), cut: prop::sample::Index) {
        let mut out = Vec::new();
        let end = encode(&input, &mut out);
        // A message may end between two elements.
        let cut = &out[..cut.index(end)];
        let between_elements = cut.ends_with(b"]") && !input.elements.is_empty();
        prop_assert!(between_elements || parse(cut).is_err());
    }

    #[test]
    fn a_truncated_stream_has_only_complete_frames(inputs in vec(any_input(), 1..6), cut: prop::sample::Index) {
        let mut batch = Batch::new(Framing::OctetCounting);
        let mut ends = Vec::new();
        for input in &inputs {
            let mut frame = batch.frame();
            encode(input, frame.bytes());
            frame.finish();
            ends.push(batch.bytes().len());
        }
        let cut = cut.index(batch.bytes().len() + 1);
        let mut splitter = Splitter::octet_counting(usize::MAX);
        splitter.push(&batch.bytes()[..cut]);
        let whole = ends.iter().take_while(|end| **end <= cut).count();
        for input in &inputs[..whole] {
            check(input, &parse(splitter.next_frame().unwrap().unwrap()).unwrap());
        }
        prop_assert_eq!(splitter.next_frame(), Ok(None));
        prop_assert_eq!(splitter.unfinished(), whole == 0 && cut > 0 || whole > 0 && ends[whole - 1] != cut);
    }

    /// A receiver finds the same messages, whichever characters it takes for line ends.
    #[test]
    fn each_line_is_a_message(inputs in vec(any_input(), 1..6)) {
        let mut batch = Batch::new(Framing::Newline);
        for input in &inputs {
            let mut frame = batch.frame();
            encode(input, frame.bytes());
            frame.finish();
        }
        let stream = String::from_utf8(batch.bytes().to_vec()).unwrap();
        let ends = |c: char| {
            c.is_ascii_control() && c != '\t' || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
        };
        let lines: Vec<&str> = stream.split_terminator(ends).collect();
        prop_assert_eq!(lines.len(), inputs.len());
        for (input, line) in inputs.iter().zip(lines) {
            let message = parse(line.as_bytes()).unwrap();
            let spaces = |text: &str| -> String {
                let spaces = |c: char| if ends(c) { " ".repeat(c.len_utf8()) } else { c.into() };
                text.chars().map(spaces).collect()
            };
            let text = spaces(&lossy(&input.text));
            prop_assert_eq!(message.text(), text.strip_prefix('\u{feff}').unwrap_or(&text));
            let values = message.structured_data.iter().flat_map(|element| &element.params);
            let expected = input.elements.iter().flat_map(|(_, params)| params);
            for ((_, value), (_, expected)) in values.zip(expected) {
                prop_assert_eq!(value, &spaces(&expected_param(expected)));
            }
        }
    }
}
