//! A container's log compared with a model of Docker: a link leads to the file of each run,
//! Docker renames all files at a rotation, compresses and deletes them, containers and readers
//! restart, in any order. Each line arrives once and in order unless its file was deleted or
//! truncated, and nothing else is reported as missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod files;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use files::{create, gzip};
use proptest::collection::vec;
use proptest::prelude::*;
use reader::LogFolder;
use reader::container_log::{ContainerLog, Position, SETTLE, Step};
use tempfile::TempDir;

/// An event in the life of a log.
#[derive(Clone, Debug)]
enum Event {
    /// The container writes lines of this length.
    Write { lines: usize, length: usize },
    /// Docker writes a part of a line; the rest follows with the next line.
    WritePart,
    /// Docker renames the files, and deletes the oldest one. The next write creates a file.
    Rotate,
    /// Docker begins to write the compressed copy of the file that was rotated last.
    BeginToCompress,
    /// Docker completes the compressed copy.
    Compress,
    /// Somebody truncates the current file.
    Truncate,
    /// The clock is set back by this much.
    SetClock { back: u64 },
    /// The container restarts.
    Restart,
    /// The kubelet removes the oldest run of the container, except the current one.
    RemoveRun,
    /// The reader reads what there is.
    Read,
    /// The reader reads this many times, which may be less than there is.
    ReadSteps(usize),
    /// The reader ends, and the next one begins at its position.
    RestartReader,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        // The beginnings of files are often the same.
        6 => (1..20_usize, prop_oneof![0..50_usize, 300..310_usize])
            .prop_map(|(lines, length)| Event::Write { lines, length }),
        1 => Just(Event::WritePart),
        5 => Just(Event::Rotate),
        2 => Just(Event::BeginToCompress),
        2 => Just(Event::Compress),
        1 => Just(Event::Truncate),
        1 => (0..30_u64).prop_map(|back| Event::SetClock { back }),
        1 => Just(Event::Restart),
        1 => Just(Event::RemoveRun),
        4 => Just(Event::Read),
        2 => (1..4_usize).prop_map(Event::ReadSteps),
        3 => Just(Event::RestartReader),
    ]
}

/// The length of the reader's buffer. Lines are shorter.
const BUFFER: usize = 1024;

/// Docker's options.
#[derive(Clone, Copy, Debug)]
struct Options {
    max_file: u32,
    compress: bool,
    /// Whether the clock is set.
    set_clock: bool,
}

struct World {
    options: Options,
    root: TempDir,
    /// The file that Docker writes to; none between a rotation and the next write.
    file: Option<File>,
    run: u32,
    /// The oldest run that is not removed.
    first_run: u32,
    /// The number of the next line.
    next: u64,
    clock: u64,
    /// The beginning of the next line that was written already.
    part: String,
    /// The numbers of lines that were in deleted or truncated files.
    erased: BTreeSet<u64>,
    /// Whether a file was deleted or truncated.
    has_erased: bool,
    was_clock_set: bool,
    reader: Reader,
}

/// The reader, which may end and begin again.
struct Reader {
    folder: LogFolder,
    log: ContainerLog,
    now: Instant,
    received: Vec<u64>,
    missing: usize,
}

impl World {
    fn new(options: Options) -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("pod")).unwrap();
        let mut world = Self {
            options,
            reader: Reader::new(root.path()),
            root,
            file: None,
            run: 0,
            first_run: 0,
            next: 0,
            clock: 100,
            part: String::new(),
            erased: BTreeSet::new(),
            has_erased: false,
            was_clock_set: false,
        };
        world.start();
        world
    }

    /// Starts a run of the container: Docker creates its file, and cri-dockerd the link.
    fn start(&mut self) {
        let path = self.path(0, "");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        self.file = Some(create(&path));
        symlink(&path, self.link(self.run)).unwrap();
    }

    fn link(&self, run: u32) -> PathBuf {
        self.root.path().join(format!("pod/{run}.log"))
    }

    fn folder_of(&self, run: u32) -> PathBuf {
        self.root.path().join(format!("docker/{run:064x}"))
    }

    /// Returns the path of a file of the current run.
    fn path(&self, number: u32, extension: &str) -> PathBuf {
        let folder = self.folder_of(self.run);
        let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let number = match number {
            0 => String::new(),
            number => format!(".{number}"),
        };
        folder.join(format!("{id}-json.log{number}{extension}"))
    }

    fn line(&mut self, length: usize) -> String {
        let number = self.next;
        self.next += 1;
        self.clock += 1;
        format!(
            "{{\"log\":\"{} {number}\\n\",\"stream\":\"stdout\",\
             \"time\":\"2026-03-01T12:00:00.{:09}Z\"}}\n",
            "x".repeat(length),
            self.clock
        )
    }

    fn write(&mut self, lines: usize, length: usize) {
        for _ in 0..lines {
            let length = if self.part.is_empty() { length } else { 0 };
            let line = self.line(length);
            let rest = line.strip_prefix(&self.part).unwrap();
            let path = self.path(0, "");
            let file = self.file.get_or_insert_with(|| create(&path));
            file.write_all(rest.as_bytes()).unwrap();
            self.part.clear();
        }
    }

    /// Writes the rest of a line that was begun.
    fn complete_line(&mut self) {
        if !self.part.is_empty() {
            self.write(1, 0);
        }
    }

    /// Records the lines of a file that is deleted or truncated.
    fn erase(&mut self, path: &Path) {
        self.has_erased = true;
        let text = files::read(path);
        self.erased.extend(text.lines().filter_map(number));
    }

    fn rotate(&mut self) {
        // Docker rotates before it writes.
        if self.file.is_none() {
            return;
        }
        self.complete_line();
        // The file has reached its maximum size.
        if fs::metadata(self.path(0, "")).unwrap().len() == 0 {
            return;
        }
        let extension = if self.options.compress { ".gz" } else { "" };
        if self.options.compress {
            self.compress();
        }
        let last = self.path(self.options.max_file - 1, extension);
        if last.exists() {
            self.erase(&last);
            fs::remove_file(&last).unwrap();
        }
        for number in (1..self.options.max_file - 1).rev() {
            let from = self.path(number, extension);
            if from.exists() {
                fs::rename(from, self.path(number + 1, extension)).unwrap();
            }
        }
        fs::rename(self.path(0, ""), self.path(1, "")).unwrap();
        self.file = None;
    }

    fn compressed(&self) -> Option<Vec<u8>> {
        let text = fs::read(self.path(1, "")).ok()?;
        Some(gzip(&text))
    }

    fn compress(&self) {
        if let Some(compressed) = self.compressed() {
            fs::write(self.path(1, ".gz"), compressed).unwrap();
            fs::remove_file(self.path(1, "")).unwrap();
        }
    }

    fn remove_run(&mut self) {
        if self.first_run < self.run {
            let folder = self.folder_of(self.first_run);
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                // The copy of a file may be incomplete.
                let name = path.to_str().unwrap();
                if name
                    .strip_suffix(".gz")
                    .is_none_or(|name| !Path::new(name).exists())
                {
                    self.erase(&path);
                }
            }
            fs::remove_file(self.link(self.first_run)).unwrap();
            fs::remove_dir_all(folder).unwrap();
            self.first_run += 1;
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Write { lines, length } => self.write(*lines, *length),
            Event::WritePart => {
                if let (true, Some(file)) = (self.part.is_empty(), &mut self.file) {
                    "{\"log\":\"".clone_into(&mut self.part);
                    file.write_all(self.part.as_bytes()).unwrap();
                }
            }
            Event::Rotate => self.rotate(),
            Event::BeginToCompress => {
                if let (true, Some(compressed)) = (self.options.compress, self.compressed()) {
                    let part = &compressed[..compressed.len() / 2];
                    fs::write(self.path(1, ".gz"), part).unwrap();
                }
            }
            Event::Compress => {
                if self.options.compress {
                    self.compress();
                }
            }
            Event::Truncate => {
                self.complete_line();
                if self.file.is_some() {
                    self.erase(&self.path(0, ""));
                }
                if let Some(file) = &self.file {
                    file.set_len(0).unwrap();
                }
            }
            Event::SetClock { back } => {
                if self.options.set_clock {
                    self.was_clock_set = true;
                    self.clock = self.clock.saturating_sub(*back);
                }
            }
            Event::Restart => {
                self.complete_line();
                self.run += 1;
                self.start();
            }
            Event::RemoveRun => self.remove_run(),
            Event::Read => self.reader.read(usize::MAX),
            Event::ReadSteps(steps) => self.reader.read(*steps),
            Event::RestartReader => self.reader.restart(),
        }
    }

    fn check(&mut self) {
        self.complete_line();
        let reader = &mut self.reader;
        reader.now += SETTLE;
        reader.read(usize::MAX);
        assert!(
            reader.received.is_sorted_by(|a, b| a < b),
            "{:?}",
            reader.received
        );
        let received: BTreeSet<u64> = reader.received.iter().copied().collect();
        let lost: Vec<u64> = (0..self.next)
            .filter(|number| !received.contains(number))
            .collect();
        let is_erased = |number: &u64| self.erased.contains(number);
        // Without the file before, the time of a file's first line may be too early.
        let is_known = self.was_clock_set && self.has_erased;
        assert!(is_known || lost.iter().all(is_erased), "{lost:?} are lost");
        assert!(reader.missing == 0 || self.has_erased, "nothing is missing");
    }
}

impl Reader {
    fn new(root: &Path) -> Self {
        let folder = LogFolder {
            path: root.join("pod"),
            links: Arc::new([root.join("docker")]),
        };
        Self {
            log: ContainerLog::new(&folder, Position::default()),
            folder,
            now: Instant::now(),
            received: Vec::new(),
            missing: 0,
        }
    }

    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.log.position()).unwrap();
        let start: Position = serde_json::from_str(&stored).unwrap();
        self.log = ContainerLog::new(&self.folder, start);
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
                        self.received.push(number(line).unwrap());
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
}

/// Returns the number of a line.
fn number(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(' ')?;
    let (number, _) = rest.split_once('\\')?;
    number.parse().ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_line_arrives_once(
        max_file in 2..6_u32,
        compress in any::<bool>(),
        set_clock in any::<bool>(),
        events in vec(event(), 1..60),
    ) {
        let mut world = World::new(Options { max_file, compress, set_clock });
        for event in &events {
            world.happen(event);
        }
        world.check();
    }
}

/// Docker rotates on a thread of its own, so it renames files while the reader looks at them.
/// None is deleted, so nothing may be missing.
#[test]
fn rotations_at_any_moment_lose_nothing() {
    const ROTATIONS: u32 = 30;
    for compress in [false, true].repeat(3) {
        let mut docker = World::new(Options {
            max_file: ROTATIONS + 2,
            compress,
            set_clock: false,
        });
        let root = docker.root.path().to_owned();
        let writer = thread::spawn(move || {
            for _ in 0..ROTATIONS {
                docker.write(3, 300);
                docker.rotate();
            }
            docker.write(3, 300);
            docker
        });
        let mut reader = Reader::new(&root);
        while !writer.is_finished() {
            reader.read(20);
            reader.restart();
        }
        let docker = writer.join().unwrap();
        reader.read(usize::MAX);
        let expected: Vec<u64> = (0..docker.next).collect();
        assert_eq!((reader.received, reader.missing), (expected, 0));
    }
}
