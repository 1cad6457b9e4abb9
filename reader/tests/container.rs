//! The texts of a container whose streams alternate and whose lines come in parts, while files
//! are rotated and readers restart. Each text arrives once, in the order of its stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod files;

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use files::create;
use proptest::collection::vec;
use proptest::prelude::*;
use reader::{Container, Item, Position, Turn};
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Event {
    /// The container writes a line of so many parts to a stream. The parts alternate with
    /// those of the other stream.
    Lines {
        stdout: usize,
        stderr: usize,
    },
    /// The machine stops in the middle of a line.
    CutLine,
    Rotate,
    /// The reader takes so many turns.
    Turns(usize),
    RestartReader,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..4_usize, 0..4_usize).prop_map(|(stdout, stderr)| Event::Lines { stdout, stderr }),
        1 => Just(Event::CutLine),
        2 => Just(Event::Rotate),
        4 => (1..20_usize).prop_map(Event::Turns),
        3 => Just(Event::RestartReader),
    ]
}

struct World {
    folder: TempDir,
    file: File,
    rotations: usize,
    lines: usize,
    expected: [Vec<String>; 3],
    received: [Vec<String>; 3],
    container: Container,
    now: Instant,
}

const LIMIT: usize = 1000;

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            file: create(&folder.path().join("0.log")),
            container: Container::new(folder.path().to_owned(), Position::beginning(0, 0), LIMIT),
            folder,
            rotations: 0,
            lines: 0,
            expected: Default::default(),
            received: Default::default(),
            now: Instant::now(),
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Lines { stdout, stderr } => {
                self.lines += 1;
                let number = self.lines;
                for part in 0..(*stdout).max(*stderr) {
                    for (stream, parts) in [("stdout", *stdout), ("stderr", *stderr)] {
                        let tag = if part + 1 == parts { "F" } else { "P" };
                        if part < parts {
                            let time = format!("2026-03-01T12:00:00.{number:09}Z");
                            let text = format!("{number}.{part}-");
                            writeln!(self.file, "{time} {stream} {tag} {text}").unwrap();
                        }
                    }
                }
                for (stream, parts) in [*stdout, *stderr].into_iter().enumerate() {
                    let text = (0..parts).map(|part| format!("{number}.{part}-"));
                    self.expected[stream].extend((parts > 0).then(|| text.collect()));
                }
            }
            Event::CutLine => {
                self.lines += 1;
                writeln!(self.file, "2026-03-01T12:00:00Z std {}", self.lines).unwrap();
                let line = format!("2026-03-01T12:00:00Z std {}", self.lines);
                self.expected[2].push(line);
            }
            Event::Rotate => {
                self.rotations += 1;
                let current = self.folder.path().join("0.log");
                let name = format!("0.log.20260301-{:06}", self.rotations);
                fs::rename(&current, self.folder.path().join(name)).unwrap();
                self.file = create(&current);
            }
            Event::Turns(turns) => self.turns(*turns),
            Event::RestartReader => {
                let stored = serde_json::to_string(&self.container.position()).unwrap();
                let start: Position = serde_json::from_str(&stored).unwrap();
                let folder = self.folder.path().to_owned();
                self.container = Container::new(folder, start, LIMIT);
            }
        }
    }

    fn turns(&mut self, turns: usize) {
        self.turns_until(turns, None);
    }

    /// Takes turns up to a total.
    fn turns_until(&mut self, turns: usize, until: Option<u64>) {
        // Few lines at a time, so that restarts fall between the parts of a line.
        let mut buffer = [0; 100];
        for _ in 0..turns {
            let place = self.container.position().place();
            if until.is_some_and(|until| place >= until) {
                return;
            }
            let received = &mut self.received;
            let turn = self
                .container
                .turn(&mut buffer, self.now, until, |item| match item {
                    Item::Text(text) => {
                        assert!(!text.is_cut, "{text:?}");
                        let stream = usize::from(text.stream.name() == "stderr");
                        received[stream].push(String::from_utf8(text.text.to_vec()).unwrap());
                    }
                    Item::Invalid(line) => {
                        received[2].push(String::from_utf8(line.to_vec()).unwrap());
                    }
                });
            match turn.unwrap() {
                Turn::Read(_) => self.now += Duration::from_millis(1),
                Turn::Wait { until: Some(until) } => self.now = until,
                Turn::Wait { until: None } => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_text_arrives_once(events in vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.turns(usize::MAX);
        prop_assert_eq!(world.received, world.expected);
    }

    /// Several receivers of the same texts have got different numbers of them.
    #[test]
    fn the_texts_between_two_positions_are_read_again(
        events in vec(event(), 1..40),
        distance in 0..20_usize,
    ) {
        let mut world = World::new();
        let mut positions = Vec::new();
        for event in &events {
            world.happen(event);
            positions.push((world.container.position(), world.received.clone()));
        }
        let later = positions.iter().skip(distance);
        for ((from, before), (to, after)) in positions.iter().zip(later) {
            prop_assert!(from.place() <= to.place());
            let folder = world.folder.path().to_owned();
            world.container = Container::new(folder, from.clone(), LIMIT);
            world.received.clone_from(before);
            world.turns_until(usize::MAX, Some(to.place()));
            prop_assert_eq!(&world.received, after);
        }
    }
}
