//! Exits while messages are not delivered.

use host::{Host, Run};
use receiver::{Listen, Options, Receiver};
use rig::port::free_port;
use rig::wait::{self, BOUND};

use super::receiver_at;
use crate::Outcome;
use crate::load::{Counts, Load, texts};

/// More than the receiver's buffers.
const LOAD: Load = Load {
    chunks: 4,
    lines: 100,
    length: 4000,
};

/// More than the bytes of one chunk.
const UNREAD: u64 = 480_000;

/// Unacknowledged chunks are returned to Fluent Bit, and the exit does not wait for
/// them.
pub(crate) fn stalled() -> Outcome {
    let receiver = roomy();
    receiver.pause();
    let run = run(
        &receiver,
        &[("write_timeout", "1s"), ("exit_timeout", "1s")],
        || {},
    );
    receiver.resume();
    receiver.wait_for_the_end();
    let counts = delivered(&run, &texts(&receiver.received()));
    Ok(counts.with_replays(receiver.connections() as usize, &LOAD))
}

/// Pending replays are sent before the exit if the receiver comes back in time.
pub(crate) fn replay() -> Outcome {
    let first = roomy();
    let port = first.port();
    first.pause();
    let mut second = None;
    let run = {
        let first = &first;
        run(
            first,
            &[("write_timeout", "60s"), ("exit_timeout", "30s")],
            || {
                let enough = || (first.unread().unwrap_or_default() > UNREAD).then_some(());
                wait::until(BOUND, enough).unwrap();
                first.stop_listening();
                first.reset();
                second = Some(receiver_at(port, Listen::Tcp));
            },
        )
    };
    assert_eq!(first.count(), 0);
    let second = second.unwrap();
    second.wait_for_the_end();
    let counts = delivered(&run, &texts(&second.received()));
    Ok(counts.with_replays(1, &LOAD))
}

/// Starts a receiver with room for one chunk but not for all.
fn roomy() -> Receiver {
    Receiver::start(Options {
        port: free_port(),
        receive_buffer: Some(400 * 1024),
        ..Options::new(Listen::Tcp)
    })
    .unwrap()
}

/// Runs a host that flushes each chunk once.
fn run(receiver: &Receiver, options: &[(&str, &str)], happens: impl FnOnce()) -> Run {
    let address = receiver.address();
    let base = [
        ("servers", address.as_str()),
        ("transport", "tcp"),
        ("backoff_min", "100ms"),
        ("backoff_max", "200ms"),
    ];
    let host = Host::new().output("sink", &[&base, options].concat());
    host.run_while(&LOAD.chunks(), happens)
}

/// Asserts that all delivered chunks have arrived; others may have.
fn delivered(run: &Run, arrived: &[String]) -> Counts {
    let [flushed] = run.outputs.as_slice() else {
        panic!("{}", run.log);
    };
    assert!(flushed.ok > 0 && flushed.retry > 0, "{flushed:?}");
    assert_eq!(flushed.error, 0);
    LOAD.compare_delivered(arrived, &flushed.failed)
}
