//! Measures what dead outputs cost a live one, in instructions.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::fs;
use std::process::Command;

use receiver::{Listen, Options, Receiver};
use rig::event::{chunk_file, container_tag, event, map};
use rig::port::free_port;

const DEAD: usize = 10;
/// The number of chunks. A dead output encodes the first record, before it is known to
/// be dead; the cost of that must be negligible.
const CHUNKS: usize = 900;
/// The number of records in a chunk.
const RECORDS: usize = 100;

/// Returns the instructions that the library executes in a process with one live output
/// and `dead` dead ones, all of which get all chunks.
fn instructions(dead: usize) -> u64 {
    let receiver = Receiver::start(Options {
        keep: false,
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let tag = container_tag("shop", "web-0", "nginx");
    let text = "x".repeat(300);
    let event = event(1_772_366_400, 0, map(vec![("log", text.into())]));
    let chunks = vec![(tag, event.repeat(RECORDS)); CHUNKS];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chunks");
    fs::write(&file, chunk_file(&chunks)).unwrap();

    let profile = dir.path().join("profile");
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(host::EXECUTABLE)
        .arg("run")
        .arg(host::library())
        .arg("--chunks")
        .arg(file)
        .args(["--output", "live", "--option", "transport=tcp"])
        .args(["--option", "cluster=on", "--option"])
        .arg(format!("servers={}", receiver.address()));
    for number in 0..dead {
        command
            .args([
                "--output",
                &format!("dead-{number}"),
                "--option",
                "transport=tcp",
                "--option",
                "cluster=on",
            ])
            .args(["--option", &format!("servers=127.0.0.1:{}", free_port())]);
    }
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(receiver.count(), (RECORDS * CHUNKS) as u64, "{log}");
    of_library(&fs::read_to_string(profile).unwrap())
}

/// Returns the library's own part of a profile (valgrind's "Callgrind Format
/// Specification"). The host program's work for each flush, such as measuring the
/// stack, is not included.
fn of_library(profile: &str) -> u64 {
    let mut library = None;
    let mut is_library = false;
    let mut is_call = false;
    let mut sum = 0;
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            // A name follows its number at its first occurrence.
            let (number, name) = object.split_once(' ').unwrap_or((object, ""));
            if name.ends_with("libout_syslog_sink.so") {
                library = Some(number.to_owned());
            }
            is_library = library.as_deref() == Some(number);
        } else if let Some(object) = line.strip_prefix("cob=") {
            let (number, name) = object.split_once(' ').unwrap_or((object, ""));
            if name.ends_with("libout_syslog_sink.so") {
                library = Some(number.to_owned());
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line
                .split(' ')
                .nth(1)
                .and_then(|cost| cost.parse::<u64>().ok());
            if is_library && !std::mem::take(&mut is_call) {
                sum += cost.unwrap_or_default();
            }
            is_call = false;
        }
    }
    assert!(sum > 0, "the library is not in the profile");
    sum
}

#[test]
fn ten_dead_outputs_cost_a_live_one_almost_nothing() {
    if rig::program("valgrind").is_none() {
        return rig::skip("valgrind is not installed (Debian: valgrind)");
    }
    let alone = instructions(0);
    let with_dead = instructions(DEAD);
    let of_record = alone / (RECORDS * CHUNKS) as u64;
    let of_dead_flush = with_dead.saturating_sub(alone) / (DEAD * CHUNKS) as u64;
    eprintln!(
        "{of_record} instructions for a record, {of_dead_flush} for a chunk of a dead output"
    );
    assert!(
        of_dead_flush <= 2 * of_record,
        "{of_dead_flush} for a chunk of a dead output, and {of_record} for a record"
    );
}
