//! Runs the cases of the C host, each against a strict receiver.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::process::Command;
use std::time::Duration;

use receiver::{Listen, Options, Receiver};

const BOUND: Duration = Duration::from_secs(30);

/// The cases, with the number of messages that the receiver must get.
const CASES: [(&str, u64); 23] = [
    ("register_each_version", 0),
    ("flush_each_version", 5),
    ("init_without_addr", 0),
    ("init_bad_option", 0),
    ("init_null", 0),
    ("flush_empty_chunk", 0),
    ("flush_null_data", 0),
    ("flush_null_tag", 1),
    ("flush_null_context", 0),
    ("flush_garbage", 0),
    ("flush_truncated", 2),
    ("flush_both_formats", 2),
    ("several_workers", 200),
    ("several_outputs", 20),
    ("refused", 0),
    ("retry_until_the_receiver_listens", 0),
    ("exit_without_flush", 0),
    ("hot_reload", 5),
    ("library_stays_mapped", 0),
    ("deep_nesting", 1),
    ("message_of_10_mib", 1),
    ("labels_5000", 1),
    ("stack_use", 0),
];

/// The cases that are too slow under valgrind, or that check properties that valgrind
/// changes.
const NOT_UNDER_VALGRIND: [&str; 3] = ["message_of_10_mib", "stack_use", "several_workers"];

fn run(program: &[&str], case: &str, messages: u64) {
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let output = Command::new(program[0])
        .args(&program[1..])
        .arg("case")
        .arg(case)
        .arg(host::library())
        .arg(receiver.address())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {}\n{log}", output.status);

    receiver.wait_for(messages, BOUND).unwrap();
    receiver.wait_for_the_end();
    let received = receiver.received();
    let from_records = received
        .iter()
        .map(|received| received.message.as_ref().unwrap())
        // The plugin reports losses in messages of its own.
        .filter(|message| message.msgid.as_deref() != Some("given_up"));
    assert_eq!(
        from_records.count() as u64,
        messages,
        "{case}: {received:?}"
    );
    assert!(
        receiver.errors().is_empty(),
        "{case}: {:?}",
        receiver.errors()
    );
}

#[test]
fn every_case_passes() {
    for (case, messages) in CASES {
        run(&[host::EXECUTABLE], case, messages);
    }
}

#[test]
fn every_case_passes_in_a_host_without_exports() {
    for (case, messages) in CASES {
        run(&[host::BARE_EXECUTABLE], case, messages);
    }
}

#[test]
fn every_case_is_clean_under_valgrind() {
    let Some(valgrind) = rig::program("valgrind") else {
        return rig::skip("valgrind is not installed (Debian: valgrind)");
    };
    let program = [
        valgrind.to_str().unwrap(),
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        host::EXECUTABLE,
    ];
    for (case, messages) in CASES {
        if !NOT_UNDER_VALGRIND.contains(&case) {
            run(&program, case, messages);
        }
    }
}

#[test]
fn the_host_has_the_same_cases() {
    let output = Command::new(host::EXECUTABLE)
        .arg("cases")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
}
