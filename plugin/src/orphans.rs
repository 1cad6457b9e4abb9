//! Queues that no output claims: those of sinks that were deleted while Fluent
//! Bit did not run, or by a new configuration.
//!
//! A queue is claimed by its lock, of whatever process, and by the outputs of this
//! one until all of them have ended. Some time after the start the others are
//! deleted, so that a deleted sink leaves nothing on the node, and a sink that
//! comes back soon finds its backlog.
//!
//! The sender's event loop waits for the moment. A thread deletes, and ends then: a
//! large queue takes longer than the other sinks can wait.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use transport::Sender;

use crate::abi::host::Level;
use crate::by_folder::ByFolder;
use crate::log::Log;

/// One for each folder of queues.
static SWEEPS: ByFolder<Sweep> = ByFolder::new();

/// The deletion of queues in a folder. Dropping it ends the deletion.
#[derive(Debug)]
pub(crate) struct Sweep(Arc<Shared>);

/// The part of a sweep that its thread shares.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    log: Log,
    /// The names of the queues that outputs have claimed.
    claims: Mutex<HashSet<String>>,
    /// Nothing more is deleted.
    is_over: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sweep {
    /// Claims a queue, and sees to the others in its folder, once for all outputs.
    pub(crate) fn beside(
        folder: &Path,
        name: &str,
        age: Duration,
        log: &Log,
        sender: &Sender,
    ) -> Arc<Self> {
        let sweep = SWEEPS.get_or(folder, || Self::begin(folder, age, log, sender));
        sweep.0.claims.lock().insert(name.to_owned());
        sweep
    }

    fn begin(folder: &Path, age: Duration, log: &Log, sender: &Sender) -> Arc<Self> {
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            log: log.clone(),
            claims: Mutex::default(),
            is_over: AtomicBool::new(false),
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

impl Drop for Sweep {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        let thread = self.0.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn start(this: &Arc<Self>) {
        let mut thread = this.thread.lock();
        if this.is_over() {
            return;
        }
        let shared = Arc::clone(this);
        let started = Builder::new()
            .name("syslog-orphans".to_owned())
            .spawn(move || shared.sweep());
        match started {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                let line = format!("queues without an output stay where they are: {error}");
                this.log.write(Level::Warn, &line);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn sweep(&self) {
        for output in folders(&self.folder) {
            if self.is_over() {
                return;
            }
            let name = output.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| !self.claims.lock().contains(name)) {
                delete_all(&output, &self.log);
            }
        }
    }
}

/// Deletes the queues of an output that nobody has open.
fn delete_all(output: &Path, log: &Log) {
    let parts = folders(output);
    let deleted: Vec<u64> = parts.iter().filter_map(|part| delete(part, log)).collect();
    if deleted.is_empty() {
        return;
    }
    // It is empty now, but for what is not ours.
    let _ = fs::remove_dir(output);
    let line = format!(
        "deleted the queue {}, which no output has claimed: {} bytes",
        output.display(),
        deleted.iter().sum::<u64>()
    );
    log.write(Level::Warn, &line);
}

fn delete(queue: &Path, log: &Log) -> Option<u64> {
    queue::delete(queue).unwrap_or_else(|error| {
        log.write(Level::Error, &error.chain());
        None
    })
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use rig::wait::{BOUND, until};
    use syslog::Framing;

    use super::*;
    use crate::abi::host::Host;

    const OPTIONS: queue::Options = queue::Options {
        framing: Framing::Newline,
        limit: 1 << 20,
        sync: false,
    };

    fn log() -> Log {
        Log::new(Host::find(), "shop".to_owned())
    }

    #[test]
    fn queues_that_nobody_claims_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let open = |name: &str| queue::open(&path(name), OPTIONS).unwrap();
        drop(open("gone/0"));
        drop(open("gone/1"));
        let _elsewhere = open("elsewhere/0");
        drop(open("closed/0"));
        fs::create_dir_all(path("other/0")).unwrap();
        fs::write(path("other/0/file"), "something else").unwrap();

        let age = Duration::from_millis(100);
        let sender = Sender::start().unwrap();
        let sweep = Sweep::beside(dir.path(), "closed", age, &log(), &sender);
        let same = Sweep::beside(dir.path(), "another", age, &log(), &sender);
        assert!(Arc::ptr_eq(&sweep, &same));
        until(BOUND, || (!path("gone").exists()).then_some(())).unwrap();
        for left in ["elsewhere/0", "closed/0", "other/0/file"] {
            assert!(path(left).exists(), "{left}");
        }
    }

    #[test]
    fn an_end_before_the_moment_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(queue::open(&dir.path().join("gone/0"), OPTIONS).unwrap());
        let age = Duration::from_secs(3600);
        let sender = Sender::start().unwrap();
        drop(Sweep::beside(dir.path(), "mine", age, &log(), &sender));
        assert!(dir.path().join("gone/0").exists());
    }
}
