//! The route of an output's batches: directly to the receivers, or into queues on disk,
//! from which they are delivered.
//!
//! `sharing balance` has a queue for each server. The queues of removed servers are
//! moved to the others.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mapper::config::{Config, QueueConfig};
use positions::Group;
use queue::{Budget, Status, Writer};
use syslog::{Batch, Framing};
use transport::{DeliveryEvent, Destination, Observer, QueueState, Sender};

use crate::shared::SharedByFolder;

/// The total size limit of the queues in each folder. The first output that uses a folder
/// sets the limit.
static BUDGETS: SharedByFolder<Budget> = SharedByFolder::new();

/// The route of an output's batches. There is one destination, or with `sharing balance`
/// one per server, among which tags are distributed.
#[derive(Debug)]
pub(crate) enum Route {
    /// A chunk is acknowledged to Fluent Bit once its batch is delivered.
    Direct(Vec<Destination>),
    /// A chunk is acknowledged to Fluent Bit once its batch is queued.
    Queued(Vec<Queued>),
}

/// A destination and its queue.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The destination. Fields are dropped in order, so it ends before the queue is
    /// closed.
    destination: Destination,
    writer: Writer,
}

impl Route {
    /// Opens the destinations, and their queues if configured.
    ///
    /// # Errors
    ///
    /// Returns an error if a queue cannot be opened.
    pub(crate) fn open<O: Observer + 'static>(
        config: &Config,
        sender: &Arc<Sender>,
        observer: impl Fn() -> O,
    ) -> Result<Self, queue::Error> {
        let targets = config.targets.iter().cloned();
        let Some(queue) = &config.queue else {
            let destinations = targets
                .map(|target| sender.open(target, Box::new(observer()), config.exit_timeout))
                .collect();
            return Ok(Self::Direct(destinations));
        };
        let budget = queue.total_limit.map(|limit| {
            let create = || Arc::new(Budget::new(limit as u64));
            BUDGETS.get_or_create(&queue.path, create)
        });
        let mut queues = Vec::new();
        for (number, target) in targets.enumerate() {
            let options = options(queue, config.framing, config.targets.len());
            let (writer, reader) = queue::open(&folder(queue, number), options)?;
            let writer = match &budget {
                Some(budget) => writer.with_budget(budget),
                None => writer,
            };
            let destination = sender.open_queue(target, Box::new(observer()), reader);
            queues.push(Queued {
                destination,
                writer,
            });
        }
        let mut lost = Status::default();
        for (number, folder) in surplus_queues(queue, queues.len()) {
            let options = options(queue, config.framing, queues.len());
            let moved = move_queue(&folder, options, &queues[number % queues.len()])?;
            lost.evicted += moved.evicted;
            lost.damaged += moved.damaged;
        }
        if lost != Status::default() {
            // A separate observer reports these losses, because each observer expects the
            // increasing totals of a single queue.
            observer().on_event(&DeliveryEvent::Queue(QueueState {
                status: lost,
                oldest: None,
            }));
        }
        Ok(Self::Queued(queues))
    }

    /// Returns the destination of a tag. It is always the same, which keeps the records
    /// of a tag in order.
    #[must_use]
    pub(crate) fn destination<'d>(destinations: &'d [Destination], tag: &str) -> &'d Destination {
        &destinations[index(destinations.len(), tag)]
    }
}

impl Queued {
    /// Returns the queue of a tag's destination.
    #[must_use]
    pub(crate) fn of_tag<'q>(queues: &'q [Self], tag: &str) -> &'q Self {
        &queues[index(queues.len(), tag)]
    }

    /// Returns the index of the queue for a group's container, among `count` queues.
    #[must_use]
    pub(crate) fn index_of(group: &Group<'_>, count: usize) -> usize {
        index(count, (group.uid, group.container))
    }

    /// Appends a batch. The caller must clear the batch afterwards.
    ///
    /// # Errors
    ///
    /// Returns an error if the batch cannot be written, because the disk is full for
    /// example. Then no part of the batch is queued.
    pub(crate) fn append(&self, batch: &mut Batch) -> Result<(), queue::Error> {
        self.writer.append(batch, SystemTime::now())?;
        self.destination.wake();
        Ok(())
    }
}

/// Distributes tags or containers among `count` destinations.
fn index(count: usize, key: impl Hash) -> usize {
    if count == 1 {
        return 0;
    }
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    hash as usize % count
}

fn folder(queue: &QueueConfig, number: usize) -> PathBuf {
    queue.path.join(&queue.name).join(number.to_string())
}

fn options(queue: &QueueConfig, framing: Framing, count: usize) -> queue::Options {
    queue::Options {
        framing,
        limit: (queue.limit / count) as u64,
        sync: queue.sync,
    }
}

/// Returns the queues of servers that are no longer configured, with their numbers.
fn surplus_queues(queue: &QueueConfig, count: usize) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(queue.path.join(&queue.name));
    let entries = entries.into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.filter(|(number, _)| *number >= count).collect()
}

/// Moves the undelivered messages of a queue to another queue, and deletes the first.
/// Returns the final status of the deleted queue, with its losses.
fn move_queue(
    folder: &Path,
    options: queue::Options,
    target: &Queued,
) -> Result<Status, queue::Error> {
    let (writer, mut reader) = queue::open(folder, options)?;
    let delivered = reader.delivered();
    reader.seek(delivered);
    let mut scratch = Vec::new();
    while let Some(mut chunk) = reader.read(&mut scratch)? {
        target.writer.append(&mut chunk.batch, chunk.time)?;
        let end = reader.number();
        reader.advance(end, end)?;
    }
    target.destination.wake();
    let status = reader.status();
    drop((writer, reader));
    queue::delete(folder)?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use parking_lot::Mutex;
    use syslog::Framing;

    use super::*;

    struct Keys(HashMap<&'static str, String>);

    impl mapper::config::Properties for Keys {
        fn get(&self, key: &str) -> Option<String> {
            self.0.get(key).cloned()
        }
    }

    /// An observer that records losses of queues: evicted and damaged messages.
    #[derive(Clone, Default)]
    struct Losses(Arc<Mutex<Vec<(u64, u64)>>>);

    impl Observer for Losses {
        fn on_event(&mut self, event: &DeliveryEvent<'_>) {
            if let DeliveryEvent::Queue(QueueState { status, .. }) = event {
                self.0.lock().push((status.evicted, status.damaged));
            }
        }
    }

    #[test]
    fn queues_of_removed_servers_are_moved_to_the_remaining_ones() {
        let dir = tempfile::tempdir().unwrap();
        let keys = [
            ("cluster", "on"),
            ("servers", "127.0.0.1:1,127.0.0.1:2"),
            ("sharing", "balance"),
            ("transport", "tcp"),
            ("queue_path", dir.path().to_str().unwrap()),
            ("queue_name", "shop"),
        ];
        let keys = keys.map(|(key, value)| (key, value.to_owned()));
        let config = Config::parse(&Keys(keys.into())).unwrap();
        let queue = config.queue.clone().unwrap();
        // Queues of servers that are no longer configured.
        for number in [3, 5, 7] {
            let options = options(&queue, Framing::Newline, 6);
            let (writer, _reader) = queue::open(&folder(&queue, number), options).unwrap();
            let mut batch = Batch::new(Framing::Newline);
            let mut frame = batch.frame();
            frame.bytes().extend_from_slice(b"<14>1 - - - - - - waits");
            frame.finish();
            writer.append(&mut batch, SystemTime::now()).unwrap();
        }
        for number in [3, 7] {
            let path = folder(&queue, number).join("00000000000000000000.frames");
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        let sender = Sender::start().unwrap();
        let losses = Losses::default();
        let Route::Queued(queues) = Route::open(&config, &sender, || losses.clone()).unwrap()
        else {
            panic!("the route has no queues");
        };
        let waiting = queues.iter().map(|queue| queue.writer.status().waiting);
        assert_eq!(waiting.collect::<Vec<_>>(), [0, 1]);
        let damaged = losses.0.lock().iter().map(|(_, damaged)| *damaged).max();
        assert_eq!(damaged, Some(2));
        assert!(!folder(&queue, 3).exists() && !folder(&queue, 5).exists());
    }
}
