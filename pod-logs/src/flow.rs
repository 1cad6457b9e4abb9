//! The limit of what is on its way: appended to Fluent Bit, and not in the outputs' queues yet.
//!
//! Fluent Bit keeps it in memory, in a buffer that limits the number of appends but not their
//! size. Without a limit, an input that reads faster than the outputs take would fill the
//! memory.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use positions::{Container, Entries};

use crate::queues::Queues;

/// The maximum number of bytes on their way.
const LIMIT: usize = 8 * 1024 * 1024;
/// The time after which records no longer count: an output that takes nothing must not stop
/// the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The records on their way.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    records: VecDeque<Appended>,
    bytes: usize,
}

#[derive(Debug)]
struct Appended {
    namespace: String,
    container: Container,
    to: u64,
    bytes: usize,
    at: Instant,
}

impl Flow {
    /// Adds records that were appended.
    pub(crate) fn add(
        &mut self,
        (namespace, container): (&str, Container),
        to: u64,
        bytes: usize,
        now: Instant,
    ) {
        self.bytes += bytes;
        self.records.push_back(Appended {
            namespace: namespace.to_owned(),
            container,
            to,
            bytes,
            at: now,
        });
    }

    /// Returns whether no more records should be appended at present.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes >= LIMIT
    }

    /// Removes the records that all queues have. Returns the file of positions of a queue
    /// that has not taken records for a long time, if there is one.
    pub(crate) fn update(&mut self, queues: &Queues, now: Instant) -> Option<PathBuf> {
        let mut files: HashMap<&Path, Entries> = HashMap::new();
        let mut late = None;
        while let Some(first) = self.records.front() {
            let waiting = queues.files(&first.namespace).find(|path| {
                let read = || positions::read(path).ok().flatten().unwrap_or_default();
                let found = files.entry(path).or_insert_with(read);
                let entry = found.entries.get(&first.container);
                // An output removes the entry of a container that is gone.
                entry.is_some_and(|entry| entry.place < first.to)
            });
            if let Some(path) = waiting {
                if now.saturating_duration_since(first.at) < PATIENCE {
                    break;
                }
                late.get_or_insert_with(|| path.to_owned());
            }
            self.bytes -= first.bytes;
            self.records.pop_front();
        }
        late
    }
}
