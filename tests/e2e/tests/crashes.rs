//! Receivers that crash under load, with acknowledged bytes unread.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::collections::HashMap;

use host::Host;
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::event::{container_tag, event, map};
use rig::pki::Pki;
use rig::wait::{self, BOUND};

const CHUNKS: usize = 300;
const LINES: usize = 100;
const CRASHES: u64 = 4;
/// More than one chunk: one at least was acknowledged, and so delivered.
const UNREAD: u64 = 40_000;

fn chunks() -> Vec<(String, Vec<u8>)> {
    let tag = container_tag("shop", "web-0", "nginx");
    let chunk = |number: usize| {
        let lines = number * LINES..(number + 1) * LINES;
        let events = lines.flat_map(|line| {
            event(
                1_772_366_400,
                0,
                map(vec![("log", line.to_string().into())]),
            )
        });
        (tag.clone(), events.collect())
    };
    (0..CHUNKS).map(chunk).collect()
}

/// Ends the connection once there is one, with enough unread.
fn crash(receiver: &Receiver) -> Result<(), String> {
    receiver.wait_for(receiver.count() + 1, BOUND)?;
    receiver.pause();
    let enough = || {
        let unread = receiver.unread().unwrap_or_default();
        (unread > UNREAD).then_some(())
    };
    let unread = wait::until(BOUND, enough);
    receiver.reset();
    receiver.resume();
    unread
}

/// Delivers all chunks while the receiver crashes again and again.
fn crash_under_load(listen: Listen, options: &[(&str, &str)]) {
    let receiver = Receiver::start(Options {
        // Less than is kept for sending again.
        receive_buffer: Some(64 * 1024),
        ..Options::new(listen)
    })
    .unwrap();
    let address = receiver.address();
    let options = [
        &[
            ("addr", address.as_str()),
            ("backoff_min", "50ms"),
            ("backoff_max", "100ms"),
        ],
        options,
    ]
    .concat();
    let host = Host::new().retries(100).output("sink", &options);
    let (run, crashes) = std::thread::scope(|scope| {
        let run = scope.spawn(|| host.run(&chunks()));
        let crashes: Result<Vec<()>, String> = (0..CRASHES).map(|_| crash(&receiver)).collect();
        (run.join().unwrap(), crashes)
    });
    crashes.unwrap_or_else(|error| panic!("{error}\n{}", run.log));
    assert_eq!(run.outputs[0].ok as usize, CHUNKS, "{}", run.log);

    let mut times: HashMap<usize, usize> = HashMap::new();
    let received = receiver.received();
    for message in received
        .iter()
        .filter_map(|received| received.message.as_ref().ok())
    {
        *times.entry(message.text().parse().unwrap()).or_default() += 1;
    }
    let lost = (0..CHUNKS * LINES)
        .filter(|line| !times.contains_key(line))
        .count();
    assert_eq!(lost, 0, "{}", run.log);
    assert!(receiver.connections() > CRASHES);
}

#[test]
fn tcp() {
    crash_under_load(Listen::Tcp, &[("transport", "tcp")]);
}

#[test]
fn tls() {
    let pki = Pki::new();
    let server = pki.server();
    let files = TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    };
    let ca = pki.ca();
    crash_under_load(Listen::Tls(files), &[("tls_ca_file", ca.to_str().unwrap())]);
}
