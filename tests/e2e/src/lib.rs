//! The parts that the tests in `tests/` share: records of one container, sent
//! through the C host.
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use host::{Host, Run};
use rig::event::{container_tag, event, map};
use rig::syslogd::{Parsed, Syslogd};
use rig::wait::BOUND;
use rmpv::Value;

/// 2026-03-01T12:00:00Z
const SECONDS: u32 = 1_772_366_400;

/// The name under which the messages of [`chunk`] arrive.
pub const APP_NAME: &str = "pod.log/shop/web-0/nginx";

/// A chunk of records of one container.
#[must_use]
pub fn chunk(bodies: Vec<Value>) -> Vec<(String, Vec<u8>)> {
    let events = bodies
        .into_iter()
        .flat_map(|body| event(SECONDS, 123_456_789, body))
        .collect();
    vec![(container_tag("shop", "web-0", "nginx"), events)]
}

/// A line that the container wrote to its standard error.
#[must_use]
pub fn line(text: &str) -> Value {
    map(vec![("log", text.into()), ("stream", "stderr".into())])
}

/// Sends records through an output with these options, which has to deliver
/// them at once.
pub fn send(address: &str, options: &[(&str, &str)], bodies: Vec<Value>) -> Run {
    let options = [&[("addr", address)], options].concat();
    let run = Host::new()
        .retries(50)
        .output("sink", &options)
        .run(&chunk(bodies));
    assert!(run.intact);
    assert_eq!(run.outputs.len(), 1, "{}", run.log);
    assert_eq!(
        (run.outputs[0].ok, run.outputs[0].retry),
        (1, 0),
        "{}",
        run.log
    );
    run
}

/// Sends records to a daemon, and returns its messages, which have to be
/// `expected` in number.
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
