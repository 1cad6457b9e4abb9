//! Newline framing at receivers that end a message at more than a line feed: no
//! line of a container becomes a message of its own choice.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::fs;
use std::net::TcpStream;

use host::Host;
use rig::event::{container_tag, event, map};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::rsyslog::{Input, Rsyslog};
use rig::wait::{BOUND, until};

/// 2026-03-01T12:00:00Z
const SECONDS: u32 = 1_772_366_400;
/// A message of another namespace, with a priority of its author's choice.
const FORGED: &str = "<8>1 2026-03-01T12:00:00.000000Z node-9 pod.log/bank/vault-0/app - - \
                      [kubernetes@47450 namespace_name=\"bank\"] forged";

/// A Fluent Bit that receives syslog as its documentation shows, and writes one
/// record a line.
const RECEIVER: &str = "\
[SERVICE]
    Flush 0.2
    Parsers_File ${PARSERS}

[INPUT]
    Name   syslog
    Mode   tcp
    Listen 127.0.0.1
    Port   ${PORT}
    Parser syslog-rfc5424

[OUTPUT]
    Name   file
    Match  *
    File   ${RECORDS}
    Format plain
";

const PARSERS: &str = r"[PARSER]
    Name        syslog-rfc5424
    Format      regex
    Regex       ^\<(?<pri>[0-9]{1,5})\>1 (?<time>[^ ]+) (?<host>[^ ]+) (?<ident>[^ ]+) (?<pid>[-0-9]+) (?<msgid>[^ ]+) (?<extradata>(\[(.*?)\]|-)) (?<message>.+)$
    Time_Key    time
    Time_Format %Y-%m-%dT%H:%M:%S.%L%z
    Time_Keep   On
";

fn chunk(texts: &[String]) -> Vec<(String, Vec<u8>)> {
    let events = texts
        .iter()
        .flat_map(|text| event(SECONDS, 0, map(vec![("log", text.as_str().into())])))
        .collect();
    vec![(container_tag("shop", "web-0", "nginx"), events)]
}

fn deliver(address: &str, options: &[(&str, &str)], texts: &[String]) {
    let common = [
        ("addr", address),
        ("transport", "tcp"),
        ("framing", "newline"),
    ];
    let options = [&common, options].concat();
    let run = Host::new()
        .retries(50)
        .output("sink", &options)
        .run(&chunk(texts));
    assert_eq!(run.outputs[0].ok, 1, "{}", run.log);
}

/// Each control character, and each of Unicode's line ends, before a forged
/// message; then a line that shows that everything has arrived.
fn hostile_lines() -> Vec<String> {
    let controls = ('\0'..='\u{1f}').chain(['\u{7f}', '\u{85}', '\u{2028}', '\u{2029}']);
    let mut lines: Vec<String> = controls
        .map(|control| format!("harmless{control}{FORGED}"))
        .collect();
    lines.push(format!("harmless\r\n{FORGED}\0{FORGED}"));
    lines.push("end".to_owned());
    lines
}

#[test]
fn no_line_forges_a_message_at_a_fluent_bit() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for options in [
        vec![],
        vec![("control_characters", "space")],
        vec![("control_characters", "escape")],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("receiver.conf"), RECEIVER).unwrap();
        fs::write(path("parsers.conf"), PARSERS).unwrap();
        let port = free_port();
        let variables = [
            ("PORT", port.to_string()),
            ("PARSERS", path("parsers.conf").display().to_string()),
            ("RECORDS", path("records").display().to_string()),
        ];
        let receiver = FluentBit::start(
            &program,
            host::library(),
            &path("receiver.conf"),
            &variables,
        );
        let address = format!("127.0.0.1:{port}");
        until(BOUND, || TcpStream::connect(&address).ok()).unwrap();

        let lines = hostile_lines();
        deliver(&address, &options, &lines);
        let records = until(BOUND, || {
            let records = fs::read_to_string(path("records")).unwrap_or_default();
            records.contains(r#""message":"end""#).then_some(records)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", receiver.log()));
        assert_eq!(records.lines().count(), lines.len(), "{records}");
        for record in records.lines() {
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            assert_eq!(record["ident"], "pod.log/shop/web-0/nginx", "{record}");
            assert_eq!(record["pri"], "14", "{record}");
        }
    }
}

/// A receiver cuts what is longer than its limit, and takes the rest for another
/// message. An escaped message is longer than its line.
#[test]
fn no_escape_makes_a_message_too_long_for_rsyslog() {
    let Some(rsyslog) = Rsyslog::start(&Input::Tcp) else {
        return;
    };
    let long = format!("{}{}", "\n".repeat(60_000), FORGED.repeat(30));
    let lines = [long, "end".to_owned()];
    let options = [("control_characters", "escape")];
    deliver(&rsyslog.address(), &options, &lines);
    let messages = until(BOUND, || {
        let messages = rsyslog.messages();
        let has_end = messages.iter().any(|message| message.msg == "end");
        has_end.then_some(messages)
    })
    .unwrap();
    let escaped = lines[0].replace('\n', "\\n");
    let parts = &messages[..messages.len() - 1];
    assert!(parts.len() > 1);
    let joined: String = parts.iter().map(|part| part.msg.as_str()).collect();
    assert_eq!(joined, escaped);
    for (number, part) in (1..).zip(parts) {
        assert_eq!(part.app_name, "pod.log/shop/web-0/nginx");
        let element = format!("[part@47450 number=\"{number}\" count=\"{}\"]", parts.len());
        assert!(part.structured_data.ends_with(&element), "{part:?}");
    }
}
