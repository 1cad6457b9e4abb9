//! Queues on disks that fail, beside other files, and after a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::Path;
use std::time::SystemTime;

use queue::{Chunk, Options, Reader};
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
    writer
        .append(&mut batch(10, 100), SystemTime::now())
        .unwrap();
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
    let append = || writer.append(&mut batch(10, 100), SystemTime::now());
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
    writer
        .append(&mut batch(10, 100), SystemTime::now())
        .unwrap();
    assert_eq!(read_all(&mut reader), 10);
}

#[test]
fn a_folder_that_is_gone_for_a_while_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("queue"), dir.path().join("aside"));
    let (writer, mut reader) = queue::open(&path, OPTIONS).unwrap();
    for _ in 0..30 {
        writer
            .append(&mut batch(1000, 1000), SystemTime::now())
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
            .append(&mut batch(1, 200_000), SystemTime::now())
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
        writer
            .append(&mut batch(100, 1000), SystemTime::now())
            .unwrap();
        // Sent, and never acknowledged.
        assert_eq!(read_all(&mut reader), 100);
        for _ in 0..12 {
            writer
                .append(&mut batch(100, 1000), SystemTime::now())
                .unwrap();
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

/// What a kill leaves of a queue, which an orderly end would tidy up.
fn killed(folder: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
    }
    left
}

/// The files of segments, and their inodes.
fn inodes(folder: &Path) -> HashMap<OsString, u64> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let frames = entries.filter(|entry| entry.path().extension() == Some("frames".as_ref()));
    frames
        .map(|entry| (entry.file_name(), entry.ino()))
        .collect()
}

#[test]
fn files_are_used_again_and_what_was_in_them_does_not_come_back() {
    const FRAME: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        limit: 8 << 20,
        ..OPTIONS
    };
    let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
    let mut seen = HashMap::new();
    let mut used = HashSet::new();
    let mut scratch = Vec::new();
    for _ in 0..100 {
        let mut batch = batch(100, FRAME as usize);
        writer.append(&mut batch, SystemTime::now()).unwrap();
        assert!(reader.read(&mut scratch).unwrap().is_some());
        let number = reader.number();
        reader.advance(number.saturating_sub(300), number).unwrap();
        seen.extend(inodes(dir.path()));
        used.extend(inodes(dir.path()).into_values());
        // Segments of 1 MiB: two hold the frames, and one is spare.
        assert!(reader.status().bytes <= 4 << 20);
    }
    assert!(seen.len() >= 9, "{} segments", seen.len());
    assert!(used.len() <= 3, "{} files", used.len());

    // After a kill only the frames that are kept are there.
    let left = killed(dir.path());
    fs::write(left.path().join("spare"), "of a segment").unwrap();
    drop((writer, reader));
    let (writer, mut reader) = queue::open(left.path(), options).unwrap();
    assert!(!left.path().join("spare").exists());
    assert_eq!((writer.status().waiting, reader.delivered()), (0, 10_000));
    let mut first = u64::MAX;
    while let Some(Chunk { batch, .. }) = reader.read(&mut scratch).unwrap() {
        first = first.min(batch.first());
    }
    assert_eq!((first, reader.number()), (9_700, 10_000));
    assert_eq!(reader.status().damaged, 0);
}

/// A record's header is written last, so without it there is no record.
#[test]
fn an_append_that_a_kill_cut_off_costs_nothing_in_a_file_that_is_used_again() {
    const HEADER: usize = 36;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        limit: 8 << 20,
        ..OPTIONS
    };
    let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
    let mut number = 0;
    let newest = loop {
        let before = inodes(dir.path());
        let mut batch = batch(100, 1000);
        writer.append(&mut batch, SystemTime::now()).unwrap();
        number += read_all(&mut reader);
        reader.advance(number - 100, number).unwrap();
        let after = inodes(dir.path());
        let is_reused = |inode| number > 3000 && !before.values().any(|known| known == inode);
        let mut new = after.iter().filter(|(name, _)| !before.contains_key(*name));
        if let Some((name, inode)) = new.next()
            && is_reused(inode)
        {
            break name.clone();
        }
    };
    let is = fs::read(dir.path().join(&newest)).unwrap();
    assert!(is.len() > 1 << 20, "{}", is.len());
    let header = 16 + 100 * 1005 + HEADER;
    writer
        .append(&mut batch(100, 1000), SystemTime::now())
        .unwrap();
    let left = killed(dir.path());
    drop((writer, reader));
    let path = left.path().join(newest);
    let file = File::options().write(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), is.len() as u64);
    let was = &is[header..header + HEADER];
    file.write_all_at(was, header as u64).unwrap();
    let (writer, mut reader) = queue::open(left.path(), options).unwrap();
    assert_eq!(reader.status().waiting, 0);
    writer
        .append(&mut batch(7, 1000), SystemTime::now())
        .unwrap();
    // With those that are kept.
    assert_eq!(read_all(&mut reader), 107);
    assert_eq!(reader.status().damaged, 0);
}

#[test]
fn an_idle_queue_keeps_no_file_to_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut reader) = queue::open(dir.path(), OPTIONS).unwrap();
    for _ in 0..100 {
        writer
            .append(&mut batch(100, 1000), SystemTime::now())
            .unwrap();
    }
    assert_eq!(read_all(&mut reader), 10_000);
    let spare = dir.path().join("spare");
    reader.advance(9_000, 10_000).unwrap();
    assert!(spare.exists());
    let size = fs::metadata(&spare).unwrap().len();
    let of_segments = inodes(dir.path())
        .into_keys()
        .map(|name| fs::metadata(dir.path().join(name)).unwrap().len());
    assert_eq!(reader.status().bytes, size + of_segments.sum::<u64>());
    reader.advance(10_000, 10_000).unwrap();
    assert!(!spare.exists());

    // Nor what is left in the file that is written.
    for round in 101..250 {
        writer
            .append(&mut batch(100, 1000), SystemTime::now())
            .unwrap();
        read_all(&mut reader);
        reader.advance((round - 2) * 100, round * 100).unwrap();
    }
    let sizes = || -> u64 {
        let names = inodes(dir.path()).into_keys();
        let sizes = names.map(|name| fs::metadata(dir.path().join(name)).unwrap().len());
        sizes.sum()
    };
    assert!(spare.exists() || sizes() > 4 << 20);
    let number = reader.number();
    reader.advance(number, number).unwrap();
    assert_eq!(sizes(), reader.status().bytes);
    assert!(sizes() < 4 << 20, "{}", sizes());
}

#[test]
fn a_reader_that_keeps_up_needs_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut reader) = queue::open(dir.path(), OPTIONS).unwrap();
    let mut scratch = Vec::new();
    let append = |count| {
        let mut batch = batch(count, 100);
        writer.append(&mut batch, SystemTime::now()).unwrap();
        batch.frames()
    };
    // Nobody reads yet.
    assert_eq!(append(10), 10);
    assert_eq!(read_all(&mut reader), 10);
    for _ in 0..3 {
        assert_eq!(append(20), 0);
    }
    for first in [10, 30, 50] {
        let batch = reader.read(&mut scratch).unwrap().unwrap().batch;
        assert_eq!((batch.first(), batch.frames()), (first, 20));
        reader.recycle(batch);
    }
    // It is read again, and it rests.
    for go_back in [true, false] {
        assert_eq!(append(5), 0);
        if go_back {
            reader.seek(68);
        } else {
            reader.rest();
        }
        assert_eq!(append(5), 5);
        assert_eq!(read_all(&mut reader), if go_back { 12 } else { 10 });
    }
    // More than is held in memory.
    let passed = (0..30).take_while(|_| append(1000) == 0).count();
    assert!((8..12).contains(&passed), "{passed}");
    append(10);
    assert_eq!(read_all(&mut reader), 1000 * passed as u64 + 1010);
    assert_eq!(append(1), 0);
    assert_eq!(reader.status().damaged, 0);
}

/// The names of the files in a folder.
fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// The disk may have the records of a file that is used again and not its new name:
/// what was synced would be lost.
#[test]
fn a_synced_queue_uses_no_file_again() {
    for sync in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { sync, ..OPTIONS };
        let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
        let mut had_spare = false;
        for _ in 0..30 {
            // Something is always left: an idle queue keeps no file.
            for _ in 0..2 {
                writer
                    .append(&mut batch(1000, 1000), SystemTime::now())
                    .unwrap();
            }
            let number = reader.number();
            reader.advance(number, number).unwrap();
            read_all(&mut reader);
            had_spare |= names(dir.path()).contains(&OsString::from("spare"));
        }
        assert_eq!(had_spare, !sync);
    }
}

/// The rest of a file that is used again is counted already.
#[test]
fn nothing_is_evicted_for_what_fits_into_a_file_that_is_used_again() {
    const KIB: usize = 1024;
    let dir = tempfile::tempdir().unwrap();
    let limit = 8 << 20;
    let options = Options { limit, ..OPTIONS };
    let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
    let append = |kib: usize| {
        let mut batch = batch(kib, KIB - 1);
        writer.append(&mut batch, SystemTime::now()).unwrap();
    };
    let has_spare = || names(dir.path()).contains(&OsString::from("spare"));
    // A segment of 1.25 MB, and six of 1 MB.
    (0..15).for_each(|_| append(64));
    append(256);
    (0..6 * 16).for_each(|_| append(64));
    let first = (15 * 64 + 256) as u64;
    let mut scratch = Vec::new();
    while reader.number() < first {
        reader.read(&mut scratch).unwrap().unwrap();
    }
    reader.advance(first, first).unwrap();
    assert!(has_spare());
    append(64);
    assert!(!has_spare(), "the file is not used again");
    let before = reader.status().bytes;
    assert!(before + (1 << 20) > limit, "more would fit: {before}");
    append(KIB);
    let after = reader.status();
    assert_eq!((after.bytes, after.evicted), (before, 0));
}
