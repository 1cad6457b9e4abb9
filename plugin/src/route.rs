//! Where an output's batches go: to its receivers at once, or into queues on
//! disk from which they are delivered.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mapper::config::{Config, QueueConfig};
use queue::{Budget, Status, Writer};
use syslog::{Batch, Framing};
use transport::{DeliveryEvent, Destination, Observer, QueueState, Sender};

use crate::by_folder::ByFolder;

/// The first output that has the folder says how much its queues may hold.
static BUDGETS: ByFolder<Budget> = ByFolder::new();

/// See the [module](self). There is one sink, or one for each server among which
/// tags are shared out.
#[derive(Debug)]
pub(crate) enum Route {
    /// A batch is delivered before its chunk counts as taken.
    Direct(Vec<Destination>),
    /// A batch is queued, and delivered later.
    Queued(Vec<Queued>),
}

/// A sink and its queue.
#[derive(Debug)]
pub(crate) struct Queued {
    /// First, so that it has ended before the queue is closed.
    sink: Destination,
    writer: Writer,
}

impl Route {
    /// Opens the sinks, and their queues if they have any.
    ///
    /// # Errors
    ///
    /// If a queue cannot be opened.
    pub(crate) fn open<O: Observer + 'static>(
        config: &Config,
        sender: &Arc<Sender>,
        observer: impl Fn() -> O,
    ) -> Result<Self, queue::Error> {
        let targets = config.targets.iter().cloned();
        let Some(queue) = &config.queue else {
            let sinks = targets
                .map(|target| sender.open(target, Box::new(observer()), config.exit_timeout))
                .collect();
            return Ok(Self::Direct(sinks));
        };
        let budget = queue.total_limit.map(|limit| {
            let make = || Arc::new(Budget::new(limit as u64));
            BUDGETS.get_or(&queue.path, make)
        });
        let mut queued = Vec::new();
        for (number, target) in targets.enumerate() {
            let options = options(queue, config.framing, config.targets.len());
            let (writer, reader) = queue::open(&folder(queue, number), options)?;
            let writer = match &budget {
                Some(budget) => writer.within(budget),
                None => writer,
            };
            let sink = sender.open_queue(target, Box::new(observer()), reader);
            queued.push(Queued { sink, writer });
        }
        let mut lost = Status::default();
        for (number, folder) in left_over(queue, queued.len()) {
            let options = options(queue, config.framing, queued.len());
            let of_folder = adopt(&folder, options, &queued[number % queued.len()])?;
            lost.evicted += of_folder.evicted;
            lost.damaged += of_folder.damaged;
        }
        if lost != Status::default() {
            // An observer is told of one queue, whose losses only grow.
            observer().on_event(&DeliveryEvent::Queue(QueueState {
                status: lost,
                oldest: None,
            }));
        }
        Ok(Self::Queued(queued))
    }

    /// The sink for a tag: always the same one, which keeps the order of its
    /// records.
    #[must_use]
    pub(crate) fn direct<'s>(sinks: &'s [Destination], tag: &str) -> &'s Destination {
        &sinks[index(sinks.len(), tag)]
    }
}

impl Queued {
    /// Queues a batch for the sink of a tag. The batch is to be cleared afterwards.
    ///
    /// # Errors
    ///
    /// If the disk is full, for example: nothing of the batch is queued.
    pub(crate) fn append(all: &[Self], tag: &str, batch: &mut Batch) -> Result<(), queue::Error> {
        let Self { sink, writer } = &all[index(all.len(), tag)];
        writer.append(batch, SystemTime::now())?;
        sink.wake();
        Ok(())
    }
}

fn index(count: usize, tag: &str) -> usize {
    if count == 1 {
        return 0;
    }
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tag);
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

/// The queues of servers that are no longer configured, by their numbers.
fn left_over(queue: &QueueConfig, count: usize) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(queue.path.join(&queue.name));
    let entries = entries.into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.filter(|(number, _)| *number >= count).collect()
}

/// Moves what a queue holds to another one, and removes it. Returns what could not
/// be read of it.
fn adopt(folder: &Path, options: queue::Options, heir: &Queued) -> Result<Status, queue::Error> {
    let (writer, mut reader) = queue::open(folder, options)?;
    let delivered = reader.delivered();
    reader.seek(delivered);
    let mut scratch = Vec::new();
    while let Some(mut chunk) = reader.read(&mut scratch)? {
        heir.writer.append(&mut chunk.batch, chunk.time)?;
        let end = reader.number();
        reader.advance(end, end)?;
    }
    heir.sink.wake();
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

    /// Hears what the queues of servers that are gone lost.
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
    fn what_waited_for_servers_that_are_gone_is_delivered_to_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let keys = [
            ("cluster", "on"),
            ("addr", "127.0.0.1:1,127.0.0.1:2"),
            ("servers", "balance"),
            ("transport", "tcp"),
            ("queue_path", dir.path().to_str().unwrap()),
            ("queue_name", "shop"),
        ];
        let keys = keys.map(|(key, value)| (key, value.to_owned()));
        let config = Config::parse(&Keys(keys.into())).unwrap();
        let queue = config.queue.clone().unwrap();
        // There was a third, which is gone already.
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
        let Route::Queued(queued) = Route::open(&config, &sender, || losses.clone()).unwrap()
        else {
            panic!("it has queues");
        };
        let waiting = queued.iter().map(|queued| queued.writer.status().waiting);
        assert_eq!(waiting.collect::<Vec<_>>(), [0, 1]);
        let told = losses.0.lock().iter().map(|(_, damaged)| *damaged).max();
        assert_eq!(told, Some(2));
        assert!(!folder(&queue, 3).exists() && !folder(&queue, 5).exists());
    }
}
