//! Queues that no output claims: those of sinks that were deleted while Fluent
//! Bit did not run, or by a new configuration.
//!
//! A queue is claimed by its lock, of whatever process, and by the outputs of this
//! one until all of them have ended. Some time after the start the others are
//! deleted, so that a deleted sink leaves nothing on the node, and a sink that
//! comes back soon finds its backlog.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::abi::host::Level;
use crate::log::Log;

/// One for each folder of queues, for as long as any output has a queue there.
static SWEEPS: Mutex<Option<HashMap<PathBuf, Weak<Sweep>>>> = Mutex::new(None);

/// The names of the queues that outputs have claimed.
type Claims = Arc<Mutex<HashSet<String>>>;

/// A thread that waits for the moment, and deletes then.
#[derive(Debug)]
pub struct Sweep {
    claims: Claims,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweep {
    /// Claims a queue, and sees to the others in its folder, once for all outputs.
    pub fn beside(folder: &Path, name: &str, age: Duration, log: &Log) -> Option<Arc<Self>> {
        let mut sweeps = SWEEPS.lock();
        let sweeps = sweeps.get_or_insert_default();
        sweeps.retain(|_, sweep| sweep.strong_count() > 0);
        let running = sweeps.get(folder).and_then(Weak::upgrade);
        let sweep = match running.map_or_else(|| Self::start(folder, age, log), Ok) {
            Ok(sweep) => sweep,
            Err(error) => {
                let line = format!("queues without an output stay where they are: {error}");
                log.write(Level::Warn, &line);
                return None;
            }
        };
        sweep.claims.lock().insert(name.to_owned());
        sweeps.insert(folder.to_owned(), Arc::downgrade(&sweep));
        Some(sweep)
    }

    fn start(folder: &Path, age: Duration, log: &Log) -> std::io::Result<Arc<Self>> {
        let (stop, stopped) = bounded(0);
        let claims = Claims::default();
        let (folder, claimed, log) = (folder.to_owned(), Arc::clone(&claims), log.clone());
        let thread = Builder::new()
            .name("syslog-orphans".to_owned())
            .spawn(move || {
                if !is_over(&stopped, age) {
                    sweep(&folder, &claimed, &stopped, &log);
                }
            })?;
        Ok(Arc::new(Self {
            claims,
            stop: Some(stop),
            thread: Some(thread),
        }))
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

/// Waits, and returns whether the thread has to end. Nothing is ever sent.
fn is_over(stopped: &Receiver<()>, wait: Duration) -> bool {
    stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
}

fn sweep(folder: &Path, claims: &Claims, stopped: &Receiver<()>, log: &Log) {
    for output in folders(folder) {
        if is_over(stopped, Duration::ZERO) {
            return;
        }
        let name = output.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| !claims.lock().contains(name)) {
            delete_all(&output, log);
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
        let sweep = Sweep::beside(dir.path(), "closed", age, &log()).unwrap();
        let same = Sweep::beside(dir.path(), "another", age, &log()).unwrap();
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
        drop(Sweep::beside(dir.path(), "mine", age, &log()));
        assert!(dir.path().join("gone/0").exists());
    }
}
