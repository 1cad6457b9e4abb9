//! The input `tail` of the ready-to-use configurations for plain files: long lines and
//! restarts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod ready;

use std::fs::File;
use std::io::Write;

use ready::{configuration, messages, start, texts, tls_receiver, variables};
use receiver::Message;
use rig::fluent_bit;
use rig::pki::Pki;

/// More than the buffer of every configuration.
const LONG: usize = 3_000_000;
const FILES: [&str; 4] = [
    "standalone.conf",
    "standalone.yaml",
    "sidecar.conf",
    "sidecar.yaml",
];

#[test]
fn a_long_line_is_skipped_and_the_others_arrive_once() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut log = File::create(dir.path().join("app.log")).unwrap();
        let long = "x".repeat(LONG);
        writeln!(log, "first\n{long}\nsecond\nthird").unwrap();
        let agent = start(&program, &configuration(file), &variables);
        messages(&receiver, 3, &agent);
        // A line written after a scan of the folder must arrive once too.
        writeln!(log, "fourth").unwrap();
        let messages = messages(&receiver, 4, &agent);
        let log = agent.stop();
        assert_eq!(texts(&messages), ["first", "second", "third", "fourth"]);
        assert_eq!(receiver.count(), 4, "{file}: duplicate messages");
        assert!(log.contains("app.log have long lines. Skipping"), "{log}");
    }
}

#[test]
fn a_restart_continues_at_the_stored_offset() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut log = File::create(dir.path().join("app.log")).unwrap();
        for round in 1..=3 {
            let agent = start(&program, &configuration(file), &variables);
            writeln!(log, "line {round}").unwrap();
            messages(&receiver, round, &agent);
            agent.stop();
        }
        let received = receiver.received().into_iter();
        let messages: Vec<Message> = received.map(|r| r.message.unwrap()).collect();
        assert_eq!(texts(&messages), ["line 1", "line 2", "line 3"], "{file}");
    }
}
