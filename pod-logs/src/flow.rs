//! The limit of what is on its way: appended to Fluent Bit, and not in the outputs' queues yet.
//!
//! Fluent Bit keeps it in memory, in a buffer that limits the number of appends but not their
//! size. Without a limit, an input that reads faster than the outputs take would fill the
//! memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use positions::{Container, Entries};
use reader::{ContainerId, Passage};

use crate::queues::{Queues, container};

/// The maximum number of bytes on their way.
const LIMIT: usize = 8 * 1024 * 1024;
/// The time after which an output that takes nothing is late: it must not stop the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The records on their way.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    records: Vec<Appended>,
    bytes: usize,
    /// The files of positions of late outputs, with the times at which they changed last.
    late: HashMap<PathBuf, Option<SystemTime>>,
    /// The number of times that each output has asked for records again.
    asked: HashMap<PathBuf, u64>,
}

#[derive(Debug)]
struct Appended {
    namespace: String,
    container: Container,
    to: u64,
    is_last: bool,
    bytes: usize,
    at: Instant,
}

/// A change of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// No change.
    None,
    /// The output with this file of positions is late from now on.
    Late(PathBuf),
    /// An output asks for records again that it has given back.
    Asked,
}

impl Flow {
    /// Creates the limit for the outputs that are known.
    pub(crate) fn new(queues: &Queues) -> Self {
        Self {
            asked: queues.asked().collect(),
            ..Self::default()
        }
    }

    /// Adds records that were appended.
    pub(crate) fn add(&mut self, id: &ContainerId, passage: &Passage, bytes: usize, now: Instant) {
        self.bytes += bytes;
        self.records.push(Appended {
            namespace: id.pod.namespace.clone(),
            container: container(id),
            to: passage.to.place(),
            is_last: passage.is_last,
            bytes,
            at: now,
        });
    }

    /// Returns whether no more records should be appended at present.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes >= LIMIT
    }

    /// Removes the records that all queues have, except those of late outputs.
    pub(crate) fn update(&mut self, queues: &Queues, now: Instant) -> Change {
        let Self {
            records,
            bytes,
            late,
            asked,
        } = self;
        let mut files: HashMap<PathBuf, Entries> = HashMap::new();
        let read = |path: &Path| positions::read(path).ok().flatten().unwrap_or_default();
        for (path, _) in late.extract_if(|path, changed| *changed != change_of(path)) {
            let file = read(&path);
            files.insert(path, file);
        }
        let mut change = Change::None;
        records.retain(|record| {
            let is_waiting = queues.files(&record.namespace).any(|path| {
                if late.contains_key(path) {
                    return false;
                }
                let file = files.entry(path.to_owned()).or_insert_with(|| read(path));
                if !record.is_missing_in(file) {
                    return false;
                }
                let is_late = now.saturating_duration_since(record.at) >= PATIENCE;
                // Otherwise the output takes others, and a filter has dropped these.
                if is_late && !has_changed_lately(path) {
                    late.insert(path.to_owned(), change_of(path));
                    change = Change::Late(path.to_owned());
                }
                !is_late
            });
            *bytes -= if is_waiting { 0 } else { record.bytes };
            is_waiting
        });
        for (path, file) in files {
            let count = positions::asked(&file.entries);
            let known = asked.insert(path, count);
            if known.is_some_and(|known| known < count) {
                change = Change::Asked;
            }
        }
        change
    }

    /// Returns whether all queues have all records, except those of late outputs.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Appended {
    fn is_missing_in(&self, queue: &Entries) -> bool {
        match queue.entries.get(&self.container) {
            Some(entry) => entry.place < self.to,
            // An output removes the entry of a container that is gone.
            None => !self.is_last,
        }
    }
}

/// Returns whether a file has changed within [`PATIENCE`].
fn has_changed_lately(path: &Path) -> bool {
    let age = change_of(path).and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age < PATIENCE)
}

/// Returns the time at which a file changed last, if it exists.
fn change_of(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use positions::outputs::{self, Output};
    use positions::{Entry, Ledger, POSITIONS, PositionFile};
    use reader::Position;
    use reader::pod_folder::PodFolder;
    use tempfile::TempDir;

    use super::*;

    struct World {
        folder: TempDir,
        queues: Queues,
        flow: Flow,
        now: Instant,
    }

    const OUTPUTS: [&str; 2] = ["good", "bad"];

    impl World {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let outputs = OUTPUTS.map(|queue| Output {
                queue: queue.to_owned(),
                namespaces: None,
                since: None,
            });
            outputs::announce(folder.path(), &outputs).unwrap();
            let queues = Queues::load(folder.path(), None).unwrap().unwrap();
            Self {
                flow: Flow::new(&queues),
                queues,
                folder,
                now: Instant::now(),
            }
        }

        fn id() -> ContainerId {
            ContainerId {
                pod: PodFolder::parse("shop_web_2f6b0c9e").unwrap(),
                container: "app".to_owned(),
            }
        }

        /// Appends as many bytes as may be on their way, up to a position.
        fn append(&mut self, to: u64) {
            let passage = Passage {
                begin: 0,
                from: 0,
                to: Position::beginning(to, 0),
                is_last: false,
            };
            self.flow.add(&Self::id(), &passage, LIMIT, self.now);
        }

        /// The queue of an output has everything up to a position.
        fn take(&self, output: &str, to: u64) {
            let path = self.folder.path().join(output).join(POSITIONS);
            let (mut file, _) = PositionFile::open(&path).unwrap();
            let entry = Entry {
                place: Position::beginning(to, 0).place(),
                position: String::new(),
            };
            file.set(&container(&Self::id()), &entry).unwrap();
        }

        fn update(&mut self) -> Change {
            self.flow.update(&self.queues, self.now)
        }
    }

    #[test]
    fn records_are_on_their_way_until_all_queues_have_them() {
        let mut world = World::new();
        world.append(5);
        for (output, is_full) in [("good", true), ("bad", false)] {
            world.take(output, 5);
            assert_eq!(world.update(), Change::None);
            assert_eq!(world.flow.is_full(), is_full);
        }
        assert!(world.flow.is_empty());
    }

    #[test]
    fn an_output_that_takes_nothing_is_waited_for_once() {
        let mut world = World::new();
        world.append(5);
        world.take("good", 5);
        assert_eq!(world.update(), Change::None);
        world.now += PATIENCE;
        let file = world.folder.path().join("bad").join(POSITIONS);
        assert_eq!(world.update(), Change::Late(file));
        assert_eq!(
            (world.update(), world.flow.is_full()),
            (Change::None, false)
        );
        // No more waiting.
        world.append(9);
        world.take("good", 9);
        assert_eq!(
            (world.update(), world.flow.is_empty()),
            (Change::None, true)
        );

        // It takes others again.
        world.append(12);
        world.take("bad", 12);
        assert_eq!(
            (world.update(), world.flow.is_empty()),
            (Change::None, false)
        );
        world.take("good", 12);
        assert_eq!(
            (world.update(), world.flow.is_empty()),
            (Change::None, true)
        );
    }

    /// A filter has dropped the records: the queue has others.
    #[test]
    fn records_that_are_dropped_hold_nothing_up() {
        let mut world = World::new();
        world.append(5);
        world.now += PATIENCE;
        for output in OUTPUTS {
            world.take(output, 4);
        }
        assert_eq!(
            (world.update(), world.flow.is_empty()),
            (Change::None, true)
        );
    }

    #[test]
    fn an_output_asks_for_records_again() {
        let mut world = World::new();
        world.append(5);
        world.take("good", 5);
        let (mut ledger, _) = Ledger::open(&world.folder.path().join("bad")).unwrap();
        ledger.ask_again().unwrap();
        assert_eq!(world.update(), Change::Asked);
        assert_eq!(world.update(), Change::None);
    }
}
