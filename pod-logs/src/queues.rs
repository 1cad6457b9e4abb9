//! The outputs' queues: the parts of each container's log that they have, and that they want.
//!
//! An output is new until the positions of all containers that existed at the start are in
//! its file `start`. The last entry of the file marks it as complete. Later containers are
//! wanted from their beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use positions::outputs::{self, ListId, Output};
use positions::{Container, Entry, POSITIONS, PositionFile, START};
use reader::begin::{From, Wants};
use reader::line::Time;
use reader::pod_folder::PodFolder;
use reader::{ContainerId, Passage, Position};

use crate::position;

/// The outputs that take the records of the input.
#[derive(Debug)]
pub(crate) struct Queues {
    outputs: Vec<Queue>,
    /// The outputs whose files cannot be read at present. They get their records later.
    unreadable: Vec<Unreadable>,
    /// Whether some of these were opened since the last look.
    has_opened: bool,
}

/// An output whose files cannot be read.
#[derive(Debug)]
struct Unreadable {
    output: Output,
    folder: PathBuf,
}

/// The queue of an output, or the input's own positions.
#[derive(Debug)]
struct Queue {
    output: Output,
    /// The file with what the queue has, which the output writes.
    positions: PathBuf,
    /// The positions of the queue at the start.
    taken: BTreeMap<Container, Entry>,
    /// The positions at which the input began for this output, and their file.
    start: BTreeMap<Container, Entry>,
    start_file: PositionFile,
    is_new: bool,
}

/// A container that is no longer on the node.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    /// The output whose queue has a position of it.
    pub(crate) output: Output,
    pub(crate) id: ContainerId,
    /// The position, as the container's last passage.
    pub(crate) passage: Passage,
}

/// The container of the entry that marks a file of starts as complete.
fn mark() -> Container {
    Container {
        uid: String::new(),
        name: String::new(),
    }
}

impl Queues {
    /// Adds the input's own positions, as those of an output that wants all containers.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub(crate) fn with_own(mut self, positions: &Path) -> io::Result<Self> {
        let own = Output {
            queue: String::new(),
            namespaces: None,
            since: None,
        };
        let mut start = positions.as_os_str().to_owned();
        start.push(".start");
        let queue = Queue::open(own, positions, Path::new(&start))?;
        self.outputs.push(queue);
        Ok(self)
    }

    /// Returns the queues of no output.
    pub(crate) const fn none() -> Self {
        Self {
            outputs: Vec::new(),
            unreadable: Vec::new(),
            has_opened: false,
        }
    }

    /// Reads the positions of all outputs. Returns `None` as long as the outputs are unknown.
    ///
    /// # Errors
    ///
    /// Returns an error if the list of outputs cannot be read.
    pub(crate) fn load(folder: &Path, earlier: Option<ListId>) -> io::Result<Option<Self>> {
        let Some(outputs) = outputs::announced(folder, earlier)? else {
            return Ok(None);
        };
        let unreadable = outputs.into_iter().map(|output| Unreadable {
            folder: folder.join(&output.queue),
            output,
        });
        let mut this = Self {
            unreadable: unreadable.collect(),
            ..Self::none()
        };
        // A file of one output must not stop the others.
        let _ = this.open_unreadable();
        this.has_opened = false;
        Ok(Some(this))
    }

    /// Tries again to read the files of outputs that could not be read. Returns a problem of
    /// one of them.
    pub(crate) fn open_unreadable(&mut self) -> Option<String> {
        let mut problem = None;
        for Unreadable { output, folder } in std::mem::take(&mut self.unreadable) {
            let opened = std::fs::create_dir_all(&folder).and_then(|()| {
                let (positions, start) = (folder.join(POSITIONS), folder.join(START));
                Queue::open(output.clone(), &positions, &start)
            });
            match opened {
                Ok(queue) => {
                    self.outputs.push(queue);
                    self.has_opened = true;
                }
                Err(error) => {
                    problem = Some(format!(
                        "cannot read the positions in {}: {error}; its output gets no pod logs \
                         until then",
                        folder.display()
                    ));
                    self.unreadable.push(Unreadable { output, folder });
                }
            }
        }
        problem
    }

    /// Returns whether outputs were opened since the last call.
    pub(crate) const fn take_opened(&mut self) -> bool {
        std::mem::replace(&mut self.has_opened, false)
    }

    /// Reads again what the queues have.
    pub(crate) fn refresh(&mut self) {
        for queue in &mut self.outputs {
            if let Ok(Some(found)) = positions::read(&queue.positions) {
                queue.taken = found.entries;
            }
        }
    }

    /// Returns whether a queue lacks something of a container before a place.
    pub(crate) fn lack(&self, id: &ContainerId, place: u64) -> bool {
        let container = container(id);
        let mut queues = self.of(&id.pod.namespace);
        queues.any(|queue| {
            let entry = queue.entry(&container);
            entry.is_none_or(|entry| entry.place < place)
        })
    }

    /// Returns the namespaces whose containers an output wants; none if all are wanted.
    pub(crate) fn namespaces(&self) -> Option<BTreeSet<String>> {
        let opened = self.outputs.iter().map(|queue| &queue.output);
        let unreadable = self.unreadable.iter().map(|unreadable| &unreadable.output);
        let mut all = BTreeSet::new();
        let mut has_outputs = false;
        for output in opened.chain(unreadable) {
            has_outputs = true;
            all.extend(output.namespaces.clone()?);
        }
        has_outputs.then_some(all)
    }

    /// Returns what the outputs want of a container.
    pub(crate) fn wants(&self, id: &ContainerId, is_old: bool, new: From) -> Wants {
        let container = container(id);
        let mut wants = Wants {
            // Without positions, each start is the first one.
            new: (self.outputs.is_empty() && is_old)
                .then_some(new)
                .into_iter()
                .collect(),
            ..Wants::default()
        };
        for queue in self.of(&id.pod.namespace) {
            let entry = queue.entry(&container);
            match entry.and_then(|entry| position::decode(&entry.position)) {
                Some(position) => wants.known.push(position),
                None if queue.is_new && is_old => wants.new.push(queue.from(new)),
                None => wants.everything = true,
            }
        }
        wants
    }

    /// Records the positions at which a container is begun for new outputs.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub(crate) fn begin(
        &mut self,
        id: &ContainerId,
        begun: &[(From, Position)],
        new: From,
    ) -> io::Result<()> {
        let container = container(id);
        let namespace = &id.pod.namespace;
        let outputs = self.outputs.iter_mut().filter(|queue| queue.is_new);
        for queue in outputs.filter(|queue| queue.output.wants(namespace)) {
            let from = queue.from(new);
            if let Some((_, position)) = begun.iter().find(|(of, _)| *of == from)
                && queue.entry(&container).is_none()
            {
                let entry = position::entry(position);
                queue.start_file.set(&container, &entry)?;
                queue.start.insert(container.clone(), entry);
            }
        }
        Ok(())
    }

    /// Removes the containers that are no longer on the node from the files of starts. Returns
    /// the positions of those that queues have, each as the last passage of its container.
    pub(crate) fn remove_gone(&mut self, is_there: impl Fn(&Container) -> bool) -> Vec<Gone> {
        let mut gone = Vec::new();
        for queue in &mut self.outputs {
            let started: Vec<Container> = queue.start.keys().cloned().collect();
            for container in started.iter().filter(|container| !is_there(container)) {
                if *container != mark() && queue.start_file.remove(container).is_ok() {
                    queue.start.remove(container);
                }
            }
            let taken = queue.taken.iter();
            for (container, entry) in taken.filter(|(container, _)| !is_there(container)) {
                let Some(to) = position::decode(&entry.position) else {
                    continue;
                };
                // Only the UID is known.
                let pod = PodFolder {
                    namespace: String::new(),
                    pod: String::new(),
                    uid: container.uid.clone(),
                };
                let id = ContainerId {
                    pod,
                    container: container.name.clone(),
                };
                let passage = Passage {
                    begin: to.place(),
                    from: to.place(),
                    to,
                    is_last: true,
                };
                gone.push(Gone {
                    output: queue.output.clone(),
                    id,
                    passage,
                });
            }
        }
        gone
    }

    /// Returns whether an output is new.
    pub(crate) fn has_new(&self) -> bool {
        self.outputs.iter().any(|queue| queue.is_new)
    }

    /// Ends the time of new outputs: all containers that existed at the start are begun.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub(crate) fn complete(&mut self) -> io::Result<()> {
        for queue in self.outputs.iter_mut().filter(|queue| queue.is_new) {
            let entry = Entry {
                place: 0,
                position: String::new(),
            };
            queue.start_file.set(&mark(), &entry)?;
            queue.is_new = false;
        }
        Ok(())
    }

    /// Returns how often each output had asked for records again, by its file of positions.
    pub(crate) fn asked(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let outputs = self.outputs.iter();
        outputs.map(|queue| (queue.positions.clone(), positions::asked(&queue.taken)))
    }

    /// Returns the files of positions of the queues that want the containers of a namespace.
    pub(crate) fn files(&self, namespace: &str) -> impl Iterator<Item = &Path> {
        let queues = self
            .of(namespace)
            .filter(|queue| !queue.output.queue.is_empty());
        queues.map(|queue| &*queue.positions)
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Queue> {
        self.outputs
            .iter()
            .filter(|queue| queue.output.wants(namespace))
    }
}

impl Queue {
    /// Returns the position up to which the queue has a container's log, or where that began.
    fn entry(&self, container: &Container) -> Option<&Entry> {
        self.taken
            .get(container)
            .or_else(|| self.start.get(container))
    }

    /// Returns the point from which the output wants what was there before it, if it does not
    /// leave that to the input.
    fn from(&self, input: From) -> From {
        let since = self.output.since.map(|seconds| Time {
            seconds: seconds as i64,
            nanos: 0,
        });
        since.map_or(input, From::Since)
    }

    fn open(output: Output, positions: &Path, start: &Path) -> io::Result<Self> {
        let found = positions::read(positions)?.unwrap_or_default();
        let (start_file, start) = PositionFile::open(start)?;
        Ok(Self {
            output,
            positions: positions.to_owned(),
            taken: found.entries,
            is_new: !start.entries.contains_key(&mark()),
            start: start.entries,
            start_file,
        })
    }
}

/// Returns the name of a container in files of positions.
pub(crate) fn container(id: &ContainerId) -> Container {
    Container {
        uid: id.pod.uid.clone(),
        name: id.container.clone(),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn output(queue: &str, since: Option<u64>) -> Output {
        Output {
            queue: queue.to_owned(),
            namespaces: None,
            since,
        }
    }

    fn load(folder: &TempDir, outputs: &[Output]) -> Queues {
        outputs::announce(folder.path(), outputs).unwrap();
        Queues::load(folder.path(), None).unwrap().unwrap()
    }

    fn id(uid: &str) -> ContainerId {
        ContainerId {
            pod: PodFolder::parse(&format!("shop_web_{uid}")).unwrap(),
            container: "app".to_owned(),
        }
    }

    /// The files of an output are damaged, and repaired later.
    #[test]
    fn an_output_whose_files_cannot_be_read_does_not_stop_the_others() {
        let folder = TempDir::new().unwrap();
        let start = folder.path().join("bad").join(START);
        std::fs::create_dir_all(&start).unwrap();
        let mut queues = load(&folder, &[output("bad", None), output("good", None)]);
        assert_eq!((queues.outputs.len(), queues.namespaces()), (1, None));
        let problem = queues.open_unreadable().unwrap();
        assert!(problem.contains("/bad: Is a directory"), "{problem}");
        assert!(!queues.take_opened());

        std::fs::remove_dir(&start).unwrap();
        assert_eq!(queues.open_unreadable(), None);
        assert!(queues.take_opened() && !queues.take_opened());
        assert_eq!(queues.outputs.len(), 2);
    }

    #[test]
    fn a_new_output_begins_once() {
        let folder = TempDir::new().unwrap();
        let outputs = [output("first", None), output("second", Some(7))];
        let seconds = |seconds| Time { seconds, nanos: 0 };
        let mut queues = load(&folder, &outputs);
        let wants = queues.wants(&id("01d"), true, From::End);
        assert_eq!(wants.new, [From::End, From::Since(seconds(7))]);
        // Containers that are not old are wanted from their beginning.
        let wants = queues.wants(&id("03"), false, From::End);
        assert!(wants.everything && wants.new.is_empty());

        let begun = [
            (From::End, Position::beginning(9, 0)),
            (From::Since(seconds(7)), Position::beginning(8, 0)),
        ];
        queues.begin(&id("01d"), &begun, From::End).unwrap();
        // The input is killed: the other containers that existed are still old.
        let mut queues = load(&folder, &outputs);
        assert!(queues.has_new());
        let wants = queues.wants(&id("01d"), true, From::End);
        let known = begun.clone().map(|(_, position)| position);
        assert_eq!((wants.known.as_slice(), wants.new.len()), (&known[..], 0));
        assert_eq!(queues.wants(&id("02"), true, From::End).new.len(), 2);

        queues.complete().unwrap();
        let queues = load(&folder, &outputs);
        assert!(!queues.has_new());
        assert!(queues.wants(&id("02"), true, From::End).everything);
    }

    /// Pods were deleted while Fluent Bit did not run.
    #[test]
    fn containers_that_are_gone_are_removed() {
        let folder = TempDir::new().unwrap();
        let outputs = [Output {
            namespaces: Some(BTreeSet::from(["shop".to_owned()])),
            ..output("siem", None)
        }];
        let mut queues = load(&folder, &outputs);
        let begun = [(From::End, Position::beginning(9, 0))];
        for uid in ["01", "02"] {
            queues.begin(&id(uid), &begun, From::End).unwrap();
        }
        queues.complete().unwrap();
        let path = folder.path().join("siem").join(POSITIONS);
        let (mut file, _) = PositionFile::open(&path).unwrap();
        for uid in ["01", "02", "03"] {
            let entry = position::entry(&Position::beginning(11, 0));
            file.set(&container(&id(uid)), &entry).unwrap();
        }
        let mut queues = load(&folder, &outputs);
        let gone = queues.remove_gone(|container| container.uid == "01");
        let gone: Vec<_> = gone
            .iter()
            .map(|gone| {
                let ContainerId { pod, container } = &gone.id;
                let is_last = gone.passage.is_last;
                (&*gone.output.queue, &*pod.uid, &**container, is_last)
            })
            .collect();
        assert_eq!(
            gone,
            [("siem", "02", "app", true), ("siem", "03", "app", true)]
        );
        let queues = load(&folder, &outputs);
        assert_eq!(
            (queues.outputs[0].start.len(), queues.has_new()),
            (2, false)
        );
    }
}
