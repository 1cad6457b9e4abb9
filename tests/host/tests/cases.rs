//! The cases of the C host, each against a receiver that is strict.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::process::Command;
use std::time::Duration;

use receiver::{Listen, Options, Receiver};

const BOUND: Duration = Duration::from_secs(30);

/// Each case, and how many messages come of it.
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
    ("retry_until_there_is_a_receiver", 0),
    ("exit_without_flush", 0),
    ("hot_reload", 5),
    ("library_stays_mapped", 0),
    ("deep_nesting", 1),
    ("message_of_10_mib", 1),
    ("labels_5000", 1),
    ("stack_use", 0),
];

/// Those that valgrind slows down beyond reason, or that are about what
/// valgrind changes.
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
    let of_records = received
        .iter()
        .map(|received| received.message.as_ref().unwrap())
        // What is given up is told in a message of the plugin's own.
        .filter(|message| message.msgid.as_deref() != Some("given_up"));
    assert_eq!(of_records.count() as u64, messages, "{case}: {received:?}");
    assert!(
        receiver.errors().is_empty(),
        "{case}: {:?}",
        receiver.errors()
    );
}

#[test]
fn every_case_holds() {
    for (case, messages) in CASES {
        run(&[host::EXECUTABLE], case, messages);
    }
}

#[test]
fn every_case_holds_in_a_host_that_exports_nothing() {
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
fn both_tables_name_the_same_cases() {
    let output = Command::new(host::EXECUTABLE)
        .arg("cases")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
}
