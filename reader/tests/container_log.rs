//! The reports of missing text, and the beginnings of a container's log.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use reader::LogFolder;
use reader::begin::{self, From, Wants};
use reader::container_log::{ContainerLog, Missing, Position, SETTLE, Step};
use tempfile::TempDir;

/// Reads everything. Returns the text, and what is missing.
fn read(log: &mut ContainerLog) -> (String, Vec<Missing>) {
    let (mut text, mut missing) = (String::new(), Vec::new());
    let (mut buffer, mut now) = ([0; 64], Instant::now());
    loop {
        match log.read(&mut buffer, now).unwrap() {
            Step::Lines { at, text: lines } | Step::Cut { at, text: lines } => {
                text += std::str::from_utf8(lines).unwrap();
                log.advance(at + lines.len() as u64);
            }
            Step::NextFile => {}
            Step::Missing(what) => missing.push(what),
            Step::Wait { until: Some(until) } => now = until,
            Step::Wait { until: None } | Step::Ended => return (text, missing),
        }
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn open(folder: &Path, start: Position) -> ContainerLog {
    ContainerLog::new(folder.to_owned(), start)
}

fn end(folder: impl Into<LogFolder>) -> Position {
    let wants = Wants {
        new: vec![From::End],
        ..Wants::default()
    };
    begin::begin(folder, &wants).unwrap().position.log
}

const T1: &str = "0.log.20260301-000001";
const T2: &str = "0.log.20260301-000002";

#[test]
fn files_are_read_in_the_order_in_which_they_were_written() {
    let files = [("1.log", "d\n"), ("0.log", "c\n"), (T2, "b\n"), (T1, "a\n")];
    let folder = folder(&files);
    fs::write(folder.path().join("other.txt"), "x\n").unwrap();
    let mut log = open(folder.path(), Position::default());
    assert_eq!(read(&mut log), ("a\nb\nc\nd\n".to_owned(), vec![]));
    drop(folder);
    assert_eq!(log.read(&mut [0; 64], Instant::now()).unwrap(), Step::Ended);
}

#[test]
fn the_end_is_after_the_last_whole_line() {
    let folder = folder(&[(T1, "a\n"), ("0.log", "b\nc")]);
    let mut log = open(folder.path(), end(folder.path()));
    assert_eq!(read(&mut log), (String::new(), vec![]));
    fs::write(folder.path().join("0.log"), "b\ncd\n").unwrap();
    assert_eq!(read(&mut log), ("cd\n".to_owned(), vec![]));
    // A container that starts later is read from its first line.
    let empty = TempDir::new().unwrap();
    let mut log = open(empty.path(), end(empty.path()));
    assert_eq!(read(&mut log), (String::new(), vec![]));
    fs::write(empty.path().join("0.log"), "a\n").unwrap();
    assert_eq!(read(&mut log).0, "a\n");
}

#[test]
fn a_deleted_file_is_reported_once_and_the_rest_is_read() {
    let folder = folder(&[("0.log", "a\nb\n")]);
    let mut log = open(folder.path(), Position::default());
    assert_eq!(read(&mut log).0, "a\nb\n");
    let position = log.position();
    fs::remove_file(folder.path().join("0.log")).unwrap();
    fs::write(folder.path().join(T2), "c\n").unwrap();
    fs::write(folder.path().join("0.log"), "d\n").unwrap();
    let mut log = open(folder.path(), position);
    assert_eq!(
        read(&mut log),
        ("c\nd\n".to_owned(), vec![Missing::Deleted])
    );
    assert_eq!(read(&mut log), (String::new(), vec![]));
}

#[test]
fn a_truncated_file_is_reported_and_read_from_its_beginning() {
    let folder = folder(&[("0.log", "a\nb\n")]);
    let mut log = open(folder.path(), Position::default());
    read(&mut log);
    fs::write(folder.path().join("0.log"), "c\n").unwrap();
    assert_eq!(read(&mut log), ("c\n".to_owned(), vec![Missing::Truncated]));
    // It may have grown beyond the position since.
    fs::write(folder.path().join("0.log"), "d\ne\nf\n").unwrap();
    assert_eq!(
        read(&mut log),
        ("d\ne\nf\n".to_owned(), vec![Missing::Truncated])
    );
}

#[test]
fn a_damaged_file_is_reported_and_the_next_is_read() {
    let folder = folder(&[("0.log.20260301-000001.gz", "not gzip"), ("0.log", "b\n")]);
    let mut log = open(folder.path(), Position::default());
    let (text, missing) = read(&mut log);
    assert_eq!(text, "b\n");
    let [Missing::Unreadable(why)] = &missing[..] else {
        panic!("{missing:?}");
    };
    assert!(why.contains("0.log.20260301-000001.gz"), "{why}");
}

#[test]
fn the_end_of_a_file_that_nobody_continues_is_a_line() {
    let folder = folder(&[(T1, "a\nb"), ("0.log", "c\n")]);
    let mut log = open(folder.path(), Position::default());
    let (mut buffer, now) = ([0; 64], Instant::now());
    let Step::Lines { at: 0, text } = log.read(&mut buffer, now).unwrap() else {
        panic!();
    };
    assert_eq!(text, b"a\n");
    log.advance(2);
    let wait = Step::Wait {
        until: Some(now + SETTLE),
    };
    assert_eq!(log.read(&mut buffer, now).unwrap(), wait);
    let cut = Step::Cut { at: 2, text: b"b" };
    assert_eq!(log.read(&mut buffer, now + SETTLE).unwrap(), cut);
}

#[test]
fn a_line_longer_than_the_buffer_is_cut() {
    let line = "x".repeat(100);
    let folder = folder(&[("0.log", &format!("{line}\n"))]);
    let mut log = open(folder.path(), Position::default());
    let mut buffer = [0; 64];
    let step = log.read(&mut buffer, Instant::now()).unwrap();
    let text = &line.as_bytes()[..64];
    assert_eq!(step, Step::Cut { at: 0, text });
}

#[test]
fn a_link_that_is_not_followed_is_reported_once() {
    let secret = folder(&[("secret", "secret\n")]);
    let folder = folder(&[]);
    let link = folder.path().join("0.log");
    std::os::unix::fs::symlink(secret.path().join("secret"), link).unwrap();
    let linked = LogFolder {
        path: folder.path().to_owned(),
        links: [folder.path().to_owned()].into(),
    };
    for start in [Position::default(), end(&linked)] {
        let mut log = ContainerLog::new(&linked, start);
        let (text, missing) = read(&mut log);
        let [Missing::Unreadable(why)] = &missing[..] else {
            panic!("{missing:?}");
        };
        assert!(
            text.is_empty() && why.contains("which is not below"),
            "{why}"
        );
        assert_eq!(read(&mut log), (String::new(), vec![]));
        // The next run is read.
        fs::write(folder.path().join("1.log"), "b\n").unwrap();
        assert_eq!(read(&mut log), ("b\n".to_owned(), vec![]));
        fs::remove_file(folder.path().join("1.log")).unwrap();
    }
}
