//! A container's log compared with a model of the kubelet and the runtime: files are written,
//! rotated, compressed, deleted and truncated, containers and readers restart, in any order.
//! Each line arrives once and in order unless its file was deleted or truncated, and nothing
//! else is reported as missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod files;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use files::{compress, create};
use proptest::collection::vec;
use proptest::prelude::*;
use reader::container_log::{ContainerLog, Position, SETTLE, Step};
use tempfile::TempDir;

/// An event in the life of a log.
#[derive(Clone, Debug)]
enum Event {
    /// The container writes lines of this length.
    Write { lines: usize, length: usize },
    /// The runtime writes a part of a line; the rest follows with the next line.
    WritePart,
    /// The kubelet renames the current file. The runtime still writes to it.
    Rename,
    /// The runtime opens a new file.
    Reopen,
    /// The kubelet compresses the oldest rotated file that is not compressed, except the last.
    Compress,
    /// The kubelet deletes the oldest file, except the current one.
    DeleteOldest,
    /// Somebody truncates the current file.
    Truncate,
    /// The container restarts.
    Restart,
    /// The reader reads what there is.
    Read,
    /// The reader reads this many times, which may be less than there is.
    ReadSteps(usize),
    /// The reader ends, and the next one begins at its position.
    RestartReader,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..40_usize, 0..200_usize).prop_map(|(lines, length)| Event::Write { lines, length }),
        1 => Just(Event::WritePart),
        3 => Just(Event::Rename),
        3 => Just(Event::Reopen),
        2 => Just(Event::Compress),
        1 => Just(Event::DeleteOldest),
        1 => Just(Event::Truncate),
        1 => Just(Event::Restart),
        4 => Just(Event::Read),
        2 => (1..4_usize).prop_map(Event::ReadSteps),
        3 => Just(Event::RestartReader),
    ]
}

/// The length of the reader's buffer. Lines are shorter.
const BUFFER: usize = 1024;

struct World {
    folder: TempDir,
    /// The file that the runtime writes to.
    file: File,
    run: u32,
    /// The number of rotations so far, which becomes the time in the names.
    rotations: u32,
    is_renamed: bool,
    /// The number of the next line.
    next: u64,
    /// The beginning of the next line that was written already.
    part: String,
    /// The numbers of lines that were in deleted or truncated files.
    erased: BTreeSet<u64>,
    /// Whether a file was deleted or truncated.
    has_erased: bool,
    log: ContainerLog,
    now: Instant,
    received: Vec<u64>,
    missing: usize,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let file = create(&folder.path().join("0.log"));
        Self {
            log: ContainerLog::new(folder.path().to_owned(), Position::default()),
            folder,
            file,
            run: 0,
            rotations: 0,
            is_renamed: false,
            next: 0,
            part: String::new(),
            erased: BTreeSet::new(),
            has_erased: false,
            now: Instant::now(),
            received: Vec::new(),
            missing: 0,
        }
    }

    fn current(&self) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.run))
    }

    /// Returns the rotated files and those of earlier runs, oldest first.
    fn older(&self) -> Vec<PathBuf> {
        let current = self.current();
        let files = fs::read_dir(self.folder.path()).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| *path != current).collect();
        files.sort_by_key(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            reader::file_name::FileName::parse(name)
        });
        files
    }

    fn line(&mut self, length: usize) -> String {
        let number = self.next;
        self.next += 1;
        format!(
            "2026-03-01T12:00:{:02}.{number:09}Z stdout F {number} {}\n",
            number % 60,
            "x".repeat(length)
        )
    }

    fn write(&mut self, lines: usize, length: usize) {
        for _ in 0..lines {
            let length = if self.part.is_empty() { length } else { 0 };
            let line = self.line(length);
            let rest = line.strip_prefix(&self.part).unwrap();
            self.file.write_all(rest.as_bytes()).unwrap();
            self.part.clear();
        }
    }

    /// Writes the rest of a line that was begun, as the runtime does before it changes files.
    fn complete_line(&mut self) {
        if !self.part.is_empty() {
            self.write(1, 0);
        }
    }

    /// Records the lines of a file that is deleted or truncated.
    fn erase(&mut self, path: &Path) {
        self.has_erased = true;
        let text = files::read(path);
        let numbers = text.lines().filter_map(|line| line.split(' ').nth(3));
        self.erased
            .extend(numbers.filter_map(|number| number.parse::<u64>().ok()));
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Write { lines, length } => self.write(*lines, *length),
            Event::WritePart => {
                if self.part.is_empty() {
                    let line = self.line(0);
                    self.next -= 1;
                    line[..30].clone_into(&mut self.part);
                    self.file.write_all(self.part.as_bytes()).unwrap();
                }
            }
            Event::Rename => {
                if !self.is_renamed {
                    self.rotations += 1;
                    let name = format!("{}.log.20260301-{:06}", self.run, self.rotations);
                    fs::rename(self.current(), self.folder.path().join(name)).unwrap();
                    self.is_renamed = true;
                }
            }
            Event::Reopen => {
                if self.is_renamed {
                    self.complete_line();
                    self.file = create(&self.current());
                    self.is_renamed = false;
                }
            }
            Event::Compress => {
                let older = self.older();
                let is_plain = |path: &&PathBuf| {
                    let extension = path.extension().unwrap();
                    extension != "gz" && extension != "log"
                };
                let mut plain = older.iter().filter(is_plain);
                if let (Some(path), Some(_)) = (plain.next(), plain.next()) {
                    compress(path);
                }
            }
            Event::DeleteOldest => {
                let older = self.older();
                // The runtime still writes to the last file after a rename.
                let is_in_use = older.len() == 1 && self.is_renamed;
                if let Some(path) = older.first().filter(|_| !is_in_use) {
                    self.erase(path);
                    fs::remove_file(path).unwrap();
                }
            }
            Event::Truncate => {
                if !self.is_renamed {
                    self.complete_line();
                    self.erase(&self.current());
                    self.file.set_len(0).unwrap();
                }
            }
            Event::Restart => {
                if !self.is_renamed {
                    self.complete_line();
                    self.run += 1;
                    self.file = create(&self.current());
                }
            }
            Event::Read => self.read(usize::MAX),
            Event::ReadSteps(steps) => self.read(*steps),
            Event::RestartReader => {
                let folder = self.folder.path().to_owned();
                let stored = serde_json::to_string(&self.log.position()).unwrap();
                let start: Position = serde_json::from_str(&stored).unwrap();
                self.log = ContainerLog::new(folder, start);
            }
        }
    }

    /// Reads for a number of steps, at most until there is nothing more.
    fn read(&mut self, steps: usize) {
        let mut buffer = [0; BUFFER];
        for _ in 0..steps {
            match self.log.read(&mut buffer, self.now).unwrap() {
                Step::Lines { at, text } | Step::Cut { at, text } => {
                    for line in text.split_inclusive(|byte| *byte == b'\n') {
                        let line = std::str::from_utf8(line).unwrap();
                        assert!(line.ends_with('\n'), "{line:?} is cut");
                        let number = line.split(' ').nth(3).unwrap();
                        self.received.push(number.parse().unwrap());
                    }
                    self.log.advance(at + text.len() as u64);
                }
                Step::NextFile => {}
                Step::Missing(_) => self.missing += 1,
                Step::Wait { until: Some(until) } => self.now = until,
                Step::Wait { until: None } => return,
                Step::Ended => panic!("the folder exists"),
            }
            self.now += Duration::from_millis(1);
        }
    }

    fn check(&mut self) {
        self.complete_line();
        self.now += SETTLE;
        self.read(usize::MAX);
        assert!(
            self.received.is_sorted_by(|a, b| a < b),
            "{:?}",
            self.received
        );
        let received: BTreeSet<u64> = self.received.iter().copied().collect();
        let lost: Vec<u64> = (0..self.next)
            .filter(|number| !received.contains(number))
            .collect();
        let is_erased = |number: &u64| self.erased.contains(number);
        assert!(lost.iter().all(is_erased), "{lost:?} are lost");
        assert!(self.missing == 0 || self.has_erased, "nothing is missing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_line_arrives_once(events in vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.check();
    }
}
