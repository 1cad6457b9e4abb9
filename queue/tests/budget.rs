//! Queues that share what they may hold.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails where something is not as it must be"
)]

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use queue::{Budget, Options, Reader, Writer};
use syslog::{Batch, Framing};

/// What is appended at a time.
const BATCH: u64 = 256 * 1024;
/// An eighth of a queue's own limit.
const SEGMENT: u64 = 6 * BATCH;
const OPTIONS: Options = Options {
    framing: Framing::Newline,
    limit: 8 * SEGMENT,
    sync: false,
};
/// The size of a frame, with what the queue adds to it.
const FRAME: u64 = 1024;

fn open(dir: &Path, name: &str, budget: &Arc<Budget>) -> (Writer, Reader) {
    let (writer, reader) = queue::open(&dir.join(name), OPTIONS).unwrap();
    (writer.within(budget), reader)
}

/// Appends a batch, and returns the number of its frames.
fn fill(writer: &Writer) -> u64 {
    let mut batch = Batch::new(OPTIONS.framing);
    for _ in 0..BATCH / FRAME {
        let mut frame = batch.frame();
        frame.bytes().extend([b'x'; FRAME as usize - 16]);
        frame.finish();
    }
    let frames = batch.frames() as u64;
    writer.append(&mut batch, SystemTime::now()).unwrap();
    frames
}

fn deliver_all(reader: &mut Reader) -> u64 {
    let (mut scratch, mut count) = (Vec::new(), 0);
    while let Some(chunk) = reader.read(&mut scratch).unwrap() {
        count += chunk.batch.frames() as u64;
        let number = reader.number();
        reader.advance(number, number).unwrap();
    }
    count
}

#[test]
fn the_largest_queue_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Arc::new(Budget::new(40 * BATCH));
    let (large, mut of_large) = open(dir.path(), "large", &budget);
    let (small, mut of_small) = open(dir.path(), "small", &budget);
    let mut appended = 0;
    for _ in 0..38 {
        appended += fill(&large);
    }
    assert_eq!(large.status().evicted, 0);
    for _ in 0..8 {
        fill(&small);
        let bytes = large.status().bytes + small.status().bytes;
        assert!(bytes <= 40 * BATCH, "{bytes}");
    }
    let evicted = large.status().evicted;
    assert!(evicted > 0);
    assert_eq!(small.status().evicted, 0);
    assert_eq!(deliver_all(&mut of_large) + evicted, appended);
    assert_eq!(deliver_all(&mut of_small), 8 * BATCH / FRAME);

    // What one does not need any more is the others'.
    for _ in 0..30 {
        fill(&small);
    }
    drop((large, of_large));
    assert_eq!(small.status().evicted, 0);
}

#[test]
fn a_queue_that_is_closed_leaves_its_part_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Arc::new(Budget::new(16 * BATCH));
    let one = open(dir.path(), "one", &budget);
    for _ in 0..12 {
        fill(&one.0);
    }
    drop(one);
    let (other, _reader) = open(dir.path(), "other", &budget);
    for _ in 0..15 {
        fill(&other);
    }
    assert_eq!(other.status().evicted, 0);
    // What is found on the disk counts as well.
    let (one, _reader) = open(dir.path(), "one", &budget);
    fill(&one);
    let evicted = one.status().evicted + other.status().evicted;
    assert!(evicted > 0);
    assert!(one.status().bytes + other.status().bytes <= 16 * BATCH);
}

/// Four queues are filled and emptied at the same time.
#[test]
fn each_frame_is_delivered_or_counted_as_evicted() {
    const ROUNDS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let budget = Arc::new(Budget::new(32 * BATCH));
    let queues = ["a", "b", "c", "d"].map(|name| open(dir.path(), name, &budget));
    let all: Vec<(u64, u64)> = thread::scope(|scope| {
        let threads = queues.map(|(writer, mut reader)| {
            scope.spawn(move || {
                let (mut appended, mut delivered) = (0, 0);
                for round in 0..ROUNDS {
                    appended += fill(&writer);
                    if round % 20 == 19 {
                        delivered += deliver_all(&mut reader);
                    }
                }
                delivered += deliver_all(&mut reader);
                let status = reader.status();
                assert_eq!((status.damaged, status.waiting), (0, 0));
                assert!(status.bytes <= 2 * SEGMENT, "{}", status.bytes);
                (appended, delivered + status.evicted)
            })
        });
        threads.map(|thread| thread.join().unwrap()).into()
    });
    for (appended, accounted) in all {
        assert_eq!(appended, accounted);
    }
}
