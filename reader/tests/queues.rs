//! The queues of several outputs, fed by one reader, compared with a model of a node: the
//! container writes, the kubelet rotates, compresses and deletes, appends to the queues fail,
//! outputs are added, and the process is killed, in any order.
//!
//! ```text
//! container ── files ──> Reader ── chunks ──> queue 0: Ledger, what it received
//!                          ^        (memory)  queue 1: ...
//!                          └── begin: the positions of the queues on the disk
//! ```
//!
//! Each queue receives each line once, unless the line's file was erased before, which is
//! reported. A kill repeats only what a queue had beyond a group that it lacked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use files::create;
use positions::{Container, Entry, Group, Ledger, POSITIONS, PositionFile, START};
use proptest::collection::vec;
use proptest::prelude::*;
use reader::begin::{Begin, From, Wants, begin};
use reader::discovery::Scope;
use reader::file_name::FileName;
use reader::line::Time;
use reader::{ContainerId, Event, Item, LogFolder, Passage, Position, Reader, Receiver};
use tempfile::TempDir;

const POD: &str = "2f6b0c9e-0000-4000-8000-000000000001";
/// The size of the reader's buffer: a few lines, so that kills fall between parts of a line.
const BUFFER: usize = 160;
/// The maximum length of a text. Those of the usual events are shorter.
const LIMIT: usize = 1000;
/// The time that passes when there is nothing to read.
const IDLE: Duration = Duration::from_millis(600);
/// More than the time after which the reader does not wait for the rest of a line.
const LONG: Duration = Duration::from_secs(6);

/// An event on the node.
#[derive(Clone, Debug)]
enum Action {
    /// The container writes a line of so many parts to each stream, in turns.
    Write { stdout: usize, stderr: usize },
    /// The runtime writes a part of a line; the rest follows with the next line.
    WritePart,
    /// The runtime has left a line that is none.
    WriteInvalid,
    /// The kubelet renames the current file. The runtime still writes to it.
    Rename,
    /// The runtime opens a new file.
    Reopen,
    /// The kubelet compresses the oldest rotated file that is not compressed, except the last.
    Compress,
    /// The kubelet deletes the oldest file, except the current one.
    DeleteOldest,
    /// The container restarts.
    RestartContainer,
    /// The reader takes so many turns.
    Turns(usize),
    /// A queue takes so many of the chunks that it lacks, from one of them on.
    Take {
        queue: usize,
        from: usize,
        count: usize,
    },
    /// The process is killed, and starts again.
    Kill,
    /// An output is added, at the next start.
    AddQueue(Start),
    /// Nothing happens for a long time.
    Pause,
    /// The container writes parts of lines that never end.
    WriteUnfinished { stdout: usize, stderr: usize },
    /// Somebody truncates the current file.
    Truncate,
    /// The kubelet is killed after it has compressed a file, before it deletes the original.
    CompressOnly,
}

/// The point from which a new output wants the lines that were there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    /// The lines since so many before the next one.
    Since(u64),
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Beginning),
        Just(Start::End),
        (0..10_u64).prop_map(Start::Since),
    ]
}

fn usual() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..4_usize, 0..4_usize).prop_map(|(stdout, stderr)| Action::Write { stdout, stderr }),
        1 => Just(Action::WritePart),
        1 => Just(Action::WriteInvalid),
        3 => Just(Action::Rename),
        3 => Just(Action::Reopen),
        2 => Just(Action::Compress),
        1 => Just(Action::RestartContainer),
        6 => (1..12_usize).prop_map(Action::Turns),
        6 => (0..3_usize, 0..3_usize, 1..6_usize)
            .prop_map(|(queue, from, count)| Action::Take { queue, from: from.saturating_sub(1), count }),
        3 => Just(Action::Kill),
        1 => start().prop_map(Action::AddQueue),
    ]
}

/// Returns the usual events with an unusual one among them.
fn with(unusual: Action) -> impl Strategy<Value = Vec<Action>> {
    vec(prop_oneof![20 => usual(), 1 => Just(unusual)], 1..80)
}

/// Returns the usual events with long pauses, and with lines that are long or never end.
fn with_pauses() -> impl Strategy<Value = Vec<Action>> {
    let parts = || (0..8_usize, 0..8_usize);
    let action = prop_oneof![
        20 => usual(),
        2 => parts().prop_map(|(stdout, stderr)| Action::Write { stdout, stderr }),
        1 => parts().prop_map(|(stdout, stderr)| Action::WriteUnfinished { stdout, stderr }),
        2 => Just(Action::Pause),
    ];
    vec(action, 1..80)
}

/// A text that was written, or a part of one.
type Token = String;

/// The files of the container, and what was written.
struct Log {
    folder: PathBuf,
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
    /// The texts of each line.
    written: BTreeMap<Token, u64>,
    /// The texts that were in deleted or truncated files.
    erased: BTreeMap<Token, Erased>,
}

/// The state in which a text was erased.
#[derive(Clone)]
struct Erased {
    /// The number of reports before.
    reports: usize,
    /// The queues with a position. Nobody can know what others have lost.
    queues: BTreeSet<usize>,
}

impl Log {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        Self {
            file: create(&folder.join("0.log")),
            folder,
            run: 0,
            rotations: 0,
            is_renamed: false,
            next: 0,
            part: String::new(),
            written: BTreeMap::new(),
            erased: BTreeMap::new(),
        }
    }

    fn current(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.run))
    }

    /// Returns the rotated files and those of earlier runs, oldest first.
    fn older(&self) -> Vec<PathBuf> {
        let current = self.current();
        let files = fs::read_dir(&self.folder).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| *path != current).collect();
        files.sort_by_key(|path| FileName::parse(path.file_name().unwrap().to_str().unwrap()));
        files
    }

    fn write_parts(&mut self, stdout: usize, stderr: usize, ends: bool) {
        self.complete_line();
        let number = self.next;
        self.next += 1;
        for part in 0..stdout.max(stderr) {
            for (stream, parts) in [("stdout", stdout), ("stderr", stderr)] {
                if part < parts {
                    let tag = if ends && part + 1 == parts { "F" } else { "P" };
                    let token = format!("{number}.{}.{part};", &stream[3..]);
                    let time = time_text(number);
                    writeln!(self.file, "{time} {stream} {tag} {token}").unwrap();
                    self.written.insert(token, number);
                }
            }
        }
    }

    fn write_part(&mut self) {
        if self.part.is_empty() {
            self.part = format!("{} stdout F ", time_text(self.next));
            self.file.write_all(self.part.as_bytes()).unwrap();
        }
    }

    /// Writes the rest of a line that was begun, as the runtime does before it changes files.
    fn complete_line(&mut self) {
        if !self.part.is_empty() {
            let token = format!("{}.out.0;", self.next);
            writeln!(self.file, "{token}").unwrap();
            self.written.insert(token, self.next);
            self.part.clear();
            self.next += 1;
        }
    }

    fn write_invalid(&mut self) {
        self.complete_line();
        let token = format!("{}.invalid;", self.next);
        writeln!(self.file, "{token}").unwrap();
        self.written.insert(token, self.next);
        self.next += 1;
    }

    /// Returns whether the current file has any text. Empty files are neither rotated nor
    /// followed by those of another run.
    fn has_text(&self) -> bool {
        self.file.metadata().unwrap().len() > 0
    }

    fn rename(&mut self) {
        if !self.is_renamed && self.has_text() {
            self.rotations += 1;
            let name = format!("{}.log.20260301-{:06}", self.run, self.rotations);
            fs::rename(self.current(), self.folder.join(name)).unwrap();
            self.is_renamed = true;
        }
    }

    fn reopen(&mut self) {
        if self.is_renamed {
            self.complete_line();
            self.file = create(&self.current());
            self.is_renamed = false;
        }
    }

    fn restart(&mut self) {
        if !self.is_renamed && self.has_text() {
            self.complete_line();
            self.run += 1;
            self.file = create(&self.current());
        }
    }

    /// Compresses a file.
    fn compress(&mut self, deletes: bool) {
        let older = self.older();
        let extension = |path: &Path| path.extension().unwrap().to_owned();
        let is_plain = |path: &&PathBuf| extension(path) != "gz" && extension(path) != "log";
        let mut plain = older.iter().filter(is_plain);
        let (Some(path), Some(_)) = (plain.next(), plain.next()) else {
            return;
        };
        if deletes {
            files::compress(path);
        } else {
            files::add_compressed(path);
        }
    }

    fn delete_oldest(&mut self, erased: &Erased) {
        let older = self.older();
        // The runtime still writes to the last file after a rename.
        let is_in_use = older.len() == 1 && self.is_renamed;
        if let Some(path) = older.first().filter(|_| !is_in_use) {
            let packed = path.with_extension(format!(
                "{}.gz",
                path.extension().unwrap().to_str().unwrap()
            ));
            self.erase(path, erased);
            fs::remove_file(path).unwrap();
            let _ = fs::remove_file(packed);
        }
    }

    fn truncate(&mut self, erased: &Erased) {
        if !self.is_renamed {
            self.complete_line();
            self.erase(&self.current(), erased);
            self.file.set_len(0).unwrap();
        }
    }

    /// Records the texts of a file that is deleted or truncated.
    fn erase(&mut self, path: &Path, erased: &Erased) {
        let text = files::read(path);
        let tokens = text.lines().filter_map(|line| line.split(' ').next_back());
        let tokens = tokens.map(|token| (token.to_owned(), erased.clone()));
        self.erased.extend(tokens);
    }
}

/// The queue of an output, which a kill does not harm.
struct Queue {
    folder: TempDir,
    ledger: Ledger,
    start: Start,
    /// Whether the reader has not recorded yet where it began for the output.
    is_new: bool,
    /// The number of the line from which it must have all.
    from: u64,
    received: Vec<Token>,
    /// The texts that it had beyond a gap when the process was killed.
    repeated: BTreeSet<Token>,
    has_failed: bool,
}

impl Queue {
    fn new(start: Start) -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            ledger: Ledger::open(folder.path()).unwrap().0,
            folder,
            start,
            is_new: true,
            from: 0,
            received: Vec::new(),
            repeated: BTreeSet::new(),
            has_failed: false,
        }
    }

    fn stored(&self, name: &str) -> Option<Position> {
        let found = positions::read(&self.folder.path().join(name)).unwrap()?;
        let entry = found.entries.get(&container())?;
        Some(serde_json::from_str(&entry.position).unwrap())
    }

    fn take(&mut self, chunk: &Chunk, now: Instant) {
        let position = serde_json::to_string(&chunk.passage.to).unwrap();
        let group = Group {
            uid: POD,
            container: "app",
            begin: chunk.passage.begin,
            from: chunk.passage.from,
            to: chunk.passage.to.place(),
            position: &position,
            is_last: chunk.passage.is_last,
        };
        if self.ledger.wants(&group) {
            self.received.extend(chunk.tokens());
            self.ledger.take(&[group], now).unwrap();
        }
    }
}

fn container() -> Container {
    Container {
        uid: POD.to_owned(),
        name: "app".to_owned(),
    }
}

/// A passage in the memory of the process.
struct Chunk {
    passage: Passage,
    texts: Vec<String>,
    /// The queues that have not taken it.
    waiting: BTreeSet<usize>,
}

impl Chunk {
    fn tokens(&self) -> impl Iterator<Item = Token> {
        let texts = self.texts.iter();
        texts.flat_map(|text| text.split_inclusive(';').map(str::to_owned))
    }
}

/// The process, which is killed.
struct Process {
    reader: Reader,
    intake: Intake,
    /// The points from which each output wants the log, if it is new.
    new: Vec<From>,
}

/// The receiver of the reader.
struct Intake {
    wants: Wants,
    begun: Option<Vec<(From, Position)>>,
    texts: Vec<String>,
    passages: Vec<(Passage, Vec<String>)>,
    reports: usize,
    /// Whether texts can be cut.
    is_hurried: bool,
}

impl Receiver for Intake {
    fn begin(&mut self, _: &ContainerId, folder: &LogFolder, _: bool) -> io::Result<Begin> {
        begin(folder, &self.wants)
    }

    fn receive(&mut self, _: &ContainerId, event: Event<'_>) {
        match event {
            Event::Begun { new, gone } => {
                self.begun = Some(new);
                self.reports += usize::from(gone.is_some());
            }
            Event::Item(Item::Text(text)) => {
                assert!(self.is_hurried || !text.is_cut, "{text:?}");
                let text = String::from_utf8(text.text.to_vec()).unwrap();
                self.texts.push(text);
            }
            Event::Item(Item::Invalid(line)) => {
                self.texts.push(String::from_utf8(line.to_vec()).unwrap());
            }
            Event::Passage(passage) => {
                let texts = std::mem::take(&mut self.texts);
                self.passages.push((passage, texts));
            }
            Event::Missing(_) => self.reports += 1,
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

struct Node {
    root: TempDir,
    log: Log,
    queues: Vec<Queue>,
    process: Process,
    /// The chunks that some queues have not taken yet, in order.
    chunks: Vec<Chunk>,
    reports: usize,
    now: Instant,
    is_hurried: bool,
}

impl Node {
    fn new(is_hurried: bool) -> Self {
        let root = TempDir::new().unwrap();
        let folder = root.path().join(format!("shop_web_{POD}")).join("app");
        let log = Log::new(folder);
        let queues = vec![Queue::new(Start::Beginning), Queue::new(Start::Beginning)];
        Self {
            process: Process::start(root.path(), &log, &queues, is_hurried),
            root,
            log,
            queues,
            chunks: Vec::new(),
            reports: 0,
            now: Instant::now(),
            is_hurried,
        }
    }

    fn happen(&mut self, action: &Action) {
        match *action {
            Action::Write { stdout, stderr } => self.log.write_parts(stdout, stderr, true),
            Action::WriteUnfinished { stdout, stderr } => {
                self.log.write_parts(stdout, stderr, false);
            }
            Action::WritePart => self.log.write_part(),
            Action::WriteInvalid => self.log.write_invalid(),
            Action::Rename => self.log.rename(),
            Action::Reopen => self.log.reopen(),
            Action::Compress => self.log.compress(true),
            Action::CompressOnly => self.log.compress(false),
            Action::DeleteOldest => self.log.delete_oldest(&self.erased()),
            Action::RestartContainer => self.log.restart(),
            Action::Truncate => {
                // Nobody can know of lines that were truncated before they were read.
                let queues = BTreeSet::new();
                let erased = Erased {
                    queues,
                    ..self.erased()
                };
                self.log.truncate(&erased);
            }
            Action::Turns(turns) => self.turns(turns),
            Action::Take { queue, from, count } => {
                let queue = queue % self.process.new.len();
                self.take(queue, from, count);
            }
            Action::Kill => self.kill(),
            Action::AddQueue(start) => {
                // Outputs that are new at the same start begin at the same point.
                let is_new = |queue: &Queue| queue.is_new;
                if self.queues.len() < 4 && !self.queues.iter().any(is_new) {
                    self.queues.push(Queue::new(start));
                }
            }
            Action::Pause => self.now += LONG,
        }
    }

    fn erased(&self) -> Erased {
        let queues = self.queues.iter().enumerate();
        let queues = queues.filter(|(_, queue)| queue.stored(POSITIONS).is_some());
        Erased {
            reports: self.reports,
            queues: queues.map(|(index, _)| index).collect(),
        }
    }

    fn turns(&mut self, turns: usize) {
        let mut buffer = [0; BUFFER];
        let Process {
            reader,
            intake,
            new,
        } = &mut self.process;
        reader.update(self.now).unwrap();
        for _ in 0..turns {
            let had_turn = reader.turn(&mut buffer, self.now, intake);
            self.reports += std::mem::take(&mut intake.reports);
            if let Some(begun) = intake.begun.take() {
                for (queue, from) in self.queues.iter_mut().zip(&*new) {
                    queue.begin(*from, &begun, &self.log);
                }
            }
            for (passage, texts) in intake.passages.drain(..) {
                self.chunks.push(Chunk {
                    passage,
                    texts,
                    waiting: (0..new.len()).collect(),
                });
            }
            if had_turn {
                self.now += Duration::from_millis(1);
            } else {
                self.now += IDLE;
                reader.update(self.now).unwrap();
            }
        }
    }

    /// Lets a queue take chunks. Those before the first one have failed, and come later.
    fn take(&mut self, index: usize, from: usize, count: usize) {
        let queue = &mut self.queues[index];
        if from > 0 {
            queue.ledger.keep_gaps();
        }
        let lacking = self.chunks.iter_mut();
        let lacking = lacking.filter(|chunk| chunk.waiting.contains(&index));
        for chunk in lacking.skip(from).take(count) {
            queue.has_failed |= from > 0;
            queue.take(chunk, self.now);
            chunk.waiting.remove(&index);
        }
    }

    fn kill(&mut self) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let has_gap = |chunk: &&Chunk| !chunk.waiting.contains(&index);
            let beyond = self.chunks.iter().skip_while(has_gap).filter(has_gap);
            queue.repeated.extend(beyond.flat_map(Chunk::tokens));
            queue.ledger = Ledger::open(queue.folder.path()).unwrap().0;
        }
        self.chunks.clear();
        self.process = Process::start(self.root.path(), &self.log, &self.queues, self.is_hurried);
    }

    fn check(&mut self) {
        self.log.reopen();
        self.log.complete_line();
        // An output that was added is new at the next start.
        if self.queues.iter().any(|queue| queue.is_new) {
            self.kill();
        }
        // Leaving a file takes a few turns.
        let enough = 20 + 6 * self.log.older().len();
        let mut idle = 0;
        while idle < enough {
            let before = (self.chunks.len(), self.reports);
            self.turns(1);
            idle = if before == (self.chunks.len(), self.reports) {
                idle + 1
            } else {
                0
            };
        }
        for index in 0..self.process.new.len() {
            self.take(index, 0, usize::MAX);
        }
        for (index, queue) in self.queues.iter().enumerate() {
            queue.check(&self.log, self.reports, index);
        }
    }
}

impl Process {
    fn start(root: &Path, log: &Log, queues: &[Queue], is_hurried: bool) -> Self {
        let mut wants = Wants {
            // Higher than all bytes until now: no line is that long.
            scale: (1 + log.next) << 20,
            ..Wants::default()
        };
        let mut new = Vec::new();
        for queue in queues {
            let known = queue.stored(POSITIONS).or_else(|| queue.stored(START));
            let from = match queue.start {
                Start::Beginning => From::Beginning,
                Start::End => From::End,
                Start::Since(lines) => From::Since(time(log.next.saturating_sub(lines))),
            };
            new.push(from);
            match known {
                Some(position) => wants.known.push(position),
                None if queue.is_new => wants.new.push(from),
                None => wants.everything = true,
            }
        }
        Self {
            reader: Reader::new(root.to_owned(), Scope::default(), LIMIT).unwrap(),
            intake: Intake {
                wants,
                begun: None,
                texts: Vec::new(),
                passages: Vec::new(),
                reports: 0,
                is_hurried,
            },
            new,
        }
    }
}

impl Queue {
    /// Records where the reader has begun for a new output.
    fn begin(&mut self, from: From, begun: &[(From, Position)], log: &Log) {
        let found = begun.iter().find(|(of, _)| *of == from && self.is_new);
        let Some((_, position)) = found else {
            return;
        };
        let (mut file, _) = PositionFile::open(&self.folder.path().join(START)).unwrap();
        let entry = Entry {
            place: position.place(),
            position: serde_json::to_string(position).unwrap(),
        };
        file.set(&container(), &entry).unwrap();
        self.is_new = false;
        self.from = match self.start {
            Start::Beginning => 0,
            _ => log.next,
        };
    }

    fn check(&self, log: &Log, reports: usize, index: usize) {
        let mut received: BTreeMap<&Token, usize> = BTreeMap::new();
        for token in &self.received {
            assert!(log.written.contains_key(token), "{token} was never written");
            *received.entry(token).or_default() += 1;
        }
        let is_twice = |token: &&&Token| received[**token] > 1 && !self.repeated.contains(**token);
        let twice: Vec<_> = received.keys().filter(is_twice).collect();
        assert!(twice.is_empty(), "queue {index} has {twice:?} twice");
        for stream in [".out.", ".err.", ".invalid"] {
            // From its first line on, an output has all of a stream.
            let numbers = received.keys().filter(|token| token.contains(stream));
            let first = numbers.map(|token| log.written[*token]).min();
            let from = first.map_or(self.from, |first| first.min(self.from));
            let is_wanted =
                |(token, number): &(&Token, &u64)| token.contains(stream) && **number >= from;
            let written = log.written.iter().filter(is_wanted);
            let lost = written.filter(|(token, _)| !received.contains_key(token));
            for (token, _) in lost {
                let erased = log.erased.get(token);
                let erased = erased.unwrap_or_else(|| panic!("queue {index} has lost {token}"));
                let is_reported = reports > erased.reports || !erased.queues.contains(&index);
                assert!(is_reported, "the loss of {token} is not reported");
            }
        }
        if !self.has_failed && self.repeated.is_empty() {
            for stream in [".out.", ".err."] {
                let tokens = self.received.iter().filter(|token| token.contains(stream));
                let order: Vec<(u64, &Token)> =
                    tokens.map(|token| (log.written[token], token)).collect();
                assert!(order.is_sorted(), "queue {index}: {order:?}");
            }
        }
    }
}

/// The time of a line: each has one of its own.
fn time_text(number: u64) -> String {
    format!("2026-03-01T12:00:00.{number:09}Z")
}

fn time(number: u64) -> Time {
    Time {
        seconds: 1_772_366_400,
        nanos: number as u32,
    }
}

fn run(actions: &[Action], is_hurried: bool) {
    let mut node = Node::new(is_hurried);
    for action in actions {
        node.happen(action);
    }
    node.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn each_queue_receives_each_line_once(actions in vec(usual(), 1..80)) {
        run(&actions, false);
    }

    /// The input waits for the queues for a long time, or for the rest of a line in vain.
    #[test]
    fn pauses_lose_and_repeat_nothing(actions in with_pauses()) {
        run(&actions, true);
    }

    #[test]
    fn only_deleted_files_are_lost(actions in with(Action::DeleteOldest)) {
        run(&actions, false);
    }

    #[test]
    fn only_truncated_files_are_lost(actions in with(Action::Truncate)) {
        run(&actions, true);
    }

    #[test]
    fn a_file_beside_its_compressed_copy_counts_once(actions in with(Action::CompressOnly)) {
        run(&actions, false);
    }
}
