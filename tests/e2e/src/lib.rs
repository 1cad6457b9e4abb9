//! Shared helpers of the tests in `tests/`: records of one container, sent through the
//! C host.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "a panic fails the test")]

pub mod hostile;
pub mod layouts;
pub mod syslog_input;

use host::{Host, Run};
use rig::event::{container_tag, event, map};
use rig::syslogd::{Parsed, Syslogd};
use rig::wait::BOUND;
use rmpv::Value;

use crate::hostile::Arrived;

/// The time of the records: 2026-03-01T12:00:00Z.
const SECONDS: u32 = 1_772_366_400;

/// The APP-NAME of the messages of [`chunk`].
pub const APP_NAME: &str = "pod.log/shop/web-0/nginx";

/// Returns a chunk of records of one container.
#[must_use]
pub fn chunk(bodies: Vec<Value>) -> Vec<(String, Vec<u8>)> {
    let events = bodies
        .into_iter()
        .flat_map(|body| event(SECONDS, 123_456_789, body))
        .collect();
    vec![(container_tag("shop", "web-0", "nginx"), events)]
}

/// Returns a line that the container wrote to its standard error.
#[must_use]
pub fn line(text: &str) -> Value {
    map(vec![("log", text.into()), ("stream", "stderr".into())])
}

/// Sends records through an output with these options. They must be delivered on the
/// first attempt.
#[must_use]
pub fn send(address: &str, options: &[(&str, &str)], bodies: Vec<Value>) -> Run {
    send_chunks(address, options, &chunk(bodies))
}

/// Sends chunks through an output with these options. They must be delivered on the
/// first attempt.
#[must_use]
pub fn send_chunks(address: &str, options: &[(&str, &str)], chunks: &[(String, Vec<u8>)]) -> Run {
    let options = [&[("servers", address)], options].concat();
    let run = Host::new().retries(50).output("sink", &options).run(chunks);
    assert!(run.intact);
    assert_eq!(run.outputs.len(), 1, "{}", run.log);
    assert_eq!(
        (run.outputs[0].ok as usize, run.outputs[0].retry),
        (chunks.len(), 0),
        "{}",
        run.log
    );
    run
}

/// Sends records to a daemon, and returns its messages. Their number must be
/// `expected`.
#[must_use]
pub fn deliver(
    daemon: &Syslogd,
    options: &[(&str, &str)],
    bodies: Vec<Value>,
    expected: usize,
) -> Vec<Parsed> {
    let run = send(&daemon.address(), options, bodies);
    let messages = daemon
        .wait_for(expected, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", run.log, daemon.log()));
    assert_eq!(messages.len(), expected);
    messages
}

const END: &str = "the end";

/// Sends lines and then an end marker, and returns all messages that arrived before the
/// end marker.
///
/// # Panics
///
/// Panics if a chunk is not delivered, or if the end marker is not the last message.
pub fn arrivals_at(
    address: &str,
    options: &[(&str, &str)],
    lines: &[String],
    wait_for_text: impl FnOnce(&str) -> Result<Vec<Arrived>, String>,
) -> Vec<Arrived> {
    let texts = lines.iter().map(String::as_str).chain([END]);
    let run = send(address, options, texts.map(line).collect());
    let mut arrived = wait_for_text(END).unwrap_or_else(|error| panic!("{error}\n{}", run.log));
    let last = arrived.pop().expect("the end marker arrives");
    assert_eq!(last.text, END);
    arrived
}

/// Calls [`arrivals_at`] with a daemon.
#[must_use]
pub fn arrivals(daemon: &Syslogd, options: &[(&str, &str)], lines: &[String]) -> Vec<Arrived> {
    arrivals_at(&daemon.address(), options, lines, |end| {
        let messages = daemon.wait_for_text(end, BOUND);
        let messages = messages.map_err(|error| format!("{error}\n{}", daemon.log()))?;
        Ok(messages.into_iter().map(Arrived::from).collect())
    })
}

impl From<Parsed> for Arrived {
    fn from(message: Parsed) -> Self {
        Self {
            app_name: message.app_name,
            structured_data: message.structured_data,
            text: message.msg,
        }
    }
}
