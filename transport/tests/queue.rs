//! Delivery from a queue on disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

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

/// A policy whose replay buffer holds everything that the tests send.
const LARGE_REPLAY: Policy = Policy {
    replay_buffer: ReplayBuffer::Fixed(8 * 1024 * 1024),
    ..POLICY
};

struct Setup {
    folder: tempfile::TempDir,
    sender: Arc<Sender>,
    port: u16,
    /// The number of the next line.
    next: usize,
}

impl Setup {
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

    /// Crashes the receiver, which loses unread data, and waits until the next receiver
    /// has every line.
    fn crash_and_wait_for_all(&self, first: Receiver) {
        first.stop_listening();
        first.reset();
        drop(first);
        let second = self.receiver();
        let _sink = self.open(LARGE_REPLAY);
        self.wait_for_all(&second);
    }

    /// Waits until every line has arrived, and returns the number of duplicates.
    fn wait_for_all(&self, receiver: &Receiver) -> usize {
        let mut arrived = Vec::new();
        until(BOUND, || {
            arrived = texts(receiver, 0);
            let mut distinct = arrived.clone();
            distinct.sort();
            distinct.dedup();
            (distinct.len() == self.next).then_some(())
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

/// Closes a sink, and checks that this takes no longer than allowed.
fn close((fixture, writer): (Fixture, Writer)) {
    let start = Instant::now();
    drop(fixture);
    drop(writer);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn everything_arrives_in_order_despite_crashes_of_the_receiver() {
    let mut setup = Setup::new();
    let receiver = setup.receiver();
    let sink = setup.open(LARGE_REPLAY);
    for _ in 0..4 {
        setup.append(&sink, 100);
        receiver.reset();
    }
    setup.append(&sink, 100);
    setup.wait_for_all(&receiver);
    close(sink);
}

#[test]
fn a_backlog_is_kept_across_restarts_until_the_receiver_is_up() {
    let mut setup = Setup::new();
    for _ in 0..3 {
        let sink = setup.open(LARGE_REPLAY);
        setup.append(&sink, 200);
        sink.0.wait_for("failed: ");
        assert_eq!(sink.1.status().waiting as usize, setup.next);
        close(sink);
    }
    let receiver = setup.receiver();
    let sink = setup.open(LARGE_REPLAY);
    assert_eq!(setup.wait_for_all(&receiver), 0);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
}

#[test]
fn an_orderly_restart_causes_no_duplicates() {
    let mut setup = Setup::new();
    let receiver = setup.receiver();
    for _ in 0..3 {
        let sink = setup.open(LARGE_REPLAY);
        setup.append(&sink, 50);
        until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
        close(sink);
    }
    assert_eq!(setup.wait_for_all(&receiver), 0);
}

#[test]
fn a_stalled_receiver_does_not_delay_closing_and_loses_nothing() {
    let mut setup = Setup::new();
    let first = setup.receiver();
    first.pause();
    let sink = setup.open(LARGE_REPLAY);
    setup.append(&sink, 500);
    until(BOUND, || (first.unread().unwrap() > 0).then_some(())).unwrap();
    close(sink);
    setup.crash_and_wait_for_all(first);
}

/// A killed process leaves its files as they are.
#[test]
fn a_killed_process_loses_nothing_and_sends_kept_frames_again() {
    let mut setup = Setup::new();
    let receiver = setup.receiver();
    let policy = Policy {
        replay_buffer: ReplayBuffer::Fixed(10_000),
        // Avoids timeouts, and so more duplicates, on a busy machine.
        write_timeout: BOUND,
        ..POLICY
    };
    let sink = setup.open(policy);
    setup.append(&sink, 500);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(setup.folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    close(sink);
    let sink = setup.open_at(copy.path(), policy);
    setup.append(&sink, 500);
    let duplicates = setup.wait_for_all(&receiver);
    assert!((1..=10_000 / 32).contains(&duplicates), "{duplicates}");
}

/// The receiver's kernel has acknowledged everything, its program has read nothing, and
/// the receiver crashes after the exit of this process.
#[test]
fn an_orderly_exit_keeps_frames_that_may_be_unread() {
    let mut setup = Setup::new();
    let first = setup.receiver();
    first.pause();
    let sink = setup.open(LARGE_REPLAY);
    setup.append(&sink, 10);
    until(BOUND, || (sink.1.status().waiting == 0).then_some(())).unwrap();
    close(sink);
    setup.crash_and_wait_for_all(first);
}

/// A full window is acknowledged in bursts after the receiver resumes reading.
#[test]
fn delivery_continues_after_a_full_window() {
    let mut setup = Setup::new();
    let receiver = setup.receiver();
    receiver.pause();
    let policy = Policy {
        write_timeout: BOUND,
        ..LARGE_REPLAY
    };
    let (fixture, writer) = setup.open(policy);
    let long = "x".repeat(100_000);
    for _ in 0..300 {
        let text = format!("{} {long}", line(setup.next));
        writer
            .append(&mut batch(&[&text]), SystemTime::now())
            .unwrap();
        setup.next += 1;
    }
    fixture.sink.wake();
    until(BOUND, || (receiver.unread().unwrap() > 0).then_some(())).unwrap();
    receiver.resume();
    until(BOUND, || (writer.status().waiting == 0).then_some(())).unwrap();
    assert_eq!(receiver.wait_for(300, BOUND).unwrap().len(), 300);
}

/// The receiver is down before the first message is appended.
#[test]
fn the_age_of_the_oldest_waiting_message_is_reported() {
    let mut setup = Setup::new();
    let sink = setup.open(LARGE_REPLAY);
    sink.0.wait_for("failed: ");
    let before = SystemTime::now();
    setup.append(&sink, 1);
    sink.0.wait_for("queue: 10 waiting, oldest");
    assert!(before.elapsed().unwrap() < BOUND);
    close(sink);
}
