//! Queues on failing disks, next to foreign files, and after a kill.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::Path;
use std::time::SystemTime;

use queue::{Options, QueuedBatch, Reader};
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

/// Reads the remaining frames, and returns their number.
fn read_all(reader: &mut Reader) -> u64 {
    let mut scratch = Vec::new();
    let mut count = 0;
    while let Some(chunk) = reader.read(&mut scratch).unwrap() {
        count += chunk.batch.frames() as u64;
    }
    count
}

#[test]
fn a_queue_cannot_be_opened_twice() {
    let dir = tempfile::tempdir().unwrap();
    let first = queue::open(dir.path(), OPTIONS).unwrap();
    let error = queue::open(dir.path(), OPTIONS).unwrap_err();
    assert!(error.cause().to_string().contains("another process uses"));
    assert_eq!(queue::delete(dir.path()).unwrap(), None);
    drop(first);
    queue::open(dir.path(), OPTIONS).unwrap();
}

#[test]
fn delete_leaves_folders_with_other_files_alone() {
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

    // A lock file of another program.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("queue.lock"), "something else").unwrap();
    assert_eq!(queue::delete(other.path()).unwrap(), None);
    assert!(other.path().join("queue.lock").exists());
}

#[test]
fn an_append_fails_while_the_folder_is_missing() {
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
fn files_with_other_names_are_ignored() {
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
fn a_temporarily_missing_folder_loses_nothing() {
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
fn frames_of_a_truncated_segment_are_counted_once() {
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
    // After a reconnect, more frames can be read than before.
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
fn frames_evicted_before_their_acknowledgement_are_counted_after_a_kill() {
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
        // They are sent, and never acknowledged.
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

/// Copies the files of a queue in use, which a kill would leave in this state. An
/// orderly close would truncate them.
fn copy_as_killed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Returns the segment files and their inodes.
fn inodes(folder: &Path) -> HashMap<OsString, u64> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let frames = entries.filter(|entry| entry.path().extension() == Some("frames".as_ref()));
    frames
        .map(|entry| (entry.file_name(), entry.ino()))
        .collect()
}

#[test]
fn segment_files_are_reused_and_their_old_frames_are_not_read_again() {
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
        // Segments have 1 MiB: two hold the frames, and one is spare.
        assert!(reader.status().bytes <= 4 << 20);
    }
    assert!(seen.len() >= 9, "{} segments", seen.len());
    assert!(used.len() <= 3, "{} files", used.len());

    // After a kill, only the kept frames are read.
    let copy = copy_as_killed(dir.path());
    fs::write(copy.path().join("spare"), "of a segment").unwrap();
    drop((writer, reader));
    let (writer, mut reader) = queue::open(copy.path(), options).unwrap();
    assert!(!copy.path().join("spare").exists());
    assert_eq!((writer.status().waiting, reader.delivered()), (0, 10_000));
    let mut first = u64::MAX;
    while let Some(QueuedBatch { batch, .. }) = reader.read(&mut scratch).unwrap() {
        first = first.min(batch.first());
    }
    assert_eq!((first, reader.number()), (9_700, 10_000));
    assert_eq!(reader.status().damaged, 0);
}

/// The header of a record is written last, so a record without a header does not count.
#[test]
fn an_append_cut_off_by_a_kill_loses_nothing_in_a_reused_file() {
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
    let before = fs::read(dir.path().join(&newest)).unwrap();
    assert!(before.len() > 1 << 20, "{}", before.len());
    let header = 16 + 100 * 1005 + HEADER;
    writer
        .append(&mut batch(100, 1000), SystemTime::now())
        .unwrap();
    let copy = copy_as_killed(dir.path());
    drop((writer, reader));
    let path = copy.path().join(newest);
    let file = File::options().write(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), before.len() as u64);
    let unwritten = &before[header..header + HEADER];
    file.write_all_at(unwritten, header as u64).unwrap();
    let (writer, mut reader) = queue::open(copy.path(), options).unwrap();
    assert_eq!(reader.status().waiting, 0);
    writer
        .append(&mut batch(7, 1000), SystemTime::now())
        .unwrap();
    // 100 of them were kept to be sent again.
    assert_eq!(read_all(&mut reader), 107);
    assert_eq!(reader.status().damaged, 0);
}

#[test]
fn an_idle_queue_keeps_no_spare_file() {
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

    // The active segment keeps no leftovers either.
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
    // The handover starts when the reader has read everything.
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
    // The handover stops when the reader goes back or rests.
    for go_back in [true, false] {
        assert_eq!(append(5), 0);
        if go_back {
            reader.seek(68);
        } else {
            reader.release_memory();
        }
        assert_eq!(append(5), 5);
        assert_eq!(read_all(&mut reader), if go_back { 12 } else { 10 });
    }
    // The handover stops when the batches exceed its memory.
    let handed_over = (0..30).take_while(|_| append(1000) == 0).count();
    assert!((8..12).contains(&handed_over), "{handed_over}");
    append(10);
    assert_eq!(read_all(&mut reader), 1000 * handed_over as u64 + 1010);
    assert_eq!(append(1), 0);
    assert_eq!(reader.status().damaged, 0);
}

/// Returns the names of the files in a folder.
fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// After a power failure, the disk may have the records of a reused file, but not its new
/// name: synced frames would be lost.
#[test]
fn a_synced_queue_reuses_no_files() {
    for sync in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { sync, ..OPTIONS };
        let (writer, mut reader) = queue::open(dir.path(), options).unwrap();
        let mut had_spare = false;
        for _ in 0..30 {
            // Some frames always remain, because an idle queue keeps no spare file.
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

/// The size of a reused file counts from the beginning, so filling it adds nothing.
#[test]
fn nothing_is_evicted_for_a_batch_that_fits_into_a_reused_file() {
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
    assert!(!has_spare(), "the spare file is not reused");
    let before = reader.status().bytes;
    assert!(
        before + (1 << 20) > limit,
        "the batch fits anyway: {before}"
    );
    append(KIB);
    let after = reader.status();
    assert_eq!((after.bytes, after.evicted), (before, 0));
}
