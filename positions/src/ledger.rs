//! The record of the groups that the queue of one output has.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Container, Entry, Group, POSITIONS, PositionFile, START, read};

/// The record of what a queue has.
///
/// Groups of a container come in order, but one whose append to the queue has failed comes
/// again after later ones. The position on the disk is the end of what the queue has without
/// a gap. A gap for which no failure accounts is closed after a while: a filter has dropped
/// the groups.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    file: PositionFile,
    containers: HashMap<Container, Taken>,
    /// Whether an append has failed, so that gaps may be filled later.
    keeps_gaps: bool,
    /// The number of times that the output has asked for groups again.
    asked: u64,
}

/// The time after which a gap is closed. Several workers of an output may take groups in
/// another order meanwhile.
const GAP: Duration = Duration::from_secs(5);

/// The parts of one container's log that the queue has.
#[derive(Debug, Default)]
struct Taken {
    /// The place up to which it has everything.
    to: u64,
    /// The ranges that it has beyond that place, with the positions of their ends.
    beyond: Vec<(Range<u64>, String)>,
    /// The time since which there is something beyond it.
    gap_since: Option<Instant>,
    /// The place of the container's end, if the queue has its last group.
    last: Option<u64>,
}

impl Ledger {
    /// Opens the record in the folder of the output's queue. Returns the number of containers
    /// whose position is damaged too.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or created.
    pub fn open(folder: &Path) -> io::Result<(Self, usize)> {
        let (file, found) = PositionFile::open(&folder.join(POSITIONS))?;
        let asked = asked(&found.entries);
        let mut entries = found.entries;
        entries.remove(&Container::of_question());
        let containers = entries.into_iter();
        let this = Self {
            folder: folder.to_owned(),
            file,
            containers: containers
                .map(|(container, entry)| (container, Taken::up_to(entry.place)))
                .collect(),
            keeps_gaps: false,
            asked,
        };
        Ok((this, found.damaged))
    }

    /// Returns whether the queue lacks a group, or a part of it.
    pub fn wants(&mut self, group: &Group<'_>) -> bool {
        let container = Container::of(group);
        if !self.containers.contains_key(&container) {
            self.begin(&container);
        }
        group.is_last || !self.containers[&container].has(group.from..group.to)
    }

    /// Begins with a container: at the position that the input wrote before its first group,
    /// or else with everything.
    fn begin(&mut self, container: &Container) {
        let found = read(&self.folder.join(START)).ok().flatten();
        let start = found.and_then(|mut found| found.entries.remove(container));
        if let Some(start) = &start {
            // The input waits until the queue has a group, or need not have it. It has the
            // position anyway, so an error does no harm.
            let _ = self.file.set(container, start);
        }
        let place = start.map_or(0, |start| start.place);
        self.containers
            .insert(container.clone(), Taken::up_to(place));
    }

    /// Records that an append to the queue has failed, whose groups come again.
    pub const fn keep_gaps(&mut self) {
        self.keeps_gaps = true;
    }

    /// Asks the input to send what the queue lacks, which the output has given back.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn ask_again(&mut self) -> io::Result<()> {
        self.asked += 1;
        let entry = Entry {
            place: self.asked,
            position: String::new(),
        };
        self.file.set(&Container::of_question(), &entry)
    }

    /// Records that the queue has these groups.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written. The record in memory is right all the
    /// same; after a restart of the process, the groups would come again.
    pub fn take(&mut self, groups: &[Group<'_>], now: Instant) -> io::Result<()> {
        let mut positions = BTreeMap::new();
        for group in groups {
            let container = Container::of(group);
            let taken = self.containers.entry(container.clone()).or_default();
            if let Some(position) = taken.add(group, now, !self.keeps_gaps) {
                let place = taken.to;
                let entry = Entry { place, position };
                positions.insert(container.clone(), Some(entry));
            }
            if taken.last.is_some_and(|last| taken.to >= last) {
                positions.insert(container, None);
            }
        }
        let mut result = Ok(());
        for (container, entry) in positions {
            let written = if let Some(entry) = entry {
                self.file.set(&container, &entry)
            } else {
                self.containers.remove(&container);
                self.file.remove(&container)
            };
            result = result.and(written);
        }
        result
    }
}

/// Returns how often an output has asked for groups again, according to its entries.
#[must_use]
pub fn asked(entries: &BTreeMap<Container, Entry>) -> u64 {
    let entry = entries.get(&Container::of_question());
    entry.map_or(0, |entry| entry.place)
}

impl Container {
    /// Returns the key of the entry that counts how often the output has asked for groups
    /// again.
    fn of_question() -> Self {
        Self {
            uid: String::new(),
            name: "again".to_owned(),
        }
    }

    fn of(group: &Group<'_>) -> Self {
        Self {
            uid: group.uid.to_owned(),
            name: group.container.to_owned(),
        }
    }
}

impl Taken {
    const fn up_to(place: u64) -> Self {
        Self {
            to: place,
            beyond: Vec::new(),
            gap_since: None,
            last: None,
        }
    }

    fn has(&self, range: Range<u64>) -> bool {
        let holds = |held: &Range<u64>| held.start <= range.start && range.end <= held.end;
        range.end <= self.to || self.beyond.iter().any(|(held, _)| holds(held))
    }

    /// Adds a group. Returns the position of the new end without a gap, if there is one.
    fn add(&mut self, group: &Group<'_>, now: Instant, may_close: bool) -> Option<String> {
        // Nothing before it comes any more.
        self.to = self.to.max(group.begin);
        if group.is_last {
            self.last = Some(group.to);
        }
        let position = group.position.to_owned();
        match self.beyond.last_mut() {
            Some((last, end)) if last.end == group.from => (last.end, *end) = (group.to, position),
            _ => self.beyond.push((group.from..group.to, position)),
        }
        let mut position = self.advance();
        let first = self.beyond.iter().map(|(range, _)| range.start).min();
        let Some(first) = first else {
            self.gap_since = None;
            return position;
        };
        let since = *self.gap_since.get_or_insert(now);
        if may_close && now.saturating_duration_since(since) >= GAP {
            self.to = first;
            position = self.advance().or(position);
            self.gap_since = (!self.beyond.is_empty()).then_some(now);
        }
        position
    }

    /// Moves the end over what the queue has. Returns the position of the new end.
    fn advance(&mut self) -> Option<String> {
        let mut position = None;
        while let Some(at) = (self.beyond.iter()).position(|(range, _)| range.start <= self.to) {
            let (range, end) = self.beyond.swap_remove(at);
            if range.end > self.to {
                self.to = range.end;
                position = Some(end);
            }
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(begin: u64, from: u64, to: u64) -> Group<'static> {
        Group {
            uid: "2f6b0c9e-0000-4000-8000-000000000001",
            container: "app",
            begin,
            from,
            to,
            position: match to {
                10 => "ten",
                20 => "twenty",
                30 => "thirty",
                _ => "other",
            },
            is_last: false,
        }
    }

    struct World {
        folder: tempfile::TempDir,
        ledger: Ledger,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (ledger, _) = Ledger::open(folder.path()).unwrap();
            Self {
                folder,
                ledger,
                now: Instant::now(),
            }
        }

        fn take(&mut self, groups: &[Group<'_>]) {
            self.ledger.take(groups, self.now).unwrap();
        }

        fn restart(&mut self) {
            self.ledger = Ledger::open(self.folder.path()).unwrap().0;
        }

        fn on_disk(&self) -> Option<(u64, String)> {
            let found = crate::read(&self.folder.path().join("positions")).unwrap();
            let mut entries = found.unwrap().entries.into_values();
            entries.next().map(|entry| (entry.place, entry.position))
        }
    }

    #[test]
    fn groups_are_taken_once() {
        let mut world = World::new();
        let groups = [group(5, 5, 10), group(5, 10, 20)];
        assert!(groups.iter().all(|group| world.ledger.wants(group)));
        world.take(&groups);
        assert_eq!(world.on_disk(), Some((20, "twenty".to_owned())));
        world.restart();
        assert!(!groups.iter().any(|group| world.ledger.wants(group)));
        assert!(world.ledger.wants(&group(5, 20, 30)));
        // A part of it is new.
        assert!(world.ledger.wants(&group(5, 10, 30)));
    }

    #[test]
    fn a_group_that_failed_is_taken_after_later_ones() {
        let mut world = World::new();
        world.take(&[group(5, 10, 20)]);
        assert_eq!(world.on_disk(), None);
        assert!(!world.ledger.wants(&group(5, 10, 20)));
        assert!(world.ledger.wants(&group(5, 5, 10)));
        world.take(&[group(5, 5, 10)]);
        assert_eq!(world.on_disk(), Some((20, "twenty".to_owned())));
    }

    #[test]
    fn after_a_kill_what_lies_beyond_a_gap_comes_again() {
        let mut world = World::new();
        world.take(&[group(5, 5, 10)]);
        world.take(&[group(5, 20, 30)]);
        assert_eq!(world.on_disk(), Some((10, "ten".to_owned())));
        world.restart();
        assert!(world.ledger.wants(&group(10, 10, 20)));
        assert!(world.ledger.wants(&group(10, 20, 30)));
    }

    #[test]
    fn what_the_input_cannot_read_any_more_is_no_gap() {
        let mut world = World::new();
        world.take(&[group(5, 5, 10)]);
        world.take(&[group(20, 20, 30)]);
        assert_eq!(world.on_disk(), Some((30, "thirty".to_owned())));
    }

    #[test]
    fn a_new_output_has_nothing_from_before_its_start() {
        let mut world = World::new();
        let container = Container::of(&group(0, 0, 10));
        let start = Entry {
            place: 10,
            position: "ten".to_owned(),
        };
        let (mut file, _) = PositionFile::open(&world.folder.path().join(START)).unwrap();
        file.set(&container, &start).unwrap();
        assert!(!world.ledger.wants(&group(5, 5, 10)));
        assert!(world.ledger.wants(&group(5, 10, 20)));
        let other = Group {
            container: "other",
            ..group(5, 5, 10)
        };
        assert!(world.ledger.wants(&other));
    }

    /// A filter has dropped the groups in between.
    #[test]
    fn a_gap_without_a_failure_is_closed() {
        for has_failed in [false, true] {
            let mut world = World::new();
            if has_failed {
                world.ledger.keep_gaps();
            }
            world.take(&[group(5, 5, 10), group(5, 20, 30)]);
            assert_eq!(world.on_disk(), Some((10, "ten".to_owned())));
            world.now += GAP;
            world.take(&[group(5, 30, 40)]);
            let expected = if has_failed {
                (10, "ten".to_owned())
            } else {
                (40, "other".to_owned())
            };
            assert_eq!(world.on_disk(), Some(expected));
        }
    }

    #[test]
    fn an_output_asks_again() {
        let mut world = World::new();
        for count in 1..3 {
            world.ledger.ask_again().unwrap();
            let path = world.folder.path().join(POSITIONS);
            let found = read(&path).unwrap().unwrap();
            assert_eq!(asked(&found.entries), count);
            world.restart();
        }
        assert!(world.ledger.containers.is_empty());
    }

    #[test]
    fn a_container_that_is_gone_is_forgotten() {
        let mut world = World::new();
        world.take(&[group(5, 5, 10)]);
        let last = Group {
            is_last: true,
            ..group(5, 10, 10)
        };
        world.take(&[last]);
        assert_eq!(world.on_disk(), None);
    }

    /// The last group of a container is taken before an earlier one, whose append has failed.
    #[test]
    fn a_container_that_is_gone_is_forgotten_whatever_the_order() {
        let mut world = World::new();
        let last = Group {
            is_last: true,
            ..group(5, 10, 20)
        };
        world.take(&[last]);
        world.take(&[group(5, 5, 10)]);
        assert_eq!(world.on_disk(), None);
        assert_eq!(world.ledger.containers.len(), 0);
    }

    /// One chunk waits for a retry for minutes, while others are taken.
    #[test]
    fn what_lies_beyond_a_gap_takes_little_memory() {
        let mut world = World::new();
        for from in (10..10_010).step_by(10) {
            world.take(&[group(5, from, from + 10)]);
        }
        let beyond = world
            .ledger
            .containers
            .values()
            .map(|taken| taken.beyond.len());
        assert!(beyond.clone().all(|count| count < 10), "{:?}", beyond.max());
        // In other parts, it has them too.
        assert!(!world.ledger.wants(&group(5, 15, 35)));
    }
}
