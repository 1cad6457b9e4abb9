//! Queues that share a budget.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use queue::{Budget, Options, Reader, Writer};
use syslog::{Batch, Framing};

/// The size of each append in bytes.
const BATCH: u64 = 256 * 1024;
/// The size of a segment in bytes: an eighth of the queue's own limit.
const SEGMENT: u64 = 6 * BATCH;
const OPTIONS: Options = Options {
    framing: Framing::Newline,
    limit: 8 * SEGMENT,
    sync: false,
};
/// The size of a frame in bytes, including the queue's overhead.
const FRAME: u64 = 1024;

fn open(dir: &Path, name: &str, budget: &Arc<Budget>) -> (Writer, Reader) {
    let (writer, reader) = queue::open(&dir.join(name), OPTIONS).unwrap();
    (writer.with_budget(budget), reader)
}

/// Appends a batch, and returns the number of frames in it.
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

/// Delivers all frames, and returns their number.
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
fn the_largest_queue_evicts_its_segments() {
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

    // The bytes that one queue has delivered are available to the others.
    for _ in 0..30 {
        fill(&small);
    }
    drop((large, of_large));
    assert_eq!(small.status().evicted, 0);
}

#[test]
fn a_closed_queue_releases_its_share_of_the_budget() {
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
    // Segments from before the restart count as well.
    let (one, _reader) = open(dir.path(), "one", &budget);
    fill(&one);
    let evicted = one.status().evicted + other.status().evicted;
    assert!(evicted > 0);
    assert!(one.status().bytes + other.status().bytes <= 16 * BATCH);
}

/// Fills and empties four queues at the same time.
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
