//! Queues that no output claims: those of sinks that were deleted while Fluent
//! Bit did not run, or by a new configuration.
//!
//! A queue is claimed by its lock, of whatever process. Some time after the start
//! the others are deleted, so that a deleted sink leaves nothing on the node, and
//! a sink that comes back soon finds its backlog.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use crate::abi::host::Level;
use crate::log::Log;

/// One for each folder of queues, for as long as any output has a queue there.
static SWEEPS: Mutex<Option<HashMap<PathBuf, Weak<Sweep>>>> = Mutex::new(None);

/// A thread that waits for the moment, and deletes then.
#[derive(Debug)]
pub struct Sweep {
    /// Dropped to end the wait.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweep {
    /// Sees to a folder of queues, once for all outputs.
    pub fn of(folder: &Path, age: Duration, log: &Log) -> Option<Arc<Self>> {
        let mut sweeps = SWEEPS.lock();
        let sweeps = sweeps.get_or_insert_default();
        sweeps.retain(|_, sweep| sweep.strong_count() > 0);
        if let Some(sweep) = sweeps.get(folder).and_then(Weak::upgrade) {
            return Some(sweep);
        }
        match Self::start(folder.to_owned(), age, log.clone()) {
            Ok(sweep) => {
                let sweep = Arc::new(sweep);
                sweeps.insert(folder.to_owned(), Arc::downgrade(&sweep));
                Some(sweep)
            }
            Err(error) => {
                let line = format!("queues without an output stay where they are: {error}");
                log.write(Level::Warn, &line);
                None
            }
        }
    }

    fn start(folder: PathBuf, age: Duration, log: Log) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = Builder::new()
            .name("syslog-orphans".to_owned())
            .spawn(move || {
                // Nothing is ever sent.
                if stopped
                    .recv_timeout(age)
                    .is_err_and(|error| error.is_timeout())
                {
                    sweep(&folder, &log);
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Deletes the queues that nobody has open.
fn sweep(folder: &Path, log: &Log) {
    for name in folders(folder) {
        let parts = folders(&name);
        let deleted: Vec<u64> = parts.iter().filter_map(|part| delete(part, log)).collect();
        if deleted.is_empty() || deleted.len() < parts.len() {
            continue;
        }
        // It is empty now, but for what is not ours.
        let _ = fs::remove_dir(&name);
        let line = format!(
            "deleted the queue {}, which no output has claimed: {} bytes",
            name.display(),
            deleted.iter().sum::<u64>()
        );
        log.write(Level::Warn, &line);
    }
}

fn delete(queue: &Path, log: &Log) -> Option<u64> {
    queue::delete(queue).unwrap_or_else(|error| {
        log.write(Level::Error, &format!("{error}: {}", error.cause()));
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
    use syslog::Framing;

    use super::*;
    use crate::abi::host::Host;

    #[test]
    fn queues_that_nobody_has_open_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let options = queue::Options {
            framing: Framing::Newline,
            limit: 1 << 20,
            sync: false,
        };
        let path = |name: &str| dir.path().join(name);
        let open = |name: &str| queue::open(&path(name), options).unwrap();
        drop(open("gone/0"));
        drop(open("gone/1"));
        let _claimed = open("claimed/0");
        fs::create_dir_all(path("other/0")).unwrap();
        fs::write(path("other/0/file"), "something else").unwrap();

        let log = Log::new(Host::find(), "shop".to_owned());
        let sweep = Sweep::of(dir.path(), Duration::ZERO, &log).unwrap();
        let same = Sweep::of(dir.path(), Duration::ZERO, &log).unwrap();
        assert!(Arc::ptr_eq(&sweep, &same));
        rig::wait::until(rig::wait::BOUND, || (!path("gone").exists()).then_some(())).unwrap();
        assert!(path("claimed/0").exists() && path("other/0/file").exists());
    }

    #[test]
    fn an_end_before_the_moment_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(Host::find(), "shop".to_owned());
        drop(Sweep::of(dir.path(), Duration::from_secs(3600), &log));
    }
}
