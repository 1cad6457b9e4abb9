//! A queue compared with a list of frames. Whatever happens to the process and to
//! the files, each frame is delivered unchanged or counted as lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proptest::prelude::*;
use queue::{Options, Reader, Writer};
use syslog::{Batch, Framing};

const OPTIONS: Options = Options {
    framing: Framing::OctetCounting,
    limit: 4 * 1024 * 1024,
    sync: false,
};

#[derive(Clone, Debug)]
enum Step {
    /// Appends a batch of `frames` frames of `size` bytes each.
    Append { frames: usize, size: usize },
    /// Reads this number of batches.
    Read(usize),
    /// The peer acknowledges this share of the frames that were read.
    Acknowledge(f64),
    /// The connection ends: unacknowledged frames are read again.
    Disconnect,
    /// The process ends in an orderly way, and starts again.
    Restart,
    /// The process is killed, and starts again.
    Kill,
    /// The process is killed during an append, when `share` of the bytes are written.
    KillInAppend {
        frames: usize,
        size: usize,
        share: f64,
    },
    /// A byte of a segment changes between two runs of the process.
    Damage { segment: usize, at: f64 },
    /// A segment is truncated between two runs of the process.
    Truncate { segment: usize, at: f64 },
    /// A slot of the position file is damaged between two runs of the process.
    DamagePosition(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        16 => (1..40_usize, prop_oneof![4 => 20..600_usize, 1 => 10_000..90_000_usize])
            .prop_map(|(frames, size)| Step::Append { frames, size }),
        12 => (1..4_usize).prop_map(Step::Read),
        12 => (0.0..1.0).prop_map(Step::Acknowledge),
        2 => Just(Step::Disconnect),
        1 => Just(Step::Restart),
        2 => Just(Step::Kill),
        3 => (1..40_usize, prop_oneof![20..600_usize, 10_000..90_000_usize], 0.0..1.0)
            .prop_map(|(frames, size, share)| Step::KillInAppend { frames, size, share }),
        1 => (0..8_usize, 0.0..1.0).prop_map(|(segment, at)| Step::Damage { segment, at }),
        1 => (0..8_usize, 0.0..1.0).prop_map(|(segment, at)| Step::Truncate { segment, at }),
        1 => (0..2_usize).prop_map(Step::DamagePosition),
    ]
}

/// Returns the message with this number. Long messages differ in every part.
fn message(number: u64, size: usize) -> Vec<u8> {
    let unit = format!("{number}.");
    unit.bytes().cycle().take(size).collect()
}

struct World {
    folder: tempfile::TempDir,
    writer: Writer,
    reader: Reader,
    /// The frames that were appended, by number.
    appended: Vec<Vec<u8>>,
    /// The number of frames whose append has returned, which a kill cannot lose.
    safe: usize,
    /// For each frame, whether it was acknowledged.
    acknowledged: Vec<bool>,
    delivered: u64,
    /// The number of frames that were counted as lost before the last restart.
    lost: u64,
    /// The maximum number of frames that are counted as lost although they are not
    /// missing, or counted twice.
    unknown: u64,
    /// The frames that were read and not yet acknowledged.
    in_flight: Vec<u64>,
    scratch: Vec<u8>,
    is_damaged: bool,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reader) = queue::open(folder.path(), OPTIONS).unwrap();
        Self {
            folder,
            writer,
            reader,
            appended: Vec::new(),
            safe: 0,
            acknowledged: Vec::new(),
            delivered: 0,
            lost: 0,
            unknown: 0,
            in_flight: Vec::new(),
            scratch: Vec::new(),
            is_damaged: false,
        }
    }

    fn append(&mut self, frames: usize, size: usize) {
        let mut batch = Batch::new(OPTIONS.framing);
        for _ in 0..frames {
            let mut frame = batch.frame();
            frame
                .bytes()
                .extend(message(self.appended.len() as u64, size));
            frame.finish();
            let from = batch.frame_start(batch.frames() - 1);
            self.appended.push(batch.bytes()[from..].to_vec());
            self.acknowledged.push(false);
        }
        self.writer.append(&mut batch, SystemTime::now()).unwrap();
        self.safe = self.appended.len();
        let status = self.writer.status();
        assert!(status.bytes <= OPTIONS.limit + 100_000, "{status:?}");
    }

    /// Reads a batch. Returns whether there was one.
    fn read(&mut self) -> bool {
        let Some(chunk) = self.reader.read(&mut self.scratch).unwrap() else {
            return false;
        };
        let batch = &chunk.batch;
        assert!(!batch.is_empty());
        for frame in 0..batch.frames() {
            let number = batch.first() + frame as u64;
            let bytes = &batch.bytes()[batch.frame_start(frame)..batch.frame_start(frame + 1)];
            assert_eq!(bytes, self.appended[number as usize], "frame {number}");
            assert!(self.in_flight.last().is_none_or(|last| *last < number));
            self.in_flight.push(number);
        }
        true
    }

    fn acknowledge(&mut self, count: usize) {
        for number in self.in_flight.drain(..count) {
            self.acknowledged[number as usize] = true;
            self.delivered = number + 1;
        }
        // The last 100 frames are kept to be sent again.
        let kept = self.delivered.saturating_sub(100);
        self.reader.advance(kept, self.delivered).unwrap();
    }

    fn disconnect(&mut self) {
        self.in_flight.clear();
        self.reader.seek(self.delivered);
    }

    /// Ends the process in an orderly way, and starts it again.
    fn restart(&mut self) {
        self.disconnect();
        self.start_again(|_| ());
    }

    /// Kills the process, modifies its files, and starts it again.
    fn kill(&mut self, modify: impl FnOnce(&Path)) {
        self.disconnect();
        // Closing the original queue would truncate its files.
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let _old = std::mem::replace(&mut self.folder, copy);
        self.start_again(modify);
    }

    fn start_again(&mut self, modify: impl FnOnce(&Path)) {
        let status = self.reader.status();
        // Damage after unacknowledged frames will be found again.
        let left = self.appended.len() as u64 - self.reader.delivered();
        self.lost += status.evicted + status.damaged - (left - status.waiting);
        // Replacing the writer and the reader releases the lock.
        let elsewhere = tempfile::tempdir().unwrap();
        (self.writer, self.reader) = queue::open(elsewhere.path(), OPTIONS).unwrap();
        modify(self.folder.path());
        (self.writer, self.reader) = queue::open(self.folder.path(), OPTIONS).unwrap();
        let delivered = self.reader.delivered();
        self.reader.seek(delivered);
        // Frames missing from the end of the last segment cannot be noticed, unless
        // they were noticed before. Their numbers are assigned again.
        let next = (delivered + self.reader.status().waiting) as usize;
        assert!(next == self.appended.len() || self.is_damaged || next >= self.safe);
        self.unknown += self.appended.len().saturating_sub(next) as u64;
        self.appended.truncate(next);
        self.acknowledged.truncate(next);
        self.safe = next;
        // With a damaged position, acknowledged frames are delivered again, or counted
        // as lost.
        let forgotten = self.acknowledged[delivered as usize..].iter();
        self.unknown += forgotten.filter(|done| **done).count() as u64;
        self.delivered = self.delivered.min(delivered);
    }

    fn kill_in_append(&mut self, frames: usize, size: usize, share: f64) {
        let path = self.folder.path().to_owned();
        let read = |path: PathBuf| {
            let name = path.file_name().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        };
        let mut before: HashMap<_, _> = segments(&path).into_iter().map(read).collect();
        let spare = fs::read(path.join("spare"));
        let safe = self.safe;
        self.append(frames, size);
        self.safe = safe;
        self.kill(|folder| {
            let segments = segments(folder);
            let last = segments.last().unwrap();
            let old = match before.remove(last.file_name().unwrap()) {
                Some(old) => old,
                None => spare.unwrap_or_default(),
            };
            let new = fs::read(last).unwrap();
            let changed = |at: &usize| old.get(*at) != new.get(*at);
            let begin = (0..new.len()).find(changed).unwrap();
            let end = (0..new.len()).rfind(changed).unwrap() + 1;
            let cut = begin + ((end - begin) as f64 * share) as usize;
            let mut torn = [&new[..cut], old.get(cut..).unwrap_or_default()].concat();
            // The header of the torn record would have been written last.
            if let Some(header) = record_around(&new, begin, cut) {
                let length = torn.len().min(header + HEADER).saturating_sub(header);
                for (at, byte) in torn.iter_mut().enumerate().skip(header).take(length) {
                    *byte = old.get(at).copied().unwrap_or_default();
                }
            }
            fs::write(last, torn).unwrap();
        });
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Append { frames, size } => self.append(frames, size),
            Step::Read(count) => drop((0..count).take_while(|_| self.read()).count()),
            Step::Acknowledge(share) => {
                self.acknowledge((self.in_flight.len() as f64 * share).ceil() as usize);
            }
            Step::Disconnect => self.disconnect(),
            Step::Restart => self.restart(),
            Step::Kill => self.kill(|_| ()),
            Step::KillInAppend {
                frames,
                size,
                share,
            } => self.kill_in_append(frames, size, share),
            Step::Damage { segment, at } => {
                self.is_damaged = true;
                self.kill(|folder| {
                    if let Some(path) = segments(folder).get(segment) {
                        let mut bytes = fs::read(path).unwrap();
                        let at = (bytes.len() as f64 * at) as usize;
                        // A truncated segment may be empty.
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = byte.wrapping_add(0x20);
                        }
                        fs::write(path, bytes).unwrap();
                    }
                });
            }
            Step::Truncate { segment, at } => {
                self.is_damaged = true;
                self.kill(|folder| {
                    if let Some(path) = segments(folder).get(segment) {
                        let file = OpenOptions::new().write(true).open(path).unwrap();
                        let length = file.metadata().unwrap().len();
                        file.set_len((length as f64 * at) as u64).unwrap();
                    }
                });
            }
            Step::DamagePosition(slot) => {
                self.kill(|folder| {
                    let path = folder.join("position");
                    let mut bytes = fs::read(&path).unwrap();
                    if let Some(byte) = bytes.get_mut(slot * 512 + 20) {
                        *byte = byte.wrapping_add(1);
                        fs::write(path, bytes).unwrap();
                    }
                });
                // Losses before the position may be counted again.
                self.unknown += self.lost;
            }
        }
    }

    /// Delivers the remaining frames, and checks the counts.
    fn deliver_and_check(mut self) {
        self.disconnect();
        while self.read() {
            self.acknowledge(self.in_flight.len());
        }
        let status = self.reader.status();
        self.lost += status.evicted + status.damaged;
        let missing = self.acknowledged.iter().filter(|done| !**done).count() as u64;
        let possible = missing..=missing + self.unknown;
        assert!(
            possible.contains(&self.lost),
            "{} of {possible:?}",
            self.lost
        );
        assert!(self.is_damaged || status.damaged == 0);
        assert_eq!(status.waiting, 0);
    }
}

/// The length of a segment's header in bytes.
const SEGMENT_HEADER: usize = 16;
/// The length of a record's header in bytes.
const HEADER: usize = 36;

/// Returns the offset of the record that contains the byte at `cut`, among the records
/// that were written from about `begin` on.
fn record_around(segment: &[u8], begin: usize, cut: usize) -> Option<usize> {
    let begin = begin.max(SEGMENT_HEADER);
    // The old record begins with the same bytes, so `begin` may be within the header.
    let mut record = (begin.saturating_sub(HEADER)..=begin)
        .rfind(|at| segment[*at..].starts_with(b"\xf5rec"))?;
    loop {
        let body = segment.get(record + 8..)?.first_chunk()?;
        let end = record + HEADER + u32::from_le_bytes(*body) as usize;
        if cut < end {
            return Some(record);
        }
        record = end;
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "frames"))
        .collect();
    paths.sort();
    paths
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_frame_is_delivered_or_counted(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.act(&step);
        }
        world.deliver_and_check();
    }
}
