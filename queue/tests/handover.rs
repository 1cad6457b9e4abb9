//! A writer and a reader that run at the same time, each on its own thread.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::thread;
use std::time::SystemTime;

use queue::{Options, QueuedBatch};
use syslog::{Batch, Framing};

const OPTIONS: Options = Options {
    framing: Framing::Newline,
    limit: 64 << 20,
    sync: false,
};
const FRAMES: u64 = 300_000;

/// The reader often reaches the end of the queue just when more is appended.
#[test]
fn each_frame_is_read_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut reader) = queue::open(dir.path(), OPTIONS).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut batch = Batch::new(OPTIONS.framing);
            for number in 0..FRAMES {
                batch.clear();
                let mut frame = batch.frame();
                frame
                    .bytes()
                    .extend_from_slice(number.to_string().as_bytes());
                frame.finish();
                writer.append(&mut batch, SystemTime::now()).unwrap();
            }
        });
        let mut scratch = Vec::new();
        let mut next = 0;
        while next < FRAMES {
            let Some(QueuedBatch { batch, .. }) = reader.read(&mut scratch).unwrap() else {
                continue;
            };
            assert_eq!(batch.first(), next);
            for line in batch.bytes().split_inclusive(|byte| *byte == b'\n') {
                assert_eq!(line, format!("{next}\n").as_bytes());
                next += 1;
            }
            assert_eq!(reader.number(), next);
            reader.advance(next.saturating_sub(1000), next).unwrap();
            reader.recycle(batch);
        }
        assert_eq!(reader.status().waiting, 0);
    });
}
