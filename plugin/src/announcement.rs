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
use std::time::{Duration, Instant};

use fluent_bit::{Host, Level};
use parking_lot::Mutex;
use positions::outputs::{self, Output};
use transport::Sender;

use crate::exports::PLUGIN;

/// The outputs of the process by the folder of their queues.
static OUTPUTS: Mutex<BTreeMap<PathBuf, BTreeSet<Output>>> = Mutex::new(BTreeMap::new());

/// The time between two attempts to write a list.
const RETRY: Duration = Duration::from_secs(1);

/// An output in the list. Dropping it removes the output from later lists.
#[derive(Debug)]
pub(crate) struct Announced {
    folder: PathBuf,
    output: Output,
}

impl Announced {
    /// Adds an output to the list of the folder of its queue.
    pub(crate) fn add(folder: &Path, queue: &str, namespace: Option<&str>) -> Self {
        let output = Output {
            queue: queue.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
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
    fn outputs_are_announced_as_soon_as_the_list_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let queues = folder.path().join("queues");
        // A file stands where the folder has to be.
        fs::write(&queues, "").unwrap();
        let siem = Announced::add(&queues, "shop.siem", Some("shop"));
        let all = Announced::add(&queues, "all", None);
        let sender = Sender::start().unwrap();
        publish(&sender, &Host::find());
        fs::remove_file(&queues).unwrap();
        let announced = || outputs::announced(&queues).unwrap();
        let list = until(BOUND, announced).unwrap();
        assert_eq!(list, [all.output.clone(), siem.output.clone()]);

        drop(all);
        publish(&sender, &Host::find());
        assert_eq!(announced().unwrap(), std::slice::from_ref(&siem.output));
    }
}
