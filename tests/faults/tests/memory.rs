//! Checks that the memory of an output is as documented in docs/RELIABILITY.md.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use host::Host;
use receiver::{Listen, Options, Receiver};
use rig::event::{container_tag, event, map};

/// The minimum of `replay_buffer auto`, because the receiver's window is small.
const AUTO: u64 = 1024 * 1024;
/// The allowance for buffers of the workers, the allocator and the threads.
const REST: u64 = 2 * 1024 * 1024;

fn chunks(count: usize) -> Vec<(String, Vec<u8>)> {
    let tag = container_tag("shop", "web-0", "nginx");
    let text = "x".repeat(300);
    let event = event(1_772_366_400, 0, map(vec![("log", text.into())]));
    vec![(tag, event.repeat(100)); count]
}

/// Returns the peak memory, in bytes, of a process that flushes this many chunks of 45
/// KB.
fn peak(receiver: &Receiver, options: &[(&str, &str)], count: usize) -> u64 {
    let address = receiver.address();
    let base = [
        ("servers", address.as_str()),
        ("transport", "tcp"),
        ("write_timeout", "500ms"),
        ("backoff_min", "50ms"),
        ("backoff_max", "100ms"),
    ];
    let host = Host::new().output("sink", &[&base, options].concat());
    let run = host.run(&chunks(count));
    assert_eq!(run.outputs[0].error, 0, "{}", run.log);
    run.peak_kib * 1024
}

fn receiver() -> Receiver {
    Receiver::start(Options {
        keep: false,
        receive_buffer: Some(64 * 1024),
        ..Options::new(Listen::Tcp)
    })
    .unwrap()
}

#[test]
fn an_output_needs_the_memory_of_its_replay_buffer() {
    let healthy = receiver();
    let without = peak(&healthy, &[("replay_buffer", "0")], 600);
    for (replay_buffer, bytes) in [("4M", 4_000_000), ("auto", AUTO)] {
        let with = peak(&healthy, &[("replay_buffer", replay_buffer)], 600);
        eprintln!(
            "{} KiB without a replay buffer, and {} KiB more with {replay_buffer}",
            without / 1024,
            with.saturating_sub(without) / 1024,
        );
        assert!(with > without + bytes / 2, "the replay buffer was not used");
        assert!(
            with <= without + 2 * bytes + REST,
            "{with}, and {without} without"
        );
    }
}

#[test]
fn a_stalled_output_holds_one_chunk_and_the_replay_buffer() {
    let stalled = receiver();
    stalled.pause();
    let options = [("replay_buffer", "0")];
    // Each chunk ends after write_timeout.
    let once = peak(&stalled, &options, 1);
    let often = peak(&stalled, &options, 10);
    stalled.resume();
    // The host keeps the other chunks in memory.
    let chunks = 9 * 50_000;
    assert!(
        often <= once + chunks + REST,
        "{often}, and {once} with one chunk"
    );
}
