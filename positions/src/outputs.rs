//! The list of the process's outputs with a queue. It is complete when it exists: the outputs
//! write it once all are open, and the input removes that of an earlier process before.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// An output with a queue.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Output {
    /// The name of its queue: a folder in that of all queues.
    pub queue: String,
    /// The only namespaces whose containers it wants; none if it wants all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<BTreeSet<String>>,
    /// The time from which it wants the lines that were there before it, in seconds since
    /// 1970-01-01T00:00:00Z; none if the input decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl Output {
    /// Returns whether it wants the containers of a namespace.
    #[must_use]
    pub fn wants(&self, namespace: &str) -> bool {
        let only = self.namespaces.as_ref();
        only.is_none_or(|only| only.contains(namespace))
    }
}

/// The name of the file in the folder of all queues.
const FILE: &str = "outputs";

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Writes the list.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub fn announce(folder: &Path, outputs: &[Output]) -> io::Result<()> {
    let mut temporary = NamedTempFile::new_in(folder)?;
    temporary.write_all(&serde_json::to_vec(outputs)?)?;
    temporary.persist(file(folder))?;
    Ok(())
}

/// Removes the list.
///
/// # Errors
///
/// Returns an error if there is one that cannot be removed.
pub fn withdraw(folder: &Path) -> io::Result<()> {
    match fs::remove_file(file(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the list; `None` as long as there is none.
///
/// # Errors
///
/// Returns an error if it cannot be read.
pub fn announced(folder: &Path) -> io::Result<Option<Vec<Output>>> {
    match fs::read(file(folder)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_announced_and_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let output = |queue: &str, namespace: Option<&str>| Output {
            queue: queue.to_owned(),
            namespaces: namespace.map(|name| BTreeSet::from([name.to_owned()])),
            since: None,
        };
        assert!(output("x", None).wants("shop") && !output("x", Some("bank")).wants("shop"));
        let outputs = [output("shop.siem", Some("shop")), output("all", None)];
        assert_eq!(announced(folder.path()).unwrap(), None);
        announce(folder.path(), &outputs).unwrap();
        assert_eq!(announced(folder.path()).unwrap().unwrap(), outputs);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        for _ in 0..2 {
            withdraw(folder.path()).unwrap();
            assert_eq!(announced(folder.path()).unwrap(), None);
        }
    }
}
