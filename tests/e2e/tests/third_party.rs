//! Parses every layout of the plugin's messages with a strict third-party parser:
//! go-syslog, which Telegraf, Promtail and the OpenTelemetry Collector use. It must
//! accept each message, and find the same fields as the strict parser of this
//! repository.
//!
//! ```text
//! host -> plugin -> bytes ─┬─> go-syslog/ (Go) ─> fields ─┬─> equal
//!                          └─> tests/receiver ──> fields ─┘
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::layouts::{Options, chunks, layouts};
use e2e::send_chunks;
use receiver::{Message, Splitter, message};
use serde::Deserialize;

/// The maximum frame length, more than any message here.
const MAX: usize = 65_536;

/// The fields of a message; absent fields are `None`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Fields {
    facility: u8,
    severity: u8,
    timestamp_micros: Option<i64>,
    hostname: Option<String>,
    app_name: Option<String>,
    procid: Option<String>,
    msgid: Option<String>,
    structured_data: Option<BTreeMap<String, BTreeMap<String, String>>>,
    msg: Option<String>,
}

impl From<Message> for Fields {
    fn from(message: Message) -> Self {
        let bom = if message.bom { "\u{feff}" } else { "" };
        let msg = format!("{bom}{}", message.text());
        let elements = message.structured_data.into_iter();
        // go-syslog keeps the last of several parameters with the same name.
        let data: BTreeMap<_, _> = elements
            .map(|element| (element.id, element.params.into_iter().collect()))
            .collect();
        Self {
            facility: message.facility,
            severity: message.severity,
            timestamp_micros: message
                .timestamp
                .map(|time| time.seconds * 1_000_000 + i64::from(time.micros)),
            hostname: message.hostname,
            app_name: message.app_name,
            procid: message.procid,
            msgid: message.msgid,
            structured_data: (!data.is_empty()).then_some(data),
            msg: (!msg.is_empty()).then_some(msg),
        }
    }
}

/// Returns the path of the Go program. Prints a reason and returns `None` if it cannot
/// be built.
fn parser() -> Option<PathBuf> {
    let Some(go) = rig::program("go") else {
        rig::skip("Go is not installed, which builds the third-party parser (Debian: golang)");
        return None;
    };
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("go-syslog");
    let run = |arguments: &[&str]| {
        let command = Command::new(&go)
            .args(arguments)
            .current_dir(&module)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&command.stderr).into_owned();
        command.status.success().then_some(()).ok_or(error)
    };
    if let Err(error) = run(&["mod", "download"]) {
        rig::skip(&format!(
            "the modules of the third-party parser cannot be downloaded: {error}"
        ));
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-syslog-parser");
    run(&["build", "-o", program.to_str().unwrap(), "."]).unwrap();
    Some(program)
}

/// Parses with the Go program, which must accept every message.
fn parse(parser: &Path, framing: &str, stream: &[u8]) -> Vec<Fields> {
    let mut process = Command::new(parser)
        .args(["-framing", framing])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        // The program does not read all of a stream that it rejects.
        scope.spawn(move || stdin.write_all(stream));
        process.wait_with_output().unwrap()
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Returns the bytes that the plugin writes to a stream.
fn stream(options: &Options, chunks: &[(String, Vec<u8>)]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    });
    let _ = send_chunks(
        &address,
        &[&[("transport", "tcp")], options.as_slice()].concat(),
        chunks,
    );
    reader.join().unwrap()
}

/// Returns the datagrams that the plugin sends, each as an octet-counted frame.
fn datagrams(options: &Options, chunks: &[(String, Vec<u8>)]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    // The kernel has all datagrams when the host has exited.
    let _ = send_chunks(
        &address,
        &[&[("transport", "udp")], options.as_slice()].concat(),
        chunks,
    );
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let mut stream = Vec::new();
    let mut datagram = vec![0; 65_536];
    while let Ok(length) = socket.recv(&mut datagram) {
        stream.extend(format!("{length} ").bytes());
        stream.extend(&datagram[..length]);
    }
    stream
}

/// Parses the messages with this repository's parser.
fn own(mut splitter: Splitter, stream: &[u8]) -> Vec<Fields> {
    splitter.push(stream);
    let mut messages = Vec::new();
    while let Some(frame) = splitter.next_frame().unwrap() {
        messages.push(message::parse(frame).unwrap().into());
    }
    assert!(!splitter.unfinished());
    messages
}

fn assert_same(theirs: &[Fields], ours: &[Fields], layout: &str) {
    assert!(!ours.is_empty(), "{layout}");
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!(theirs, ours, "{layout}");
    }
    assert_eq!(theirs.len(), ours.len(), "{layout}");
}

#[test]
fn go_syslog_parses_the_same_fields() {
    let Some(parser) = parser() else {
        return;
    };
    let chunks = chunks();
    for options in layouts() {
        let octet_counted = stream(&options, &chunks);
        let theirs = parse(&parser, "octet-counting", &octet_counted);
        let ours = own(Splitter::octet_counting(MAX), &octet_counted);
        assert_same(&theirs, &ours, &format!("octet counting, {options:?}"));

        for characters in ["space", "escape"] {
            let newline = [("framing", "newline"), ("control_characters", characters)];
            let options = [options.as_slice(), &newline].concat();
            let lines = stream(&options, &chunks);
            let theirs = parse(&parser, "newline", &lines);
            let ours = own(Splitter::newline(MAX), &lines);
            assert_same(&theirs, &ours, &format!("newline, {options:?}"));
        }

        let datagrams = datagrams(&options, &chunks);
        let theirs = parse(&parser, "octet-counting", &datagrams);
        let ours = own(Splitter::octet_counting(MAX), &datagrams);
        assert_same(&theirs, &ours, &format!("UDP, {options:?}"));
    }
}
