//! The limit of what is on its way: appended to Fluent Bit, and not in the outputs' queues yet.
//!
//! Fluent Bit keeps it in memory, in a buffer that limits the number of appends but not their
//! size. Without a limit, an input that reads faster than the outputs take would fill the
//! memory.

use std::collections::{HashMap, VecDeque};
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
    records: VecDeque<Appended>,
    bytes: usize,
    /// The files of positions of late outputs, with the times at which they changed last.
    late: HashMap<PathBuf, Option<SystemTime>>,
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

/// A change of the outputs that are late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// No change.
    None,
    /// The output with this file of positions is late from now on.
    Late(PathBuf),
    /// An output that was late takes records again. It may lack some.
    Recovered,
}

impl Flow {
    /// Adds records that were appended.
    pub(crate) fn add(&mut self, id: &ContainerId, passage: &Passage, bytes: usize, now: Instant) {
        self.bytes += bytes;
        self.records.push_back(Appended {
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
        let count = self.late.len();
        self.late
            .retain(|path, changed| *changed == change_of(path));
        if self.late.len() < count {
            return Change::Recovered;
        }
        let mut files: HashMap<&Path, Entries> = HashMap::new();
        while let Some(first) = self.records.front() {
            let waiting = queues.files(&first.namespace).find(|path| {
                let read = || positions::read(path).ok().flatten().unwrap_or_default();
                !self.late.contains_key(*path)
                    && first.is_missing_in(files.entry(path).or_insert_with(read))
            });
            if let Some(path) = waiting {
                let is_late = now.saturating_duration_since(first.at) >= PATIENCE;
                if !is_late {
                    return Change::None;
                }
                let path = path.to_owned();
                self.late.insert(path.clone(), change_of(&path));
                return Change::Late(path);
            }
            self.bytes -= first.bytes;
            self.records.pop_front();
        }
        Change::None
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

/// Returns the time at which a file changed last, if it exists.
fn change_of(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use positions::outputs::{self, Output};
    use positions::{Entry, POSITIONS, PositionFile};
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
            Self {
                queues: Queues::load(folder.path(), None).unwrap().unwrap(),
                folder,
                flow: Flow::default(),
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

        world.append(12);
        world.take("bad", 12);
        assert_eq!(world.update(), Change::Recovered);
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
}
