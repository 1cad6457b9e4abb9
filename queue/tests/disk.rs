//! Queues on disks that fail, beside other files, and after a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use queue::{Options, Reader};
use syslog::{Batch, Framing};

const OPTIONS: Options = Options {
    framing: Framing::Newline,
    limit: 64 << 20,
    sync: false,
};

fn batch(count: usize, size: usize) -> Batch {
    let mut batch = Batch::new(OPTIONS.framing);
    for _ in 0..count {
        let mut frame = batch.frame();
        frame.bytes().extend(std::iter::repeat_n(b'x', size));
        frame.finish();
    }
    batch
}

/// Reads what is left, and returns the number of frames.
fn read_all(reader: &mut Reader) -> u64 {
    let mut scratch = Vec::new();
    let mut count = 0;
    while let Some(chunk) = reader.read(&mut scratch).unwrap() {
        count += chunk.batch.frames() as u64;
    }
    count
}

#[test]
fn two_cannot_have_the_same_queue() {
    let dir = tempfile::tempdir().unwrap();
    let first = queue::open(dir.path(), OPTIONS).unwrap();
    let error = queue::open(dir.path(), OPTIONS).unwrap_err();
    assert!(error.cause().to_string().contains("another process uses"));
    assert_eq!(queue::delete(dir.path()).unwrap(), None);
    drop(first);
    queue::open(dir.path(), OPTIONS).unwrap();
}

#[test]
fn only_a_queue_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = queue::open(dir.path(), OPTIONS).unwrap();
    writer.append(&batch(10, 100), SystemTime::now()).unwrap();
    let bytes = reader.status().bytes;
    drop((writer, reader));
    fs::write(dir.path().join("precious"), "data").unwrap();
    assert_eq!(queue::delete(dir.path()).unwrap(), None);
    fs::remove_file(dir.path().join("precious")).unwrap();
    assert_eq!(queue::delete(dir.path()).unwrap(), Some(bytes));
    assert!(!dir.path().exists());

    // Somebody else's lock.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("queue.lock"), "something else").unwrap();
    assert_eq!(queue::delete(other.path()).unwrap(), None);
    assert!(other.path().join("queue.lock").exists());
}

#[test]
fn nothing_is_appended_to_a_folder_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (here, gone) = (dir.path().join("queue"), dir.path().join("gone"));
    let (writer, mut reader) = queue::open(&here, OPTIONS).unwrap();
    let append = || writer.append(&batch(10, 100), SystemTime::now());
    append().unwrap();
    fs::rename(&here, &gone).unwrap();
    let error = append().unwrap_err().chain();
    assert!(error.contains("queue/queue.lock: No such file"), "{error}");
    assert!(reader.read(&mut Vec::new()).is_err());
    fs::rename(&gone, &here).unwrap();
    append().unwrap();
    assert_eq!(read_all(&mut reader), 20);
    assert_eq!(writer.status().damaged, 0);
}

#[test]
fn files_with_other_names_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["7.frames", "x.frames", "18446744073709551615.frames"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let (writer, mut reader) = queue::open(dir.path(), OPTIONS).unwrap();
    writer.append(&batch(10, 100), SystemTime::now()).unwrap();
    assert_eq!(read_all(&mut reader), 10);
}

#[test]
fn a_folder_that_is_gone_for_a_while_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("queue"), dir.path().join("aside"));
    let (writer, mut reader) = queue::open(&path, OPTIONS).unwrap();
    for _ in 0..30 {
        writer
            .append(&batch(1000, 1000), SystemTime::now())
            .unwrap();
    }
    fs::rename(&path, &aside).unwrap();
    reader.read(&mut Vec::new()).unwrap_err();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(read_all(&mut reader), 30_000);
    assert_eq!(reader.status().damaged, 0);
}

#[test]
fn a_segment_that_is_cut_short_for_a_while_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut reader) = queue::open(dir.path(), OPTIONS).unwrap();
    for _ in 0..4 {
        writer
            .append(&batch(1, 200_000), SystemTime::now())
            .unwrap();
    }
    let path = dir.path().join("00000000000000000000.frames");
    let intact = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut scratch = Vec::new();
    assert!(reader.read(&mut scratch).unwrap().is_some());
    file.set_len(300_000).unwrap();
    assert!(reader.read(&mut scratch).unwrap().is_none());
    assert_eq!(reader.status().damaged, 3);
    // The connection ends, and more can be read than before.
    reader.seek(0);
    file.write_all_at(&intact, 0).unwrap();
    for _ in 0..2 {
        assert!(reader.read(&mut scratch).unwrap().is_some());
    }
    file.set_len(450_000).unwrap();
    assert!(reader.read(&mut scratch).unwrap().is_none());
    assert_eq!(reader.status().damaged, 3);
    assert_eq!(reader.status().waiting, 1);
}

#[test]
fn what_was_evicted_under_way_is_counted_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        limit: 1 << 20,
        ..OPTIONS
    };
    let mut counted = 0;
    {
        let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
        writer.append(&batch(100, 1000), SystemTime::now()).unwrap();
        // Sent, and never acknowledged.
        assert_eq!(read_all(&mut reader), 100);
        for _ in 0..12 {
            writer.append(&batch(100, 1000), SystemTime::now()).unwrap();
        }
        counted += reader.status().evicted;
    }
    let (_writer, mut reader) = queue::open(dir.path(), options).unwrap();
    let delivered = reader.delivered();
    reader.seek(delivered);
    let left = read_all(&mut reader);
    counted += reader.status().evicted;
    assert_eq!(left + counted, 1300);
}
