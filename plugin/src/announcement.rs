//! The announcement of the outputs that take the groups of the input that reads pod logs.
//!
//! The input begins when it knows all outputs. So the list is written after the inits of all
//! of them, and when it cannot be written, because the disk is full for example, it is tried
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fluent_bit::{Host, Level};
use mapper::Config;
use mapper::identity::Source;
use parking_lot::Mutex;
use positions::POSITIONS;
use positions::outputs::{self, Output};
use transport::Sender;

use crate::exports::PLUGIN;

/// The outputs of the process by the folder of their queues.
static OUTPUTS: Mutex<BTreeMap<PathBuf, BTreeSet<Output>>> = Mutex::new(BTreeMap::new());

/// The time between two attempts to write a list.
const RETRY: Duration = Duration::from_secs(1);

/// Adds an output to the list, if it has a queue and takes groups. Must be called before its
/// queue is opened.
pub(crate) fn announce(config: &Config) -> Option<Announced> {
    let queue = config.queue.as_ref();
    let queue = queue.filter(|_| config.identity == Source::Group)?;
    let namespace = config.namespace.iter().cloned().collect();
    let output = Output {
        queue: queue.name.clone(),
        namespaces: match &config.namespace {
            Some(_) => Some(namespace),
            None => config.scope.namespaces.clone(),
        },
        since: config.since.max(last_append(&queue.path.join(&queue.name))),
    };
    Some(Announced::add(&queue.path, output))
}

/// The time before the last append of an earlier version from which lines are read again.
const OVERLAP: u64 = 10;

/// Returns from when an output wants lines whose queue is older than its positions: it had
/// another input until then. In seconds since 1970-01-01T00:00:00Z.
fn last_append(folder: &Path) -> Option<u64> {
    if folder.join(POSITIONS).exists() {
        return None;
    }
    let queues = fs::read_dir(folder).ok()?.flatten();
    let files = queues.filter_map(|queue| Some(fs::read_dir(queue.path()).ok()?.flatten()));
    let times = files
        .flatten()
        .filter_map(|file| file.metadata().ok()?.modified().ok());
    let last = times.max()?.duration_since(UNIX_EPOCH).ok()?;
    Some(last.as_secs().saturating_sub(OVERLAP))
}

/// An output in the list. Dropping it removes the output from later lists.
#[derive(Debug)]
pub(crate) struct Announced {
    folder: PathBuf,
    output: Output,
}

impl Announced {
    /// Adds an output to the list of the folder of its queue.
    pub(crate) fn add(folder: &Path, output: Output) -> Self {
        let mut all = OUTPUTS.lock();
        let outputs = all.entry(folder.to_owned()).or_default();
        outputs.insert(output.clone());
        Self {
            folder: folder.to_owned(),
            output,
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut all = OUTPUTS.lock();
        if let Some(outputs) = all.get_mut(&self.folder) {
            outputs.remove(&self.output);
            if outputs.is_empty() {
                all.remove(&self.folder);
            }
        }
    }
}

/// Writes the lists of all folders, now or as soon as possible.
pub(crate) fn publish(sender: &Arc<Sender>, host: &Host) {
    let folders: Vec<PathBuf> = OUTPUTS.lock().keys().cloned().collect();
    for folder in folders {
        publish_folder(folder, Arc::downgrade(sender), host.clone(), true);
    }
}

fn publish_folder(folder: PathBuf, sender: Weak<Sender>, host: Host, is_first: bool) {
    let outputs = OUTPUTS.lock().get(&folder).cloned();
    let Some(outputs) = outputs else {
        return;
    };
    let outputs: Vec<Output> = outputs.into_iter().collect();
    let Err(error) = write(&folder, &outputs) else {
        return;
    };
    if is_first {
        let line = format!(
            "[{PLUGIN}] cannot write the list of outputs to {}: {error}; pod logs are \
             read once it can be written",
            folder.display()
        );
        host.print(Level::Error, &line);
    }
    if let Some(strong) = sender.upgrade() {
        strong.run_at(Instant::now() + RETRY, move || {
            publish_folder(folder, sender, host, false);
        });
    }
}

fn write(folder: &Path, outputs: &[Output]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    outputs::announce(folder, outputs)
}

#[cfg(test)]
mod tests {
    use rig::wait::{BOUND, until};

    use super::*;

    #[test]
    fn an_output_that_had_another_input_wants_what_was_written_since() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_append(&folder.path().join("none")), None);
        let queue = folder.path().join("0");
        fs::create_dir(&queue).unwrap();
        let file = fs::File::create(queue.join("0.frames")).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_772_366_400);
        file.set_modified(time).unwrap();
        assert_eq!(last_append(folder.path()), Some(1_772_366_390));
        fs::write(folder.path().join(POSITIONS), "").unwrap();
        assert_eq!(last_append(folder.path()), None);
    }

    #[test]
    fn outputs_are_announced_as_soon_as_the_list_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let queues = folder.path().join("queues");
        // A file stands where the folder has to be.
        fs::write(&queues, "").unwrap();
        let output = |queue: &str| Output {
            queue: queue.to_owned(),
            namespaces: None,
            since: None,
        };
        let siem = Announced::add(&queues, output("shop.siem"));
        let all = Announced::add(&queues, output("all"));
        let sender = Sender::start().unwrap();
        publish(&sender, &Host::find());
        fs::remove_file(&queues).unwrap();
        let announced = || outputs::announced(&queues, None).unwrap();
        let list = until(BOUND, announced).unwrap();
        assert_eq!(list, [all.output.clone(), siem.output.clone()]);

        drop(all);
        publish(&sender, &Host::find());
        assert_eq!(announced().unwrap(), std::slice::from_ref(&siem.output));
    }
}
