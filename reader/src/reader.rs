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

use crate::begin::{Begin, From, Gone};
use crate::container::{Container, Item, PLACES, Position, Turn};
use crate::container_log::Missing;
use crate::discovery::{Discovery, Scope};
use crate::line::Time;
use crate::log_folder::LogFolder;
use crate::pod_folder::PodFolder;

/// The interval of scans, which find what no watch has noticed.
const SCAN: Duration = Duration::from_secs(10);
/// The wait before a container is tried again whose files could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// The wait before a container is tried again that the receiver holds.
const LATER: Duration = Duration::from_millis(100);

/// The maximum number of bytes of texts that are not complete, of all containers. The limit
/// allows each container two texts, which is too much for a node.
const MEMORY: usize = 16 * 1024 * 1024;

/// Reads the containers of a node.
#[derive(Debug)]
pub struct Reader {
    discovery: Discovery,
    root: LogFolder,
    limit: usize,
    containers: HashMap<PathBuf, Tracked>,
    /// The containers that may have something to read, in the order of their turns.
    ready: VecDeque<PathBuf>,
    /// The time of the next scan; none before the first one.
    scan: Option<Instant>,
    /// The number of bytes of texts that are not complete.
    memory: usize,
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
    /// Whether the container existed before the reader.
    is_old: bool,
    /// The container, once it was begun.
    reading: Option<Reading>,
    is_ready: bool,
    /// The time of the next turn, if it does not depend on changes.
    wake: Option<Instant>,
}

/// A container that is read.
#[derive(Debug)]
struct Reading {
    container: Container,
    /// The place at which reading began.
    begin: u64,
    /// The place of the end of the last passage.
    passed: u64,
    /// The places at which passages end, in ascending order.
    stops: VecDeque<u64>,
    /// The time of the last text.
    last: Option<Time>,
}

/// The part of the logs that is not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The number of bytes, as far as it is known: compressed files count with their size.
    pub bytes: u64,
    /// The time of the last text that was read of the container that is furthest behind.
    pub since: Option<Time>,
}

/// The receiver of what is read.
pub trait Receiver {
    /// Returns the point from which a container is read, when it has its first turn. `is_old`
    /// says whether it existed before the reader.
    ///
    /// # Errors
    ///
    /// Returns an error if the files of the folder cannot be read.
    fn begin(&mut self, id: &ContainerId, folder: &LogFolder, is_old: bool) -> io::Result<Begin>;

    /// Returns whether no more of a container can be received at present. Its file stays open.
    fn holds(&self, _id: &ContainerId) -> bool {
        false
    }

    /// Receives an event of a container.
    fn receive(&mut self, id: &ContainerId, event: Event<'_>);
}

/// An event of a container.
#[derive(Debug)]
pub enum Event<'a> {
    /// Reading begins. Nothing is read of what is gone.
    Begun {
        /// The positions of new outputs.
        new: Vec<(From, Position)>,
        /// The part of the log that is gone.
        gone: Option<Gone>,
    },
    /// An item was read.
    Item(Item<'a>),
    /// The items since the last passage are complete.
    Passage(Passage),
    /// Text can no longer be read.
    Missing(Missing),
    /// The files cannot be read at present.
    Failed(io::Error),
}

/// A part of a container's log that was read. See [`Position::place`] for places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The place at which reading began.
    pub begin: u64,
    /// The place of its first item.
    pub from: u64,
    /// The position after its last item.
    pub to: Position,
    /// Whether the container is gone, and was read entirely.
    pub is_last: bool,
}

impl Reader {
    /// Creates the reader of the containers below a folder. Texts of more than `limit` bytes
    /// are passed on in pieces.
    ///
    /// # Errors
    ///
    /// Returns an error if the user has no inotify instance left.
    pub fn new(root: impl Into<LogFolder>, scope: Scope, limit: usize) -> io::Result<Self> {
        let root = root.into();
        Ok(Self {
            discovery: Discovery::new(&root, scope)?,
            root,
            limit,
            containers: HashMap::new(),
            ready: VecDeque::new(),
            scan: None,
            memory: 0,
        })
    }

    /// Returns the file descriptor that becomes readable when there are changes.
    #[must_use]
    pub const fn descriptor(&self) -> &OwnedFd {
        self.discovery.descriptor()
    }

    /// Notices changes.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder of all pods cannot be read.
    pub fn update(&mut self, now: Instant) -> io::Result<()> {
        let is_first = self.scan.is_none();
        let mut changed = Vec::new();
        let has_dropped = self
            .discovery
            .changes(|path| changed.push(path.to_owned()))?;
        if has_dropped || self.scan.is_none_or(|scan| now >= scan) {
            self.discovery.scan(|path| changed.push(path.to_owned()))?;
            // The folder of a container may be gone without an event.
            changed.extend(self.containers.keys().cloned());
            self.scan = Some(now + SCAN);
        }
        for path in changed {
            self.add(path, is_first);
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

    fn add(&mut self, path: PathBuf, is_old: bool) {
        if !self.containers.contains_key(&path) {
            let Some(id) = ContainerId::of(&path) else {
                return;
            };
            let tracked = Tracked {
                id,
                is_old,
                reading: None,
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
    pub fn turn(&mut self, buffer: &mut [u8], now: Instant, receiver: &mut impl Receiver) -> bool {
        let Some(path) = self.ready.pop_front() else {
            return false;
        };
        let Some(tracked) = self.containers.get_mut(&path) else {
            return true;
        };
        let Tracked {
            id,
            is_old,
            reading,
            is_ready,
            wake,
        } = tracked;
        *is_ready = false;
        if receiver.holds(id) {
            *wake = Some(now + LATER);
            return true;
        }
        let folder = || self.root.below(path.clone());
        let reading = match reading {
            Some(reading) => reading,
            None => match receiver.begin(id, &folder(), *is_old) {
                Ok(Begin {
                    position,
                    stops,
                    anchors,
                    new,
                    gone,
                }) => {
                    receiver.receive(id, Event::Begun { new, gone });
                    let place = position.place();
                    let container = Container::new(folder(), position, self.limit);
                    let container = container.with_anchors(anchors);
                    reading.insert(Reading::new(container, place, stops))
                }
                Err(error) => {
                    *wake = Some(now + RETRY);
                    receiver.receive(id, Event::Failed(error));
                    return true;
                }
            },
        };
        let others = self.memory - reading.container.memory();
        let room = MEMORY.saturating_sub(others);
        let turn = reading.turn(buffer, now, room, |event| receiver.receive(id, event));
        self.memory = others + reading.container.memory();
        match turn {
            Ok(Turn::Read(_) | Turn::Missing(_)) => {
                *is_ready = true;
                self.ready.push_back(path);
            }
            Ok(Turn::Wait { until }) => *wake = until,
            Ok(Turn::Ended) => {
                self.memory = others;
                self.containers.remove(&path);
            }
            Err(error) => {
                *wake = Some(now + RETRY);
                receiver.receive(id, Event::Failed(error));
            }
        }
        true
    }

    /// Returns the part that is not read yet, of the containers that may have something to read.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let ready = self.containers.values().filter(|tracked| tracked.is_ready);
        let mut backlog = Backlog::default();
        for reading in ready.filter_map(|tracked| tracked.reading.as_ref()) {
            let bytes = reading.container.unread();
            if bytes > 0 {
                backlog.bytes += bytes;
                let since = backlog.since.into_iter().chain(reading.last).min();
                backlog.since = since;
            }
        }
        backlog
    }

    /// Begins again with the containers that are behind: `is_behind` gets the ID of each, and
    /// the place up to which it was passed on.
    pub fn rewind(&mut self, mut is_behind: impl FnMut(&ContainerId, u64) -> bool) {
        for (path, tracked) in &mut self.containers {
            let passed = tracked.reading.as_ref().map(|reading| reading.passed);
            if passed.is_some_and(|passed| is_behind(&tracked.id, passed)) {
                let reading = tracked.reading.take();
                self.memory -= reading.map_or(0, |reading| reading.container.memory());
                if !std::mem::replace(&mut tracked.is_ready, true) {
                    self.ready.push_back(path.clone());
                }
            }
        }
    }

    /// Returns whether all containers are begun that existed before the reader.
    #[must_use]
    pub fn has_begun_old(&self) -> bool {
        let mut old = self.containers.values().filter(|tracked| tracked.is_old);
        self.scan.is_some() && old.all(|tracked| tracked.reading.is_some())
    }

    /// Returns the time at which [`Reader::update`] must be called, if there are no changes
    /// before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wakes = self.containers.values().filter_map(|tracked| tracked.wake);
        wakes.chain(self.scan).min()
    }
}

impl Reading {
    fn new(container: Container, begin: u64, stops: Vec<u64>) -> Self {
        Self {
            container,
            begin,
            passed: begin,
            stops: stops.into(),
            last: None,
        }
    }

    fn turn(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        room: usize,
        mut pass: impl FnMut(Event<'_>),
    ) -> io::Result<Turn> {
        let stop = self.stops.front().copied();
        let mut has_items = false;
        let turn = self.container.turn(buffer, now, stop, |item| {
            has_items = true;
            if let Item::Text(text) = &item {
                self.last = Some(text.time);
            }
            pass(Event::Item(item));
        });
        if self.container.memory() > room {
            has_items |= self.container.give_up(|item| pass(Event::Item(item)));
        }
        if let Ok(Turn::Missing(missing)) = &turn {
            pass(Event::Missing(missing.clone()));
        }
        let to = self.container.position();
        let place = to.place();
        let is_last = matches!(turn, Ok(Turn::Ended));
        // Texts that were given up at a stop may be complete now, so its place is not reached.
        let is_reached = |stop: &u64| *stop / PLACES <= to.total();
        let mut is_stop = false;
        while self.stops.pop_front_if(|stop| is_reached(stop)).is_some() {
            is_stop = true;
        }
        if has_items || is_stop || is_last {
            pass(Event::Passage(Passage {
                begin: self.begin,
                from: std::mem::replace(&mut self.passed, place),
                to,
                is_last,
            }));
        }
        turn
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
    use std::collections::BTreeMap;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;
    use crate::begin::{Wants, begin};

    struct World {
        root: TempDir,
        reader: Reader,
        now: Instant,
        recorder: Recorder,
    }

    #[derive(Default)]
    struct Recorder {
        /// Where new outputs begin.
        new: Option<From>,
        received: Vec<(String, String)>,
        positions: BTreeMap<ContainerId, Position>,
        missing: Vec<Missing>,
        ended: usize,
    }

    impl Receiver for Recorder {
        fn begin(
            &mut self,
            id: &ContainerId,
            folder: &LogFolder,
            is_old: bool,
        ) -> io::Result<Begin> {
            let known: Vec<Position> = self.positions.get(id).cloned().into_iter().collect();
            let new = self.new.filter(|_| is_old && known.is_empty());
            let new = new.into_iter().collect();
            let wants = Wants {
                known,
                new,
                ..Wants::default()
            };
            begin(folder, &wants)
        }

        fn receive(&mut self, id: &ContainerId, event: Event<'_>) {
            match event {
                Event::Item(Item::Text(text)) => {
                    let text = String::from_utf8(text.text.to_vec()).unwrap();
                    self.received.push((id.pod.namespace.clone(), text));
                }
                Event::Passage(passage) => {
                    if passage.is_last {
                        self.ended += 1;
                        self.positions.remove(id);
                    } else {
                        self.positions.insert(id.clone(), passage.to);
                    }
                }
                Event::Begun { gone: None, .. } => {}
                Event::Missing(missing) => self.missing.push(missing),
                other => panic!("{other:?}"),
            }
        }
    }

    fn open(root: &Path) -> Reader {
        Reader::new(root.to_owned(), Scope::default(), 1000).unwrap()
    }

    impl World {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            Self {
                reader: open(root.path()),
                root,
                now: Instant::now(),
                recorder: Recorder::default(),
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

        /// Reads with a buffer for two lines until there is nothing more. Containers that
        /// existed before are begun at their positions, or else where a new output begins.
        fn read(&mut self, new: From) {
            let mut buffer = [0; 80];
            self.reader.update(self.now).unwrap();
            self.recorder.new = Some(new);
            while self.reader.turn(&mut buffer, self.now, &mut self.recorder) {}
        }

        fn texts(&mut self) -> BTreeMap<String, Vec<String>> {
            let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (namespace, text) in self.recorder.received.drain(..) {
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
        world.read(From::End);
        assert_eq!(world.texts(), BTreeMap::new());
        world.write("shop", "2");
        world.write("bank", "1");
        world.read(From::End);
        assert_texts(&mut world, [("shop", "2"), ("bank", "1")]);
    }

    #[test]
    fn a_container_that_floods_does_not_delay_others() {
        let mut world = World::new();
        for line in 0..1000 {
            world.write("flood", &line.to_string());
        }
        world.write("shop", "1");
        world.read(From::Beginning);
        let at = world
            .recorder
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
        world.read(From::Beginning);
        world.write("shop", "2");
        world.write("bank", "1");
        world.reader = open(world.root.path());
        world.texts();
        world.read(From::Beginning);
        assert_texts(&mut world, [("shop", "2"), ("bank", "1")]);
    }

    #[test]
    fn a_container_that_is_gone_is_read_to_its_end() {
        let mut world = World::new();
        world.write("shop", "1");
        world.read(From::Beginning);
        world.write("shop", "2");
        fs::remove_dir_all(world.folder("shop")).unwrap();
        world.read(From::Beginning);
        assert_eq!(world.texts()["shop"], ["1", "2"]);
        assert_eq!(
            (world.recorder.ended, world.reader.containers.len()),
            (1, 0)
        );
        // A pod with the same name has another UID, but the folder may be the same in a test.
        world.write("shop", "3");
        world.read(From::End);
        assert_eq!(world.texts()["shop"], ["3"]);
    }

    #[test]
    fn the_backlog_is_known() {
        let mut world = World::new();
        world.write("shop", "1");
        world.read(From::Beginning);
        assert_eq!(world.reader.backlog(), Backlog::default());
        for line in 0..9 {
            world.write("shop", &line.to_string());
        }
        world.reader.update(world.now).unwrap();
        let mut buffer = [0; 80];
        assert!(
            world
                .reader
                .turn(&mut buffer, world.now, &mut world.recorder)
        );
        // Two of nine lines of 32 bytes are read.
        let backlog = world.reader.backlog();
        assert_eq!(backlog.bytes, 7 * 32);
        assert_eq!(backlog.since.map(|time| time.seconds), Some(1_772_366_400));
        world.read(From::Beginning);
        assert_eq!(world.reader.backlog(), Backlog::default());
    }

    /// All containers write lines without an end.
    #[test]
    fn texts_without_an_end_have_a_total_limit() {
        const LIMIT: usize = 1024 * 1024;
        let root = TempDir::new().unwrap();
        let part = format!("2026-03-01T12:00:00Z stdout P {}\n", "x".repeat(100_000));
        for number in 0..40 {
            let pod = format!("shop_web{number}_2f6b0c9e-0000-4000-8000-000000000001");
            let folder = root.path().join(pod).join("app");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("0.log"), part.repeat(8)).unwrap();
        }
        let mut reader = Reader::new(root.path().to_owned(), Scope::default(), LIMIT).unwrap();
        let (mut buffer, now) = (vec![0; 128 * 1024], Instant::now());
        let mut recorder = Recorder::default();
        reader.update(now).unwrap();
        let mut highest = 0;
        while reader.turn(&mut buffer, now, &mut recorder) {
            highest = highest.max(reader.memory);
            let containers = reader.containers.values();
            let reading = containers.filter_map(|tracked| tracked.reading.as_ref());
            let memory: usize = reading.map(|reading| reading.container.memory()).sum();
            assert_eq!(reader.memory, memory);
        }
        assert!(highest <= MEMORY && highest > MEMORY / 2, "{highest}");
        let passed: usize = recorder.received.iter().map(|(_, text)| text.len()).sum();
        assert!(passed + reader.memory >= 40 * 800_000, "{passed}");
    }

    #[test]
    fn a_link_that_is_not_followed_is_reported_once() {
        for new in [From::End, From::Beginning] {
            let mut world = World::new();
            let folder = world.folder("shop").join("app");
            fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", folder.join("0.log")).unwrap();
            for _ in 0..3 {
                world.read(new);
                // Nothing is tried again before the next scan.
                let deadline = world.reader.deadline().unwrap();
                assert_eq!(deadline, world.now + SCAN);
                world.now = deadline;
            }
            let missing = &world.recorder.missing;
            assert!(
                matches!(missing[..], [Missing::Unreadable(_)]),
                "{missing:?}"
            );
            assert!(world.texts().is_empty());
        }
    }

    #[test]
    fn a_scan_finds_changes_that_no_watch_has_noticed() {
        let mut world = World::new();
        world.read(From::Beginning);
        world.write("shop", "1");
        // The events are lost.
        let _ = world.reader.discovery.changes(|_| {});
        let deadline = world.reader.deadline().unwrap();
        world.read(From::Beginning);
        assert!(world.recorder.received.is_empty());
        world.now = deadline;
        world.read(From::Beginning);
        assert_eq!(world.texts()["shop"], ["1"]);
    }
}
