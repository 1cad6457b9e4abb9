//! All containers of a node, which take turns.
//!
//! ```text
//! discovery ── changed ──> ready: a queue of containers ── turn ──> one buffer of one container
//!                            ^                                        │ there may be more
//!                            └────────────────────────────────────────┘
//! ```
//!
//! A turn is as long as the buffer, whatever a container writes, so a container that floods
//! does not delay the others. A container without changes takes no time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::container::{Container, Item, Position, Turn};
use crate::container_log::{Missing, Start};
use crate::discovery::{Discovery, Namespaces};
use crate::pod_folder::PodFolder;

/// The interval of scans, which find what no watch has noticed.
const SCAN: Duration = Duration::from_secs(10);
/// The wait before a container is tried again whose files could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// Reads the containers of a node.
#[derive(Debug)]
pub struct Reader {
    discovery: Discovery,
    limit: usize,
    containers: HashMap<PathBuf, Tracked>,
    /// The containers that may have something to read, in the order of their turns.
    ready: VecDeque<PathBuf>,
    /// The time of the next scan; none before the first one.
    scan: Option<Instant>,
}

/// A container of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId {
    /// The container's pod.
    pub pod: PodFolder,
    /// The name of the container.
    pub container: String,
}

#[derive(Debug)]
struct Tracked {
    id: ContainerId,
    container: Container,
    is_ready: bool,
    /// The time of the next turn, if it does not depend on changes.
    wake: Option<Instant>,
}

/// An event of a container.
#[derive(Debug)]
pub enum Event<'a> {
    /// An item was read.
    Item(Item<'a>),
    /// Text can no longer be read.
    Missing(Missing),
    /// The files cannot be read at present.
    Failed(io::Error),
    /// The container is gone, and was read entirely.
    Ended,
}

impl Reader {
    /// Creates the reader of the containers below a folder. Texts of more than `limit` bytes
    /// are passed on in pieces.
    ///
    /// # Errors
    ///
    /// Returns an error if the user has no inotify instance left.
    pub fn new(root: PathBuf, namespaces: Namespaces, limit: usize) -> io::Result<Self> {
        Ok(Self {
            discovery: Discovery::new(root, namespaces)?,
            limit,
            containers: HashMap::new(),
            ready: VecDeque::new(),
            scan: None,
        })
    }

    /// Returns the file descriptor that becomes readable when there are changes.
    #[must_use]
    pub const fn descriptor(&self) -> &OwnedFd {
        self.discovery.descriptor()
    }

    /// Notices changes. `start` returns the point from which a container is read that existed
    /// before the first call; others are read from their beginning.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder of all pods cannot be read.
    pub fn update(
        &mut self,
        now: Instant,
        start: impl Fn(&ContainerId) -> Start<Position>,
    ) -> io::Result<()> {
        let is_first = self.scan.is_none();
        let mut changed = Vec::new();
        let has_dropped = self
            .discovery
            .changes(|path| changed.push(path.to_owned()))?;
        if has_dropped || self.scan.is_none_or(|scan| now >= scan) {
            self.discovery.scan(|path| changed.push(path.to_owned()))?;
            self.scan = Some(now + SCAN);
        }
        for path in changed {
            self.add(path, |id| {
                if is_first {
                    start(id)
                } else {
                    Start::Beginning
                }
            });
        }
        let woken = self.containers.iter_mut().filter_map(|(path, tracked)| {
            let is_woken = tracked.wake.take_if(|wake| now >= *wake).is_some();
            is_woken.then(|| (path.clone(), tracked))
        });
        for (path, tracked) in woken {
            if !std::mem::replace(&mut tracked.is_ready, true) {
                self.ready.push_back(path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, start: impl Fn(&ContainerId) -> Start<Position>) {
        if !self.containers.contains_key(&path) {
            let Some(id) = ContainerId::of(&path) else {
                return;
            };
            let container = Container::new(path.clone(), start(&id), self.limit);
            let tracked = Tracked {
                id,
                container,
                is_ready: false,
                wake: None,
            };
            self.containers.insert(path.clone(), tracked);
        }
        if let Some(tracked) = self.containers.get_mut(&path)
            && !std::mem::replace(&mut tracked.is_ready, true)
        {
            self.ready.push_back(path);
        }
    }

    /// Gives the next container its turn. Returns whether there was one.
    pub fn turn(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        mut pass: impl FnMut(&ContainerId, Event<'_>),
    ) -> bool {
        let Some(path) = self.ready.pop_front() else {
            return false;
        };
        let Some(tracked) = self.containers.get_mut(&path) else {
            return true;
        };
        let Tracked {
            id,
            container,
            is_ready,
            wake,
        } = tracked;
        *is_ready = false;
        let turn = container.turn(buffer, now, None, |item| pass(id, Event::Item(item)));
        match turn {
            Ok(Turn::Read(_)) => {
                *is_ready = true;
                self.ready.push_back(path);
            }
            Ok(Turn::Missing(missing)) => {
                pass(id, Event::Missing(missing));
                *is_ready = true;
                self.ready.push_back(path);
            }
            Ok(Turn::Wait { until }) => *wake = until,
            Ok(Turn::Ended) => {
                pass(id, Event::Ended);
                self.containers.remove(&path);
            }
            Err(error) => {
                *wake = Some(now + RETRY);
                pass(id, Event::Failed(error));
            }
        }
        true
    }

    /// Returns the time at which [`Reader::update`] must be called, if there are no changes
    /// before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wakes = self.containers.values().filter_map(|tracked| tracked.wake);
        wakes.chain(self.scan).min()
    }

    /// Returns the position of each container that had a turn.
    pub fn positions(&self) -> impl Iterator<Item = (&ContainerId, Position)> {
        let containers = self.containers.values();
        containers.filter_map(|tracked| Some((&tracked.id, tracked.container.position()?)))
    }
}

impl ContainerId {
    /// Returns the container of a folder.
    fn of(path: &Path) -> Option<Self> {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        Some(Self {
            pod: PodFolder::parse(&name(path.parent()?)?)?,
            container: name(path)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;

    struct World {
        root: TempDir,
        reader: Reader,
        now: Instant,
        received: Vec<(String, String)>,
        ended: usize,
    }

    fn open(root: &Path) -> Reader {
        let namespaces = Namespaces::AllBut(BTreeSet::new());
        Reader::new(root.to_owned(), namespaces, 1000).unwrap()
    }

    impl World {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            Self {
                reader: open(root.path()),
                root,
                now: Instant::now(),
                received: Vec::new(),
                ended: 0,
            }
        }

        fn folder(&self, namespace: &str) -> PathBuf {
            let uid = "2f6b0c9e-0000-4000-8000-000000000001";
            self.root.path().join(format!("{namespace}_web_{uid}"))
        }

        fn write(&self, namespace: &str, text: &str) {
            let folder = self.folder(namespace).join("app");
            fs::create_dir_all(&folder).unwrap();
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).open(folder.join("0.log"));
            writeln!(file.unwrap(), "2026-03-01T12:00:00Z stdout F {text}").unwrap();
        }

        /// Reads with a buffer for two lines until there is nothing more.
        fn read(&mut self, start: &Start<Position>) {
            let mut buffer = [0; 80];
            self.reader.update(self.now, |_| start.clone()).unwrap();
            let (received, ended) = (&mut self.received, &mut self.ended);
            while self
                .reader
                .turn(&mut buffer, self.now, |id, event| match event {
                    Event::Item(Item::Text(text)) => {
                        let text = String::from_utf8(text.text.to_vec()).unwrap();
                        received.push((id.pod.namespace.clone(), text));
                    }
                    Event::Ended => *ended += 1,
                    other => panic!("{other:?}"),
                })
            {}
        }

        fn texts(&mut self) -> BTreeMap<String, Vec<String>> {
            let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (namespace, text) in self.received.drain(..) {
                texts.entry(namespace).or_default().push(text);
            }
            texts
        }
    }

    fn assert_texts(world: &mut World, expected: [(&str, &str); 2]) {
        let texts = world.texts();
        for (namespace, text) in expected {
            assert_eq!(texts[namespace], [text]);
        }
    }

    #[test]
    fn containers_that_exist_have_their_start_and_others_begin_at_the_beginning() {
        let mut world = World::new();
        world.write("shop", "1");
        world.read(&Start::End);
        assert_eq!(world.texts(), BTreeMap::new());
        world.write("shop", "2");
        world.write("bank", "1");
        world.read(&Start::End);
        assert_texts(&mut world, [("shop", "2"), ("bank", "1")]);
    }

    #[test]
    fn a_container_that_floods_does_not_delay_others() {
        let mut world = World::new();
        for line in 0..1000 {
            world.write("flood", &line.to_string());
        }
        world.write("shop", "1");
        world.read(&Start::Beginning);
        let at = world
            .received
            .iter()
            .position(|(namespace, _)| namespace == "shop");
        assert!(at.unwrap() < 10, "{at:?}");
        assert_eq!(world.texts()["flood"].len(), 1000);
    }

    #[test]
    fn the_next_reader_continues_at_the_positions() {
        let mut world = World::new();
        world.write("shop", "1");
        world.read(&Start::Beginning);
        let positions: BTreeMap<ContainerId, Position> = world
            .reader
            .positions()
            .map(|(id, position)| (id.clone(), position))
            .collect();
        world.write("shop", "2");
        world.write("bank", "1");
        world.reader = open(world.root.path());
        world.texts();
        let start = |id: &ContainerId| {
            let position = positions.get(id).cloned();
            position.map_or(Start::Beginning, Start::At)
        };
        world.reader.update(world.now, start).unwrap();
        world.read(&Start::End);
        assert_texts(&mut world, [("shop", "2"), ("bank", "1")]);
    }

    #[test]
    fn a_container_that_is_gone_is_read_to_its_end() {
        let mut world = World::new();
        world.write("shop", "1");
        world.read(&Start::Beginning);
        world.write("shop", "2");
        fs::remove_dir_all(world.folder("shop")).unwrap();
        world.read(&Start::Beginning);
        assert_eq!(world.texts()["shop"], ["1", "2"]);
        assert_eq!((world.ended, world.reader.containers.len()), (1, 0));
        // A pod with the same name has another UID, but the folder may be the same in a test.
        world.write("shop", "3");
        world.read(&Start::End);
        assert_eq!(world.texts()["shop"], ["3"]);
    }

    #[test]
    fn a_scan_finds_changes_that_no_watch_has_noticed() {
        let mut world = World::new();
        world.read(&Start::Beginning);
        world.write("shop", "1");
        // The events are lost.
        let _ = world.reader.discovery.changes(|_| {});
        let deadline = world.reader.deadline().unwrap();
        world.read(&Start::Beginning);
        assert!(world.received.is_empty());
        world.now = deadline;
        world.read(&Start::Beginning);
        assert_eq!(world.texts()["shop"], ["1"]);
    }
}
