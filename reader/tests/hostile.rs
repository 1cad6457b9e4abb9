//! Unusual events: deletions, truncations, races, damaged files, clocks that are set back, forged
//! lines, dropped events.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod files;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use files::{compress, gzip};
use reader::begin::{Begin, From, Wants, begin};
use reader::container_log::Missing;
use reader::discovery::{Discovery, Scope};
use reader::{
    Container, ContainerId, Event, Item, LogFolder, Passage, Position, Reader, Receiver, Turn,
};
use tempfile::TempDir;

const T1: &str = "0.log.20260301-000001";
const T2: &str = "0.log.20260301-000002";
const T3: &str = "0.log.20260301-000003";
const CURRENT: &str = "0.log";
const PAUSE: Duration = Duration::from_secs(6);

/// Returns lines of 32 bytes each.
fn lines(numbers: std::ops::Range<u32>) -> String {
    let line = |number| format!("2026-03-01T12:00:{number:02}Z stdout F {number:02}\n");
    numbers.map(line).collect()
}

const LINE: usize = "2026-03-01T12:00:00Z stdout F 00\n".len();

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn beginning() -> Position {
    Position::beginning(0, 0)
}

fn open(folder: &TempDir, start: Position) -> Container {
    Container::new(folder.path().to_owned(), start, 1000)
}

/// A reader of one container.
struct Run {
    container: Container,
    now: Instant,
    texts: Vec<String>,
    missing: Vec<Missing>,
}

impl Run {
    fn new(folder: &TempDir, start: Position) -> Self {
        Self {
            container: open(folder, start),
            now: Instant::now(),
            texts: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Takes turns until there is nothing more.
    fn read(&mut self, buffer: usize, turns: usize) {
        let mut buffer = vec![0; buffer];
        for _ in 0..turns {
            let texts = &mut self.texts;
            let turn = self.container.turn(&mut buffer, self.now, None, |item| {
                let (text, cut) = match item {
                    Item::Text(text) => (text.text, if text.is_cut { " (cut)" } else { "" }),
                    Item::Invalid(text) => (text, " (invalid)"),
                };
                texts.push(format!("{}{cut}", String::from_utf8_lossy(text)));
            });
            match turn.unwrap() {
                Turn::Read(_) => {}
                Turn::Missing(missing) => self.missing.push(missing),
                Turn::Wait { until: Some(until) } => self.now = self.now.max(until),
                Turn::Wait { until: None } | Turn::Ended => return,
            }
        }
    }

    fn restart(&mut self, folder: &TempDir) {
        let position = self.container.position();
        self.container = open(folder, position);
    }
}

fn read_all(folder: &TempDir, start: Position) -> Run {
    let mut run = Run::new(folder, start);
    run.read(1000, 1000);
    run
}

fn part(stream: &str, tag: &str, text: &str) -> String {
    format!("2026-03-01T12:00:00Z {stream} {tag} {text}\n")
}

/// The input pauses for a while (its queues are full) after a restart in the middle of a line.
#[test]
fn a_pause_after_a_restart_loses_no_part_of_a_line() {
    let text =
        ["P aaaa", "P bbbb", "P cccc", "F dddd"].map(|text| part("stdout", &text[..1], &text[2..]));
    let folder = folder(&[(CURRENT, &text.concat())]);
    let mut run = Run::new(&folder, beginning());
    // Three parts are read, and the process is killed.
    run.read(3 * text[0].len(), 1);
    run.restart(&folder);
    run.read(text[0].len(), 1);
    run.now += PAUSE;
    run.read(1000, 100);
    let all = run.texts.concat().replace(" (cut)", "");
    assert_eq!(all, "aaaabbbbccccdddd", "{:?}", run.texts);
}

/// The input pauses, although the rest of the line is in the file already.
#[test]
fn a_pause_does_not_cut_a_line_whose_rest_is_there() {
    let text = ["P aaaa", "F bbbb"].map(|text| part("stdout", &text[..1], &text[2..]));
    let folder = folder(&[(CURRENT, &text.concat())]);
    let mut run = Run::new(&folder, beginning());
    run.read(text[0].len(), 1);
    run.now += PAUSE;
    run.read(1000, 100);
    assert_eq!(run.texts, ["aaaabbbb"]);
}

/// The first line of a file has no end yet, so the position has offset 0, although much of the
/// file was read. Then the file is deleted.
#[test]
fn a_position_in_a_file_that_is_gone_is_not_one_in_the_next_file() {
    let first = part("stdout", "P", "begin") + &lines(0..6).replace("stdout", "stderr");
    let folder = folder(&[
        (T1, &first),
        (CURRENT, &lines(10..16).replace("stdout", "stderr")),
    ]);
    let mut run = Run::new(&folder, beginning());
    run.read(first.len(), 1);
    assert_eq!(run.texts.len(), 6);
    fs::remove_file(folder.path().join(T1)).unwrap();
    run.restart(&folder);
    run.read(1000, 100);
    assert_eq!(run.texts[6..], ["10", "11", "12", "13", "14", "15"]);
    assert_eq!(run.missing.len(), 1);
}

/// Both streams have a line without an end, and there is an invalid line in between.
#[test]
fn an_invalid_line_arrives_once() {
    let text = part("stdout", "P", "a") + &part("stderr", "P", "b") + "invalid\n";
    let folder = folder(&[(CURRENT, &text)]);
    let mut run = Run::new(&folder, beginning());
    run.read(text.len(), 1);
    run.restart(&folder);
    run.read(text.len(), 1);
    assert_eq!(run.texts, ["invalid (invalid)"]);
}

/// A text that is longer than the limit was passed on in part.
#[test]
fn the_pieces_of_a_long_text_arrive_once() {
    let text = part("stdout", "P", &"a".repeat(1500));
    let folder = folder(&[(CURRENT, &text)]);
    let mut run = Run::new(&folder, beginning());
    run.read(text.len() + 10, 1);
    run.restart(&folder);
    let end = part("stdout", "F", "b");
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.path().join(CURRENT))
        .unwrap();
    file.write_all(end.as_bytes()).unwrap();
    run.read(2000, 10);
    let lengths: Vec<usize> = run.texts.iter().map(String::len).collect();
    assert_eq!(lengths, [1000 + " (cut)".len(), 501]);
}

/// A line of the file is longer than the buffer, and what follows looks like a line.
#[test]
fn the_rest_of_a_line_that_is_cut_is_never_parsed() {
    const BUFFER: usize = 200;
    let forged = "1969-12-31T23:59:59Z stderr F forged";
    for begin in ["2026-03-01T12:00:00Z stdout F ", "invalid ", "{"] {
        // Each part of the line begins with a forged one.
        let first = format!("{begin}{}", "x".repeat(BUFFER - begin.len()));
        let part = format!("{forged}{}", "y".repeat(BUFFER - forged.len()));
        let line = format!("{first}{part}{part}{forged}");
        let folder = folder(&[(CURRENT, &format!("{line}\n{}", lines(0..1)))]);
        // The reader is killed after each number of turns, and waits too long.
        for (kill, waits) in (0..5).flat_map(|kill| [(kill, false), (kill, true)]) {
            let mut run = Run::new(&folder, beginning());
            run.read(BUFFER, kill);
            run.restart(&folder);
            if waits {
                run.now += PAUSE;
            }
            run.read(BUFFER, 100);
            let case = format!("{begin:?} {kill} {waits}: {:?}", run.texts);
            let text = run.texts.pop().unwrap();
            assert_eq!(text, "00", "{case}");
            let texts = run.texts.concat();
            let texts = texts.replace(" (cut)", "").replace(" (invalid)", "");
            let expected = line.strip_prefix("2026-03-01T12:00:00Z stdout F ");
            assert_eq!(texts, expected.unwrap_or(&line), "{case}");
            assert!(run.texts.iter().all(|text| text != "forged"), "{case}");
        }
        // An output that wants the lines since a time begins with a line.
        let time = reader::line::Time::default();
        let since = reader::line::Time {
            seconds: time.seconds - 10,
            ..time
        };
        let wants = Wants {
            new: vec![From::Since(since), From::End],
            ..Wants::default()
        };
        let begin = reader::begin::begin(folder.path(), &wants).unwrap();
        assert_eq!(
            read_all(&folder, begin.position).texts.last().unwrap(),
            "00"
        );
    }
}

/// The text of a long line was given up in its middle.
#[test]
fn the_rest_of_a_line_that_was_given_up_is_never_parsed() {
    const BUFFER: usize = 200;
    let begin = "2026-03-01T12:00:00Z stdout F ";
    let forged = "1969-12-31T23:59:59Z stderr F forged";
    let first = format!("{begin}{}", "x".repeat(BUFFER - begin.len()));
    for restarts in [false, true] {
        let folder = folder(&[(CURRENT, &first)]);
        let mut run = Run::new(&folder, beginning());
        run.read(BUFFER, 2);
        run.now += PAUSE;
        run.read(BUFFER, 1);
        assert_eq!(run.texts.len(), 1);
        if restarts {
            run.restart(&folder);
        }
        fs::write(
            folder.path().join(CURRENT),
            format!("{first}{forged}\n{}", lines(0..1)),
        )
        .unwrap();
        run.read(BUFFER, 100);
        assert_eq!(
            run.texts[1..],
            [format!("{forged} (invalid)"), "00".to_owned()]
        );
    }
}

/// The node's clock is set back by an hour between two rotations.
#[test]
fn a_clock_that_is_set_back_repeats_nothing() {
    let folder = folder(&[(T2, &lines(0..2)), (CURRENT, &lines(2..4))]);
    let mut run = read_all(&folder, beginning());
    fs::rename(folder.path().join(CURRENT), folder.path().join(T1)).unwrap();
    fs::write(folder.path().join(CURRENT), lines(4..6)).unwrap();
    run.read(1000, 100);
    assert_eq!(run.texts, ["00", "01", "02", "03", "04", "05"]);
}

#[test]
fn a_clock_that_is_set_back_while_the_reader_is_stopped_loses_nothing() {
    let folder = folder(&[(T2, &lines(0..2)), (CURRENT, &lines(2..4))]);
    let mut run = Run::new(&folder, beginning());
    while run.texts.len() < 3 {
        run.read(LINE, 1);
    }
    fs::rename(folder.path().join(CURRENT), folder.path().join(T1)).unwrap();
    fs::write(folder.path().join(CURRENT), lines(4..6)).unwrap();
    run.restart(&folder);
    run.read(1000, 100);
    assert_eq!(run.texts, ["00", "01", "02", "03", "04", "05"]);
    assert_eq!(run.missing, []);
}

/// Opening fails for a moment, as when the process has too many open files.
#[test]
fn a_file_that_could_not_be_opened_once_is_read_later() {
    let folder = TempDir::new().unwrap();
    symlink("/nowhere", folder.path().join(CURRENT)).unwrap();
    let mut run = read_all(&folder, beginning());
    assert_eq!(run.missing.len(), 1);
    fs::remove_file(folder.path().join(CURRENT)).unwrap();
    // Everything that is written from now on, in several rotations.
    fs::write(folder.path().join(T1), lines(0..2)).unwrap();
    fs::write(folder.path().join(CURRENT), lines(2..4)).unwrap();
    run.read(1000, 100);
    assert_eq!(run.texts, ["00", "01", "02", "03"]);
}

#[test]
fn a_file_that_is_no_regular_one_does_not_block() {
    let folder = TempDir::new().unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(folder.path().join(CURRENT))
        .status();
    assert!(status.unwrap().success());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let run = read_all(&folder, beginning());
        sender.send(run.missing.len())
    });
    let missing = receiver.recv_timeout(Duration::from_secs(5));
    assert_eq!(missing, Ok(1), "the reader hangs");
}

/// Two json-file logs begin with the same banner, which is longer than a fingerprint.
#[test]
fn files_that_begin_alike_are_told_apart() {
    let banner = "=".repeat(300);
    let text = |number: u32| {
        let line = |text: &str, second: u32| {
            format!(
                r#"{{"log":"{text}\n","stream":"stdout","time":"2026-03-01T12:00:{second:02}Z"}}"#
            )
        };
        format!(
            "{}\n{}\n",
            line(&banner, number),
            line(&number.to_string(), number)
        )
    };
    let folder = folder(&[(T1, &text(1)), (T2, &text(2)), (CURRENT, &text(3))]);
    let mut run = Run::new(&folder, beginning());
    run.read(10_000, 1);
    // The kubelet compresses both while the first is open.
    for name in [T1, T2] {
        compress(&folder.path().join(name));
    }
    run.read(10_000, 100);
    run.texts.retain(|text| *text != banner);
    assert_eq!(run.texts, ["1", "2", "3"]);
}

/// The reader has read a part of the first file when the pod is deleted.
#[test]
fn the_unread_files_of_a_deleted_pod_are_reported() {
    let folder = folder(&[
        (T1, &lines(0..2)),
        (T2, &lines(2..4)),
        (CURRENT, &lines(4..6)),
    ]);
    let mut run = Run::new(&folder, beginning());
    run.read(LINE, 1);
    for name in [T1, T2, CURRENT] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    fs::remove_dir(folder.path()).unwrap();
    run.read(1000, 100);
    assert_eq!(run.texts, ["00", "01"]);
    assert_eq!(run.missing, [Missing::Deleted]);
}

/// The reader is in an empty file, which is deleted together with the next one.
#[test]
fn a_file_that_is_deleted_after_an_empty_one_is_reported() {
    let folder = folder(&[(CURRENT, "")]);
    let mut run = read_all(&folder, beginning());
    fs::write(folder.path().join("1.log"), lines(0..2)).unwrap();
    for name in [CURRENT, "1.log"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("2.log"), lines(2..4)).unwrap();
    run.read(1000, 100);
    assert_eq!(run.texts, ["02", "03"]);
    assert_eq!(run.missing, [Missing::Deleted]);
}

/// The reader has left a file, and not opened the next one, when both are deleted.
#[test]
fn a_file_that_is_deleted_between_two_turns_is_reported() {
    let folder = folder(&[
        (T1, &lines(0..2)),
        (T2, &lines(2..4)),
        (CURRENT, &lines(4..6)),
    ]);
    let mut run = Run::new(&folder, beginning());
    let is_between = |run: &Run| {
        let position = run.container.position();
        position.log.after.is_some() && position.log.file.is_none()
    };
    while !is_between(&run) {
        run.read(1000, 1);
    }
    for name in [T1, T2] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    run.read(1000, 100);
    assert_eq!(run.texts, ["00", "01", "04", "05"]);
    assert_eq!(run.missing, [Missing::Deleted]);
}

/// A file is compressed while the reader leaves it: it is neither listed under its old name
/// nor under its new one.
#[test]
fn a_file_that_is_compressed_meanwhile_is_read_once() {
    for round in 0..500 {
        let folder = folder(&[(T1, &lines(0..1)), (CURRENT, &lines(1..2))]);
        let mut run = Run::new(&folder, beginning());
        run.read(LINE, 1);
        run.read(LINE, 1);
        let path = folder.path().join(T1);
        let text = gzip(lines(0..1).as_bytes());
        let is_ready = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut packed = path.as_os_str().to_owned();
                packed.push(".gz");
                let temporary = path.with_extension("tmp");
                fs::write(&temporary, &text).unwrap();
                is_ready.store(true, Ordering::Release);
                for _ in 0..round % 100 * 30 {
                    std::hint::spin_loop();
                }
                fs::rename(temporary, packed).unwrap();
                fs::remove_file(&path).unwrap();
            });
            while !is_ready.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            run.read(1000, 100);
        });
        assert_eq!(run.texts, ["00", "01"], "round {round}");
        assert_eq!(run.missing, [], "round {round}");
    }
}

/// The kubelet rotates while the position of a queue is looked up.
#[test]
fn a_rotation_at_the_start_hides_no_file() {
    let mut wrong = 0;
    for round in 0..500 {
        let folder = folder(&[
            (T1, &lines(0..2)),
            (T2, &lines(2..4)),
            (CURRENT, &lines(4..6)),
        ]);
        let known = read_all(&folder, beginning()).container.position();
        let is_ready = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                is_ready.store(true, Ordering::Release);
                for _ in 0..round % 100 * 30 {
                    std::hint::spin_loop();
                }
                fs::rename(folder.path().join(CURRENT), folder.path().join(T3)).unwrap();
                fs::write(folder.path().join(CURRENT), lines(6..8)).unwrap();
            });
            while !is_ready.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let wants = Wants {
                known: vec![known],
                ..Wants::default()
            };
            // A file that is gone meanwhile is an error, which is tried again.
            if let Ok(begin) = begin(folder.path(), &wants) {
                wrong += u32::from(begin.gone.is_some());
            }
        });
    }
    assert_eq!(wrong, 0, "of 500 starts, so many repeat the whole log");
}

/// Reads from a beginning with several queues: returns the texts that a queue with a place
/// lacks, as its ledger says.
fn lacking(folder: &TempDir, begin: &Begin, place: u64) -> Vec<String> {
    lacking_while(folder, begin, place, || {})
}

/// Like [`lacking`], while something happens after the first line.
fn lacking_while(
    folder: &TempDir,
    begin: &Begin,
    place: u64,
    mut happen: impl FnMut(),
) -> Vec<String> {
    let mut stops: Vec<u64> = begin.stops.clone();
    stops.reverse();
    let container = open(folder, begin.position.clone());
    let mut container = container.with_anchors(begin.anchors.clone());
    let (mut now, mut lacking) = (Instant::now(), Vec::new());
    let mut buffer = [0; LINE + 10];
    for _ in 0..100 {
        let mut texts = Vec::new();
        let turn = container.turn(&mut buffer, now, stops.last().copied(), |item| match item {
            Item::Text(text) => texts.push(String::from_utf8_lossy(text.text).into_owned()),
            Item::Invalid(_) => panic!("all lines are valid"),
        });
        let to = container.position().place();
        if to > place {
            lacking.append(&mut texts);
        }
        happen();
        if stops.last().is_some_and(|stop| to >= *stop) {
            stops.pop();
        }
        match turn.unwrap() {
            Turn::Wait { until: Some(until) } => now = until,
            Turn::Wait { until: None } => break,
            _ => {}
        }
    }
    lacking
}

fn first(folder: &TempDir) -> Position {
    let wants = Wants {
        everything: true,
        ..Wants::default()
    };
    begin(folder.path(), &wants).unwrap().position
}

fn after(folder: &TempDir, count: usize) -> Position {
    let mut run = Run::new(folder, first(folder));
    while run.texts.len() < count {
        run.read(LINE, 1);
    }
    run.container.position()
}

/// A queue has a text that was given up, and a slower one has not.
#[test]
fn a_text_that_was_given_up_is_not_repeated() {
    let folder = folder(&[(CURRENT, &part("stdout", "P", "begin"))]);
    let start = first(&folder);
    let mut run = Run::new(&folder, start.clone());
    run.read(1000, 2);
    run.now += PAUSE;
    run.read(1000, 2);
    assert_eq!(run.texts, ["begin (cut)"]);
    let fast = run.container.position();
    let path = folder.path().join(CURRENT);
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(part("stdout", "F", "end").as_bytes())
        .unwrap();
    let wants = Wants {
        known: vec![start, fast.clone()],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(lacking(&folder, &begin, fast.place()), ["end"]);
}

/// The kubelet has compressed a file, and has not deleted the original yet.
#[test]
fn a_file_and_its_compressed_copy_count_once() {
    let folder = folder(&[
        (T1, &lines(0..4)),
        (T2, &lines(4..6)),
        (CURRENT, &lines(6..12)),
    ]);
    let known = after(&folder, 8);
    fs::write(
        folder.path().join(format!("{T1}.gz")),
        gzip(lines(0..4).as_bytes()),
    )
    .unwrap();
    let wants = Wants {
        known: vec![known.clone()],
        everything: true,
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(
        lacking(&folder, &begin, known.place()),
        ["08", "09", "10", "11"]
    );
}

/// One queue is before a file that was truncated, the other one is after the truncation.
#[test]
fn places_fit_together_after_a_truncation() {
    let folder = folder(&[(T1, &lines(0..2)), (CURRENT, &lines(2..6))]);
    let slow = after(&folder, 1);
    let mut run = Run::new(&folder, first(&folder));
    run.read(1000, 100);
    fs::write(folder.path().join(CURRENT), lines(6..8)).unwrap();
    run.read(1000, 100);
    let fast = run.container.position();
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.path().join(CURRENT))
        .unwrap();
    file.write_all(lines(8..10).as_bytes()).unwrap();
    let wants = Wants {
        known: vec![slow, fast.clone()],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(lacking(&folder, &begin, fast.place()), ["08", "09"]);
}

/// The reader is behind in the first file when the kubelet deletes it and the next one.
#[test]
fn places_fit_together_after_a_deletion() {
    let folder = folder(&[
        (T1, &lines(0..2)),
        (T2, &lines(2..6)),
        (CURRENT, &lines(6..12)),
    ]);
    let (slow, fast) = (after(&folder, 1), after(&folder, 7));
    let wants = Wants {
        known: vec![slow, fast.clone()],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    let lacking = lacking_while(&folder, &begin, fast.place(), || {
        for name in [T1, T2] {
            let _ = fs::remove_file(folder.path().join(name));
        }
    });
    assert_eq!(lacking, ["07", "08", "09", "10", "11"]);
}

/// The kernel drops the event that a watched folder is gone, which is created again.
#[test]
fn a_folder_is_watched_again_after_dropped_events() {
    let root = TempDir::new().unwrap();
    let (web, noisy) = (
        container_folder(&root, "web"),
        container_folder(&root, "noisy"),
    );
    let mut discovery = Discovery::new(root.path().to_owned(), Scope::default()).unwrap();
    discovery.scan(|_| {}).unwrap();
    flood(&noisy);
    fs::remove_dir_all(web.parent().unwrap()).unwrap();
    container_folder(&root, "web");
    assert!(discovery.changes(|_| {}).unwrap());
    discovery.scan(|_| {}).unwrap();
    discovery.changes(|_| {}).unwrap();
    fs::write(web.join(CURRENT), lines(0..1)).unwrap();
    let mut changed = Vec::new();
    discovery
        .changes(|path| changed.push(path.to_owned()))
        .unwrap();
    assert!(changed.contains(&web), "only scans notice its changes");
}

/// A queue has nothing yet, and the oldest file was deleted.
#[test]
fn a_queue_without_lines_does_not_make_another_one_lose_some() {
    let folder = folder(&[(T1, &lines(0..4)), (CURRENT, &lines(4..8))]);
    let none = first(&folder);
    let fast = after(&folder, 6);
    fs::remove_file(folder.path().join(T1)).unwrap();
    let wants = Wants {
        known: vec![none, fast.clone()],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(lacking(&folder, &begin, fast.place()), ["06", "07"]);
    assert!(begin.gone.is_some());
}

/// The file of the slower queue is deleted. What is left before the faster one is readable.
#[test]
fn what_is_left_is_read_for_a_queue_whose_file_is_gone() {
    let folder = folder(&[
        (T1, &lines(0..2)),
        (T2, &lines(2..6)),
        (CURRENT, &lines(6..8)),
    ]);
    let (slow, fast) = (after(&folder, 1), after(&folder, 5));
    fs::remove_file(folder.path().join(T1)).unwrap();
    let wants = Wants {
        known: vec![slow.clone(), fast],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(
        lacking(&folder, &begin, slow.place()),
        ["02", "03", "04", "05", "06", "07"]
    );
}

/// The current file is truncated while the process is stopped.
#[test]
fn files_that_a_queue_has_are_not_read_again_if_a_later_one_is_gone() {
    let folder = folder(&[(T1, &lines(0..4)), (CURRENT, &lines(4..6))]);
    let known = after(&folder, 6);
    fs::write(folder.path().join(CURRENT), lines(6..8)).unwrap();
    let wants = Wants {
        known: vec![known.clone()],
        ..Wants::default()
    };
    let begin = begin(folder.path(), &wants).unwrap();
    assert_eq!(lacking(&folder, &begin, known.place()), ["06", "07"]);
}

/// A rotated file is damaged, as after a crash of the node.
#[test]
fn a_damaged_file_does_not_prevent_the_beginning() {
    let folder = folder(&[(&format!("{T1}.gz"), ""), (CURRENT, &lines(0..2))]);
    for new in [
        From::End,
        From::Beginning,
        From::Since(reader::line::Time::default()),
    ] {
        let wants = Wants {
            new: vec![new],
            ..Wants::default()
        };
        let begun = begin(folder.path(), &wants);
        assert!(begun.is_ok(), "{new:?}: {:?}", begun.unwrap_err());
    }
}

/// With Docker, each `<run>.log` is a symbolic link (docs/PLATFORMS.md).
#[test]
fn a_symbolic_link_does_not_prevent_the_beginning() {
    let folder = TempDir::new().unwrap();
    symlink("/etc/hostname", folder.path().join(CURRENT)).unwrap();
    let wants = Wants {
        new: vec![From::End],
        ..Wants::default()
    };
    assert!(begin(folder.path(), &wants).is_ok());
}

/// The containers of a node.
#[derive(Default)]
struct Node {
    begin: Option<Begin>,
    texts: Vec<String>,
    passages: Vec<Passage>,
}

impl Receiver for Node {
    fn begin(&mut self, _: &ContainerId, folder: &LogFolder, _: bool) -> io::Result<Begin> {
        match self.begin.take() {
            Some(begin) => Ok(begin),
            None => begin(folder, &Wants::default()),
        }
    }

    fn receive(&mut self, _: &ContainerId, event: Event<'_>) {
        match event {
            Event::Item(Item::Text(text)) => {
                self.texts
                    .push(String::from_utf8(text.text.to_vec()).unwrap());
            }
            Event::Passage(passage) => self.passages.push(passage),
            _ => {}
        }
    }
}

fn container_folder(root: &TempDir, pod: &str) -> PathBuf {
    let uid = "2f6b0c9e-0000-4000-8000-000000000001";
    let folder = root.path().join(format!("shop_{pod}_{uid}")).join("app");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn turns(reader: &mut Reader, node: &mut Node, now: Instant) {
    let mut buffer = [0; 1000];
    reader.update(now).unwrap();
    while reader.turn(&mut buffer, now, node) {}
}

/// Makes the kernel drop events.
fn flood(folder: &Path) {
    let files = ["0.log", "1.log"].map(|name| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(name))
            .unwrap()
    });
    for _ in 0..20_000 {
        for mut file in &files {
            file.write_all(b"x").unwrap();
        }
    }
}

/// The kernel drops the events of a container whose pod is deleted.
#[test]
fn the_last_lines_of_a_container_are_read_after_dropped_events() {
    let root = TempDir::new().unwrap();
    let (web, noisy) = (
        container_folder(&root, "web"),
        container_folder(&root, "noisy"),
    );
    fs::write(web.join(CURRENT), lines(0..1)).unwrap();
    let mut reader = Reader::new(root.path().to_owned(), Scope::default(), 1000).unwrap();
    let (mut node, mut now) = (Node::default(), Instant::now());
    turns(&mut reader, &mut node, now);
    assert_eq!(node.texts, ["00"]);
    flood(&noisy);
    let mut file = OpenOptions::new()
        .append(true)
        .open(web.join(CURRENT))
        .unwrap();
    file.write_all(lines(1..2).as_bytes()).unwrap();
    fs::remove_dir_all(web.parent().unwrap()).unwrap();
    for _ in 0..30 {
        turns(&mut reader, &mut node, now);
        now += Duration::from_secs(1);
    }
    node.texts.retain(|text| !text.contains('x'));
    assert_eq!(node.texts, ["00", "01"]);
    assert!(node.passages.iter().any(|passage| passage.is_last));
}

/// Two queues have the same bytes, but one has given up a line; a third is a little further.
#[test]
fn a_passage_ends_at_each_position() {
    let root = TempDir::new().unwrap();
    let folder = container_folder(&root, "web");
    let path = folder.join(CURRENT);
    let begun = part("stdout", "P", "begin");
    fs::write(&path, lines(0..1) + &begun).unwrap();
    let start = begin(
        &*folder,
        &Wants {
            everything: true,
            ..Wants::default()
        },
    )
    .unwrap();
    let mut container = Container::new(folder.clone(), start.position.clone(), 1000);
    let (mut buffer, mut now) = ([0; 1000], Instant::now());
    let mut positions = Vec::new();
    // The rest of the line comes late.
    for text in [String::new(), lines(1..2), lines(2..3)] {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        container.turn(&mut buffer, now, None, |_| {}).unwrap();
        now += PAUSE;
        if text.is_empty() {
            container.turn(&mut buffer, now, None, |_| {}).unwrap();
        }
        positions.push(container.position());
    }
    let [given_up, further, _] = &positions[..] else {
        panic!()
    };
    let wants = Wants {
        known: vec![start.position.clone(), given_up.clone(), further.clone()],
        ..Wants::default()
    };
    let mut node = Node {
        begin: Some(begin(&*folder, &wants).unwrap()),
        ..Node::default()
    };
    let mut reader = Reader::new(root.path().to_owned(), Scope::default(), 1000).unwrap();
    turns(&mut reader, &mut node, now);
    let place = further.place();
    let crosses = |passage: &&Passage| passage.from < place && place < passage.to.place();
    let crossing = node.passages.iter().find(crosses);
    assert!(
        crossing.is_none(),
        "the queue at {place} has a part of {crossing:?}"
    );
}
