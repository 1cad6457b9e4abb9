//! Where an output's batches go: to its receivers at once, or into queues on
//! disk from which they are delivered.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use queue::Writer;
use syslog::{Batch, Framing};
use transport::{Observer, Sender, Sink};

use crate::config::{Config, QueueConfig};

/// See the [module](self). There is one sink, or one for each server among which
/// tags are shared out.
#[derive(Debug)]
pub enum Route {
    /// A batch is delivered before its chunk counts as taken.
    Direct(Vec<Sink>),
    /// A batch is queued, and delivered later.
    Queued(Vec<Queued>),
}

/// A sink and its queue.
#[derive(Debug)]
pub struct Queued {
    /// First, so that it has ended before the queue is closed.
    sink: Sink,
    writer: Writer,
}

impl Route {
    /// Opens the sinks, and their queues if they have any.
    ///
    /// # Errors
    ///
    /// If a queue cannot be opened.
    pub fn open<O: Observer + 'static>(
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
        let mut queued = Vec::new();
        for (number, target) in targets.enumerate() {
            let options = options(queue, config.framing, config.targets.len());
            let (writer, reader) = queue::open(&folder(queue, number), options)?;
            let sink = sender.open_queue(target, Box::new(observer()), reader);
            queued.push(Queued { sink, writer });
        }
        adopt(queue, config.framing, &queued)?;
        Ok(Self::Queued(queued))
    }

    /// The sink for a tag: always the same one, which keeps the order of its
    /// records.
    #[must_use]
    pub fn direct<'s>(sinks: &'s [Sink], tag: &str) -> &'s Sink {
        &sinks[index(sinks.len(), tag)]
    }
}

impl Queued {
    /// Queues a batch for the sink of a tag.
    ///
    /// # Errors
    ///
    /// If the disk is full, for example: nothing of the batch is queued.
    pub fn append(all: &[Self], tag: &str, batch: &Batch) -> Result<(), queue::Error> {
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

fn folder(queue: &QueueConfig, number: usize) -> std::path::PathBuf {
    queue.path.join(&queue.name).join(number.to_string())
}

fn options(queue: &QueueConfig, framing: Framing, count: usize) -> queue::Options {
    queue::Options {
        framing,
        limit: (queue.limit / count) as u64,
        sync: queue.sync,
    }
}

/// Moves what the queues of servers hold that are no longer configured to the
/// others, and removes them.
fn adopt(queue: &QueueConfig, framing: Framing, queued: &[Queued]) -> Result<(), queue::Error> {
    let left = (queued.len()..).map(|number| (number, folder(queue, number)));
    for (number, folder) in left.take_while(|(_, folder)| folder.exists()) {
        let heir = &queued[number % queued.len()];
        move_all(&folder, options(queue, framing, queued.len()), heir)?;
        // One that cannot be removed is empty, and found again at the next start.
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(())
}

fn move_all(folder: &Path, options: queue::Options, heir: &Queued) -> Result<(), queue::Error> {
    let (_writer, mut reader) = queue::open(folder, options)?;
    let delivered = reader.delivered();
    reader.seek(delivered);
    let mut scratch = Vec::new();
    while let Some(chunk) = reader.read(&mut scratch)? {
        heir.writer.append(&chunk.batch, chunk.time)?;
        let end = reader.number();
        reader.advance(end, end)?;
    }
    heir.sink.wake();
    Ok(())
}
