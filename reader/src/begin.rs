//! The position from which a container is read, for outputs whose queues have different parts
//! of its log.
//!
//! ```text
//! gone | what is left of the log ............................................ | not written
//!         ^ everything      ^ since          ^ known       ^ known             ^ end
//! ```
//!
//! Reading begins at the lowest of these positions, or at what is left after it. Places count
//! bytes relative to each other, so that each output can tell what its queue has: the files
//! between two positions tell their distance. If no known position is there, nothing that is
//! left is in a queue, and bytes are counted on a new scale, whose places are higher than all
//! before.

use std::io;

use crate::assembler::Offsets;
use crate::container::Position;
use crate::container_log::{self, FilePosition};
use crate::line::{Line, Time};
use crate::log_folder::{self, Entry, LogFolder};
use crate::source::{Source, is_of_file};

/// The parts of a container's log that outputs want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The positions of queues that have a part of the log.
    pub known: Vec<Position>,
    /// Whether an output wants everything that is left.
    pub everything: bool,
    /// The points from which outputs want it that are new.
    pub new: Vec<From>,
    /// The number from which bytes are counted if no known position is there: higher than any
    /// total until now, and far enough from it for what is found to be before.
    pub scale: u64,
}

/// The point from which an output wants the logs that were there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Everything that is left.
    Beginning,
    /// Only what is written from now on.
    End,
    /// The lines since a time.
    Since(Time),
}

/// The beginning of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The position from which it is read.
    pub position: Position,
    /// The places of other outputs, in ascending order. A group ends at each.
    pub stops: Vec<u64>,
    /// The positions of all outputs, which the places of what is read have to fit.
    pub anchors: Vec<Position>,
    /// The positions of new outputs.
    pub new: Vec<(From, Position)>,
    /// The part that is gone, if a queue's next line is no longer there.
    pub gone: Option<Gone>,
}

/// The part of a log that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The number of bytes; none if it is unknown.
    pub bytes: Option<u64>,
}

/// Chooses the position from which the container of a folder is read.
///
/// # Errors
///
/// Returns an error if the folder or a file cannot be read.
pub fn begin(folder: impl Into<LogFolder>, wants: &Wants) -> io::Result<Begin> {
    // Files that are renamed meanwhile would be mistaken for others.
    let choose = |entries: &[Entry]| Ok((begin_in(entries, wants)?, false));
    log_folder::look(&folder.into(), choose).map(|(begin, _)| begin)
}

fn begin_in(entries: &[Entry], wants: &Wants) -> io::Result<Begin> {
    let mut known = wants.known.clone();
    known.sort_by_key(Position::place);
    // The clock behind the scale may have been set back.
    let above = known.iter().map(|position| position.total() + 1).max();
    let scale = wants.scale.max(above.unwrap_or(0));
    let log = Log::new(entries, &known, scale);
    // The next lines of each queue that are left.
    let next = known.iter().map(|position| log.next(position));
    let next = next.collect::<io::Result<Vec<Position>>>()?;
    let position_of = |from: &From| {
        let position = match from {
            From::Beginning => log.beginning(),
            From::End => log.end(),
            From::Since(time) => log.since(*time),
        };
        Ok((*from, position?))
    };
    let new = wants.new.iter().map(position_of);
    let new = new.collect::<io::Result<Vec<(From, Position)>>>()?;
    let is_alone = known.is_empty() && new.is_empty();
    let everything = if wants.everything || is_alone {
        Some(log.beginning()?)
    } else {
        None
    };
    let of_new = || new.iter().map(|(_, position)| position);
    let candidates = everything.iter().chain(&next).chain(of_new());
    let position = candidates
        .min_by_key(|position| position.place())
        .expect("without a known position there is another one")
        .clone();
    let places = next.iter().chain(of_new()).map(Position::place);
    let mut stops: Vec<u64> = places.filter(|place| *place > position.place()).collect();
    stops.sort_unstable();
    stops.dedup();
    let mut pairs = known.iter().zip(&next);
    let gone = pairs
        .find(|(known, next)| known != next)
        .map(|(known, next)| Gone {
            bytes: (known.scale == next.scale)
                .then(|| next.total().checked_sub(known.total()))
                .flatten()
                .filter(|bytes| *bytes > 0),
        });
    let mut anchors = known.clone();
    anchors.extend(of_new().cloned());
    anchors.sort_by_key(Position::place);
    Ok(Begin {
        position,
        stops,
        anchors,
        new,
        gone,
    })
}

/// The files that are left of a log.
struct Log<'a> {
    entries: &'a [Entry],
    /// The known positions whose file is still there, or the file before it.
    anchors: Vec<Anchor>,
    /// The scale of places if there is no such position.
    scale: u64,
}

/// The number of bytes before a file.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    index: usize,
    before: u64,
    scale: u64,
}

impl<'a> Log<'a> {
    fn new(entries: &'a [Entry], known: &[Position], scale: u64) -> Self {
        let of_file = |position: &Position| {
            Some(Anchor {
                index: file_index(entries, position)?,
                before: position.before,
                scale: position.scale,
            })
        };
        // The queue has the files before one that is gone.
        let after_gone = |position: &Position| {
            Some(Anchor {
                index: index_after(entries, position)?,
                before: position.total(),
                scale: position.scale,
            })
        };
        let anchor = |position| of_file(position).or_else(|| after_gone(position));
        let anchors = known.iter().filter_map(anchor).collect();
        Self {
            entries,
            anchors,
            scale,
        }
    }

    /// Returns the position of the next line of a queue that is left.
    fn next(&self, position: &Position) -> io::Result<Position> {
        if file_index(self.entries, position).is_some() {
            return Ok(position.clone());
        }
        let after = position.log.after.as_ref();
        let mut entries = self.entries.iter();
        let index = entries.position(|entry| entry.is_after(after));
        let (before, scale) = self.before(index.unwrap_or(self.entries.len()))?;
        // Nothing was read of the next file, and nothing is gone.
        if position.log.in_text().is_none() && before <= position.total() {
            return Ok(position.clone());
        }
        Ok(Position {
            log: container_log::Position {
                after: position.log.after.clone(),
                file: None,
            },
            // The queue lacks all of it.
            ..Position::beginning(before.max(position.total()), scale)
        })
    }

    /// Returns the number of bytes before a file, and their scale.
    fn before(&self, index: usize) -> io::Result<(u64, u64)> {
        // Bytes that are gone are before the last known position.
        let anchors = self.anchors.iter();
        let last = anchors.filter(|anchor| anchor.index <= index);
        if let Some(anchor) = last.max_by_key(|anchor| (anchor.index, anchor.before)) {
            let length = self.length(anchor.index, index)?;
            return Ok((anchor.before + length, anchor.scale));
        }
        let next = self.anchors.iter().min_by_key(|anchor| anchor.index);
        Ok(match next {
            Some(anchor) => {
                let length = self.length(index, anchor.index)?;
                (anchor.before.saturating_sub(length), anchor.scale)
            }
            None => (self.scale + self.length(0, index)?, self.scale),
        })
    }

    /// Returns the number of bytes in the files from one index to another.
    fn length(&self, from: usize, to: usize) -> io::Result<u64> {
        let entries = self.entries[from..to].iter();
        entries
            .map(|entry| readable(entry.open(), Source::length_of_text))
            .map(|length| Ok(length?.unwrap_or(0)))
            .sum()
    }

    fn beginning(&self) -> io::Result<Position> {
        self.before_file(0)
    }

    fn end(&self) -> io::Result<Position> {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return self.beginning();
        };
        let end = readable(self.entries[last].open(), |source| {
            Ok(FilePosition {
                id: source.id()?,
                offset: source.end_of_lines()?,
            })
        });
        match end? {
            Some(end) => self.at(last, end),
            // It may be replaced by a readable one.
            None => self.before_file(last),
        }
    }

    /// Returns the position of the first line since a time.
    fn since(&self, time: Time) -> io::Result<Position> {
        for index in (0..self.entries.len()).rev() {
            let first = |time| {
                let found = readable(self.entries[index].open(), |source| {
                    first_line_since(source, time)
                });
                Ok::<_, io::Error>(found?.flatten())
            };
            if first(Time::default())?.is_some_and(|(_, first)| first < time) {
                // The boundary is in this file, or after it.
                if let Some((boundary, _)) = first(time)? {
                    return self.at(index, boundary);
                }
                return match self.entries.get(index + 1) {
                    Some(_) => self.before_file(index + 1),
                    None => self.end(),
                };
            }
        }
        self.beginning()
    }

    /// Returns the position before a file.
    fn before_file(&self, index: usize) -> io::Result<Position> {
        let (before, scale) = self.before(index)?;
        let after = index.checked_sub(1).map(|before| &self.entries[before]);
        Ok(Position {
            log: container_log::Position {
                after: after.map(|entry| entry.name.clone()),
                file: None,
            },
            ..Position::beginning(before, scale)
        })
    }

    /// Returns the position in a file.
    fn at(&self, index: usize, file: FilePosition) -> io::Result<Position> {
        let mut position = self.before_file(index)?;
        position.log.file = Some(file);
        position.passed = Offsets {
            stdout: file.offset,
            stderr: file.offset,
        };
        position.read = file.offset;
        Ok(position)
    }
}

/// Returns the index of the file of a position, if it or the file before it is still there.
fn file_index(entries: &[Entry], position: &Position) -> Option<usize> {
    let Some(FilePosition { id, .. }) = position.log.in_text() else {
        return index_after(entries, position);
    };
    let after = position.log.after.as_ref();
    log_folder::find(entries, after, &id).map(|(index, _)| index)
}

/// Returns the index after the last file before a position, if that file is still there.
fn index_after(entries: &[Entry], position: &Position) -> Option<usize> {
    let after = position.log.after.as_ref()?;
    let is_same = |entry: &Entry| entry.name.has_content_of(after);
    entries.iter().position(is_same).map(|index| index + 1)
}

/// Returns what is read of a file; none if it is damaged or no regular file.
fn readable<T>(
    source: io::Result<Source>,
    read: impl FnOnce(&mut Source) -> io::Result<T>,
) -> io::Result<Option<T>> {
    match source.and_then(|mut source| read(&mut source)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_of_file(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the position and the time of the first line since a time, if there is one.
fn first_line_since(source: &mut Source, time: Time) -> io::Result<Option<(FilePosition, Time)>> {
    let id = source.id()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    // A line may be longer than the buffer: its rest is not a line.
    let mut is_in_line = false;
    loop {
        let count = source.read_at(at, &mut buffer)?;
        let complete = memchr::memrchr(b'\n', &buffer[..count]).map_or(count, |last| last + 1);
        let mut offset = at;
        for text in buffer[..complete].split_inclusive(|byte| *byte == b'\n') {
            let line = text.strip_suffix(b"\n").unwrap_or(text);
            let is_rest = std::mem::replace(&mut is_in_line, !text.ends_with(b"\n"));
            let parsed = Line::parse(line).filter(|line| !is_rest && line.time >= time);
            if let Some(line) = parsed {
                return Ok(Some((FilePosition { id, offset }, line.time)));
            }
            offset += text.len() as u64;
        }
        if complete == 0 {
            return Ok(None);
        }
        at = offset;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::time::Instant;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;
    use crate::container::{Container, Item, Turn};
    use crate::container_log::Missing;

    const T1: &str = "0.log.20260301-000001";
    const T2: &str = "0.log.20260301-000002";
    const CURRENT: &str = "0.log";
    const SCALE: u64 = 1 << 40;

    /// A log of three files with three lines each.
    struct World {
        root: TempDir,
        folder: LogFolder,
    }

    fn time(second: i64) -> Time {
        Time {
            seconds: 1_772_366_400 + second,
            nanos: 0,
        }
    }

    impl World {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            let world = Self {
                folder: root.path().into(),
                root,
            };
            world.write([T1, T2, CURRENT]);
            world
        }

        /// Returns a log to which a link leads, and that Docker rotates.
        fn docker() -> Self {
            let root = TempDir::new().unwrap();
            let (pod, docker) = (root.path().join("pod"), root.path().join("docker"));
            for folder in [&pod, &docker] {
                fs::create_dir(folder).unwrap();
            }
            std::os::unix::fs::symlink(docker.join("log"), pod.join(CURRENT)).unwrap();
            let links = [docker].into();
            let world = Self {
                root,
                folder: LogFolder { path: pod, links },
            };
            world.write(["docker/log.2", "docker/log.1", "docker/log"]);
            world
        }

        fn write(&self, names: [&str; 3]) {
            for (number, name) in names.into_iter().enumerate() {
                let line = |line| {
                    let second = number * 3 + line;
                    format!("2026-03-01T12:00:0{second}Z stdout F {second}\n")
                };
                let lines: String = (0..3).map(line).collect();
                fs::write(self.path(name), lines).unwrap();
            }
        }

        /// Renames all files like Docker, and compresses those that were rotated before.
        fn rotate(&self) {
            for (from, to) in [("log.2", "log.3.gz"), ("log.1", "log.2.gz")] {
                let from = self.path("docker").join(from);
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&fs::read(&from).unwrap()).unwrap();
                let compressed = encoder.finish().unwrap();
                fs::write(self.path("docker").join(to), compressed).unwrap();
                fs::remove_file(from).unwrap();
            }
            fs::rename(self.path("docker/log"), self.path("docker/log.1")).unwrap();
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.root.path().join(name)
        }

        fn begin(&self, wants: &Wants) -> Begin {
            begin(&self.folder, wants).unwrap()
        }

        /// Reads from a position on. Returns the texts, and the position after so many.
        fn read(&self, from: &Position, count: usize) -> (String, Position) {
            let mut container = Container::new(&self.folder, from.clone(), 1000);
            let (mut texts, mut now) = (String::new(), Instant::now());
            // Each line has 32 bytes.
            let mut buffer = [0; 32];
            while texts.len() < count {
                let turn = container.turn(&mut buffer, now, None, |item| match item {
                    Item::Text(text) => texts += std::str::from_utf8(text.text).unwrap(),
                    Item::Invalid(_) => panic!("all lines are valid"),
                });
                match turn.unwrap() {
                    Turn::Read(_) | Turn::Missing(Missing::Unreadable(_)) => {}
                    Turn::Wait { until: Some(until) } => now = until,
                    Turn::Wait { until: None } => break,
                    other => panic!("{other:?}"),
                }
            }
            (texts, container.position())
        }

        /// Returns the positions after so many lines, of one reader.
        fn positions<const N: usize>(&self, counts: [usize; N]) -> [Position; N] {
            let first = self.begin(&Wants {
                everything: true,
                scale: SCALE,
                ..Wants::default()
            });
            counts.map(|count| self.read(&first.position, count).1)
        }
    }

    #[test]
    fn reading_begins_at_the_lowest_position_and_stops_at_the_others() {
        let world = World::new();
        let [four, five, eight] = world.positions([4, 5, 8]);
        let wants = Wants {
            known: vec![eight.clone(), four.clone(), five.clone(), eight.clone()],
            ..Wants::default()
        };
        let begin = world.begin(&wants);
        assert_eq!(begin.position, four);
        assert_eq!(begin.stops, [five.place(), eight.place()]);
        assert_eq!((begin.new, begin.gone), (vec![], None));
    }

    #[test]
    fn the_places_of_all_beginnings_fit_together() {
        let world = World::new();
        let all = world.positions([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_places(&world, &all);
    }

    #[test]
    fn places_stay_when_docker_rotates() {
        let world = World::docker();
        let all = world.positions([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_places(&world, &all);
        world.rotate();
        assert_places(&world, &all);
    }

    fn assert_places(world: &World, all: &[Position]) {
        for (known, since) in [(4, 2), (4, 0), (1, 7), (3, 3), (9, 4)] {
            let wants = Wants {
                known: vec![all[known].clone()],
                new: vec![From::Since(time(since))],
                ..Wants::default()
            };
            let begin = world.begin(&wants);
            let (_, new) = begin.new[0].clone();
            assert_eq!(new.place(), all[since as usize].place(), "{known} {since}");
            let expected: String = (since..9).map(|line| line.to_string()).collect();
            assert_eq!(world.read(&new, 9).0, expected);
            assert_eq!(begin.position.place(), all[known].place().min(new.place()));
        }
        for (from, expected) in [
            (From::Beginning, 0),
            (From::End, 9),
            (From::Since(time(9)), 9),
        ] {
            let wants = Wants {
                known: vec![all[5].clone()],
                new: vec![from],
                ..Wants::default()
            };
            let (_, new) = world.begin(&wants).new.remove(0);
            assert_eq!(new.place(), all[expected].place(), "{from:?}");
        }
    }

    #[test]
    fn what_is_gone_is_reported_and_nothing_is_taken_for_it() {
        let world = World::new();
        let [two, four, five] = world.positions([2, 4, 5]);
        let known = |known: &[&Position]| Wants {
            known: known.iter().copied().cloned().collect(),
            ..Wants::default()
        };
        fs::remove_file(world.path(T1)).unwrap();
        let begin = world.begin(&known(&[&two, &four]));
        assert_eq!(world.read(&begin.position, 9).0, "345678");
        assert_eq!(begin.stops, [four.place()]);
        // The third line.
        assert_eq!(begin.gone, Some(Gone { bytes: Some(32) }));
        // Everything that is left begins before the known position.
        let wants = Wants {
            everything: true,
            ..known(&[&four])
        };
        let begin = world.begin(&wants);
        assert_eq!(world.read(&begin.position, 9).0, "345678");
        assert_eq!((begin.stops, begin.gone), (vec![four.place()], None));
        // Only the last file is left: no queue has any of it.
        fs::remove_file(world.path(T2)).unwrap();
        let wants = Wants {
            scale: five.total() + 1000,
            ..known(&[&two, &five])
        };
        let begin = world.begin(&wants);
        assert_eq!(begin.gone, Some(Gone { bytes: None }));
        assert!(begin.position.place() > five.place());
        assert_eq!(world.read(&begin.position, 9).0, "678");
    }

    #[test]
    fn files_that_cannot_be_read_have_no_lines() {
        let world = World::docker();
        world.rotate();
        for (name, text) in [("log.5", "not gzip"), ("log.4.gz", "not gzip")] {
            fs::write(world.path("docker").join(name), text).unwrap();
        }
        fs::remove_file(world.path("docker/log.5")).unwrap();
        fs::create_dir(world.path("docker/log.5")).unwrap();
        fs::create_dir(world.path("docker/log")).unwrap();
        for (from, expected) in [
            (From::Beginning, "012345678"),
            (From::End, ""),
            (From::Since(time(4)), "45678"),
            (From::Since(time(9)), ""),
        ] {
            let wants = Wants {
                new: vec![from],
                ..Wants::default()
            };
            let begin = world.begin(&wants);
            assert_eq!(world.read(&begin.position, 9).0, expected, "{from:?}");
        }
    }

    #[test]
    fn a_container_that_nobody_knows_is_read_from_its_beginning() {
        let world = World::new();
        let begin = world.begin(&Wants::default());
        assert_eq!(world.read(&begin.position, 9).0, "012345678");
        let empty = TempDir::new().unwrap();
        let wants = Wants {
            new: vec![From::End],
            ..Wants::default()
        };
        assert_eq!(super::begin(empty.path(), &wants).unwrap().stops, [0; 0]);
    }
}
