//! Fuzzes the queue: whichever bytes of its files are changed, and wherever the files
//! are truncated, the queue must open. It must return unmodified frames, each at most
//! once and in order, and last the frames that are appended afterwards.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use queue::{Options, Reader};
use syslog::{Batch, Framing};

const OPTIONS: Options = Options {
    framing: Framing::Newline,
    limit: 1024 * 1024,
    sync: false,
};
const FILES: [&str; 3] = [
    "00000000000000000000.frames",
    "00000000000000000020.frames",
    "position",
];

/// A change of a file: the file's number, an offset, and a new byte, or `None` to
/// truncate the file.
type Change = (u8, u16, Option<u8>);

fuzz_target!(|changes: Vec<Change>| {
    let folder = tempfile::tempdir().unwrap();
    for begin in [0, 20] {
        let (writer, mut reader) = queue::open(folder.path(), OPTIONS).unwrap();
        for first in (begin..begin + 20).step_by(5) {
            writer
                .append(&mut batch(first..first + 5), SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        reader.advance(begin / 4, begin / 2).unwrap();
    }
    for (file, offset, byte) in changes {
        change(
            &folder.path().join(FILES[usize::from(file) % FILES.len()]),
            offset,
            byte,
        );
    }
    let (writer, mut reader) = queue::open(folder.path(), OPTIONS).unwrap();
    let next = reader.delivered() + reader.status().waiting;
    writer
        .append(&mut batch(next..next + 1), SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(read(&mut reader), next + 1);
});

/// Returns a batch of frames whose texts are the numbers.
fn batch(numbers: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::new(OPTIONS.framing);
    for number in numbers {
        let mut frame = batch.frame();
        frame
            .bytes()
            .extend_from_slice(number.to_string().as_bytes());
        frame.finish();
    }
    batch
}

fn change(path: &Path, offset: u16, byte: Option<u8>) {
    let mut bytes = fs::read(path).unwrap();
    let offset = usize::from(offset) % bytes.len().max(1);
    match byte {
        Some(byte) if offset < bytes.len() => bytes[offset] = byte,
        Some(byte) => bytes.push(byte),
        None => bytes.truncate(offset),
    }
    fs::write(path, bytes).unwrap();
}

/// Reads all frames, checks their content and order, and returns the number after the
/// last frame.
fn read(reader: &mut Reader) -> u64 {
    let mut scratch = Vec::new();
    let mut next = 0;
    while let Some(chunk) = reader.read(&mut scratch).unwrap() {
        let first = chunk.batch.first();
        assert!(first >= next);
        next = first + chunk.batch.frames() as u64;
        assert_eq!(chunk.batch.bytes(), batch(first..next).bytes());
    }
    next
}
