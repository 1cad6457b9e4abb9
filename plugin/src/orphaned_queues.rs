//! The deletion of orphaned queues, whose outputs were removed while Fluent Bit did not
//! run or by a new configuration.
//!
//! A queue is in use if any process holds its lock, or if an output of this process has
//! opened it, until all outputs have ended. Some time after the start, all other queues
//! are deleted. A deleted sink therefore leaves nothing on the node, but a sink that is
//! restored soon finds its backlog.
//!
//! The sender's event loop starts the deletion, which runs on a separate thread, because
//! deleting a large queue would block other outputs for too long.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use fluent_bit::{Level, Log};
use parking_lot::Mutex;
use transport::Sender;

use crate::shared::SharedByFolder;

/// The cleanup of each folder of queues.
static CLEANUPS: SharedByFolder<Cleanup> = SharedByFolder::new();

/// The deletion of orphaned queues in a folder. Dropping it cancels the deletion.
#[derive(Debug)]
pub(crate) struct Cleanup(Arc<Shared>);

/// The state that a cleanup shares with its thread.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    log: Log,
    /// The names of the queues that outputs of this process have opened.
    in_use: Mutex<HashSet<String>>,
    is_canceled: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Cleanup {
    /// Registers an output's queue as in use. The first call for a folder schedules the
    /// cleanup of its other queues after `age`.
    pub(crate) fn register(
        folder: &Path,
        name: &str,
        age: Duration,
        log: &Log,
        sender: &Sender,
    ) -> Arc<Self> {
        let cleanup = CLEANUPS.get_or_create(folder, || Self::schedule(folder, age, log, sender));
        cleanup.0.in_use.lock().insert(name.to_owned());
        cleanup
    }

    fn schedule(folder: &Path, age: Duration, log: &Log, sender: &Sender) -> Arc<Self> {
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            log: log.clone(),
            in_use: Mutex::default(),
            is_canceled: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let weak = Arc::downgrade(&shared);
        sender.run_at(Instant::now() + age, move || {
            if let Some(shared) = weak.upgrade() {
                Shared::start(&shared);
            }
        });
        Arc::new(Self(shared))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.0.is_canceled.store(true, Ordering::Relaxed);
        let thread = self.0.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has already logged a panic of the thread.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn start(this: &Arc<Self>) {
        let mut thread = this.thread.lock();
        if this.is_canceled() {
            return;
        }
        let shared = Arc::clone(this);
        let started = Builder::new()
            .name("syslog-orphans".to_owned())
            .spawn(move || shared.run());
        match started {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                let line = format!(
                    "cannot start the thread that deletes orphaned queues, keeping them: {error}"
                );
                this.log.write(Level::Warn, &line);
            }
        }
    }

    fn is_canceled(&self) -> bool {
        self.is_canceled.load(Ordering::Relaxed)
    }

    fn run(&self) {
        for output in folders(&self.folder) {
            if self.is_canceled() {
                return;
            }
            let name = output.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| !self.in_use.lock().contains(name)) {
                delete_all(&output, &self.log);
            }
        }
    }
}

/// Deletes the queues in an output's folder that no process has open.
fn delete_all(output: &Path, log: &Log) {
    let queues = folders(output);
    let deleted: Vec<u64> = queues
        .iter()
        .filter_map(|queue| delete(queue, log))
        .collect();
    if deleted.is_empty() {
        return;
    }
    // Deleting the folder fails if it contains other files, which are kept.
    let _ = positions::delete(output);
    let _ = fs::remove_dir(output);
    let line = format!(
        "deleted the orphaned queue {} ({} bytes), which no output uses",
        output.display(),
        deleted.iter().sum::<u64>()
    );
    log.write(Level::Warn, &line);
}

/// Deletes a queue. Returns its size, or `None` if the folder is in use or not a queue.
fn delete(queue: &Path, log: &Log) -> Option<u64> {
    queue::delete(queue).unwrap_or_else(|error| {
        log.write(Level::Error, &error.chain());
        None
    })
}

/// Returns the folders in a folder.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use fluent_bit::Host;
    use rig::wait::{BOUND, until};
    use syslog::Framing;

    use super::*;
    use crate::exports::PLUGIN;

    const OPTIONS: queue::Options = queue::Options {
        framing: Framing::Newline,
        limit: 1 << 20,
        sync: false,
    };

    fn log() -> Log {
        Log::new(Host::find(), PLUGIN, "shop")
    }

    #[test]
    fn only_orphaned_queues_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let open = |name: &str| queue::open(&path(name), OPTIONS).unwrap();
        drop(open("gone/0"));
        drop(open("gone/1"));
        fs::write(path("gone/positions"), "").unwrap();
        let _elsewhere = open("elsewhere/0");
        drop(open("closed/0"));
        fs::create_dir_all(path("other/0")).unwrap();
        fs::write(path("other/0/file"), "something else").unwrap();

        let age = Duration::from_millis(100);
        let sender = Sender::start().unwrap();
        let cleanup = Cleanup::register(dir.path(), "closed", age, &log(), &sender);
        let same = Cleanup::register(dir.path(), "another", age, &log(), &sender);
        assert!(Arc::ptr_eq(&cleanup, &same));
        until(BOUND, || (!path("gone").exists()).then_some(())).unwrap();
        for kept in ["elsewhere/0", "closed/0", "other/0/file"] {
            assert!(path(kept).exists(), "{kept}");
        }
    }

    #[test]
    fn a_canceled_cleanup_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(queue::open(&dir.path().join("gone/0"), OPTIONS).unwrap());
        let age = Duration::from_secs(3600);
        let sender = Sender::start().unwrap();
        drop(Cleanup::register(dir.path(), "mine", age, &log(), &sender));
        assert!(dir.path().join("gone/0").exists());
    }
}
