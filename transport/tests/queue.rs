//! Sinks that deliver from a queue on disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::{BOUND, Fixture, POLICY, batch, open_queue, texts};
use queue::Writer;
use receiver::{Listen, Options, Receiver};
use rig::port::free_port;
use rig::wait::until;
use syslog::{Policy, ReplayBuffer};
use transport::Sender;

/// Everything is kept that the tests send.
const KEEPING: Policy = Policy {
    replay_buffer: ReplayBuffer::Fixed(8 * 1024 * 1024),
    ..POLICY
};

struct World {
    folder: tempfile::TempDir,
    sender: Arc<Sender>,
    port: u16,
    /// The number of the next line.
    next: usize,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            sender: Sender::start().unwrap(),
            port: free_port(),
            next: 0,
        }
    }

    fn receiver(&self) -> Receiver {
        Receiver::start(Options {
            port: self.port,
            ..Options::new(Listen::Tcp)
        })
        .unwrap()
    }

    fn open(&self, policy: Policy) -> (Fixture, Writer) {
        self.open_at(self.folder.path(), policy)
    }

    fn open_at(&self, folder: &Path, policy: Policy) -> (Fixture, Writer) {
        open_queue(&self.sender, folder, self.port, policy)
    }

    /// Appends batches of ten lines.
    fn append(&mut self, (fixture, writer): &(Fixture, Writer), batches: usize) {
        for _ in 0..batches {
            let lines: Vec<String> = (self.next..self.next + 10).map(line).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            writer
                .append(&mut batch(&lines), SystemTime::now())
                .unwrap();
            fixture.sink.wake();
            self.next += 10;
        }
    }

    /// The receiver crashes, and loses what only its kernel had. Its successor gets
    /// every line.
    fn wait_for_all_after_a_crash(&self, first: Receiver) {
        first.stop_listening();
        first.reset();
        drop(first);
        let second = self.receiver();
        let _sink = self.open(KEEPING);
        self.wait_for_all(&second);
    }

    /// Waits until every line has arrived, and returns how many arrived again.
    fn wait_for_all(&self, receiver: &Receiver) -> usize {
        let mut arrived = Vec::new();
        until(BOUND, || {
            arrived = texts(receiver, 0);
            let mut first = arrived.clone();
            first.sort();
            first.dedup();
            (first.len() == self.next).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {} of {}", arrived.len(), self.next));
        let mut seen = std::collections::BTreeSet::new();
        let first: Vec<&String> = arrived.iter().filter(|text| seen.insert(*text)).collect();
        assert!(first.is_sorted(), "out of order");
        arrived.len() - first.len()
    }
}

fn line(number: usize) -> String {
    format!("line {number:06}")
}

/// Ends a sink, and asserts that it takes no longer than it may.
fn close((fixture, writer): (Fixture, Writer)) {
    let start = Instant::now();
    drop(fixture);
    drop(writer);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn everything_arrives_in_order_although_the_receiver_crashes() {
    let mut world = World::new();
    let receiver = world.receiver();
    let sink = world.open(KEEPING);
    for _ in 0..4 {
        world.append(&sink, 100);
        receiver.reset();
    }
    world.append(&sink, 100);
    world.wait_for_all(&receiver);
    close(sink);
}

#[test]
fn a_backlog_waits_for_the_receiver_and_outlives_the_process() {
    let mut world = World::new();
    for _ in 0..3 {
        let sink = world.open(KEEPING);
        world.append(&sink, 200);
        sink.0.wait_for("failed: ");
        assert_eq!(sink.1.status().waiting as usize, world.next);
        close(sink);
    }
    let receiver = world.receiver();
    let sink = world.open(KEEPING);
    assert_eq!(world.wait_for_all(&receiver), 0);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
}

#[test]
fn an_orderly_restart_sends_nothing_again() {
    let mut world = World::new();
    let receiver = world.receiver();
    for _ in 0..3 {
        let sink = world.open(KEEPING);
        world.append(&sink, 50);
        until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
        close(sink);
    }
    assert_eq!(world.wait_for_all(&receiver), 0);
}

#[test]
fn a_receiver_that_stalls_does_not_hold_up_the_end_and_loses_nothing() {
    let mut world = World::new();
    let first = world.receiver();
    first.pause();
    let sink = world.open(KEEPING);
    world.append(&sink, 500);
    until(BOUND, || (first.unread().unwrap() > 0).then_some(())).unwrap();
    close(sink);
    world.wait_for_all_after_a_crash(first);
}

/// A killed process leaves its files as they are.
#[test]
fn a_killed_process_loses_nothing_and_repeats_what_was_kept() {
    let mut world = World::new();
    let receiver = world.receiver();
    let policy = Policy {
        replay_buffer: ReplayBuffer::Fixed(10_000),
        // A busy machine is no reason to send more again.
        write_timeout: BOUND,
        ..POLICY
    };
    let sink = world.open(policy);
    world.append(&sink, 500);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(world.folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    close(sink);
    let sink = world.open_at(copy.path(), policy);
    world.append(&sink, 500);
    let again = world.wait_for_all(&receiver);
    assert!((1..=10_000 / 32).contains(&again), "{again}");
}

/// The receiver's kernel has everything, its program nothing, and it dies after the
/// end of this process.
#[test]
fn an_orderly_exit_forgets_nothing_that_may_be_unread() {
    let mut world = World::new();
    let first = world.receiver();
    first.pause();
    let sink = world.open(KEEPING);
    world.append(&sink, 10);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
    close(sink);
    world.wait_for_all_after_a_crash(first);
}

/// Its acknowledgements come in bursts, when everything is under way that may be.
#[test]
fn a_full_window_is_filled_again() {
    let mut world = World::new();
    let receiver = world.receiver();
    receiver.pause();
    let policy = Policy {
        write_timeout: BOUND,
        ..KEEPING
    };
    let (fixture, writer) = world.open(policy);
    let long = "x".repeat(100_000);
    for _ in 0..300 {
        let text = format!("{} {long}", line(world.next));
        writer
            .append(&mut batch(&[&text]), SystemTime::now())
            .unwrap();
        world.next += 1;
    }
    fixture.sink.wake();
    until(BOUND, || (receiver.unread().unwrap() > 0).then_some(())).unwrap();
    receiver.resume();
    until(BOUND, || (writer.status().waiting == 0).then_some(())).unwrap();
    assert_eq!(receiver.wait_for(300, BOUND).unwrap().len(), 300);
}

/// Also where it was down before there was anything.
#[test]
fn the_oldest_message_that_waits_is_known() {
    let mut world = World::new();
    let sink = world.open(KEEPING);
    sink.0.wait_for("failed: ");
    let before = SystemTime::now();
    world.append(&sink, 1);
    sink.0.wait_for("queue: 10 wait, the oldest for");
    assert!(before.elapsed().unwrap() < BOUND);
    close(sink);
}
