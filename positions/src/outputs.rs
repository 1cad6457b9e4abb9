//! The list of the process's outputs with a queue. The outputs write it once all are open. The
//! input notes which list there was before, that of an earlier process.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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

/// Identifies a list: another one has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListId {
    inode: u64,
    modified: (i64, i64),
}

/// Returns the identity of the list; `None` if there is none.
#[must_use]
pub fn list_id(folder: &Path) -> Option<ListId> {
    let file = fs::metadata(file(folder)).ok()?;
    Some(ListId {
        inode: file.ino(),
        modified: (file.mtime(), file.mtime_nsec()),
    })
}

/// Returns the list, if it is not an earlier one; `None` as long as there is no other.
///
/// # Errors
///
/// Returns an error if it cannot be read.
pub fn announced(folder: &Path, earlier: Option<ListId>) -> io::Result<Option<Vec<Output>>> {
    let id = list_id(folder);
    if id.is_none() || id == earlier {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&fs::read(file(folder))?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_an_earlier_process_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let output = |queue: &str, namespace: Option<&str>| Output {
            queue: queue.to_owned(),
            namespaces: namespace.map(|name| BTreeSet::from([name.to_owned()])),
            since: None,
        };
        assert!(output("x", None).wants("shop") && !output("x", Some("bank")).wants("shop"));
        let outputs = [output("shop.siem", Some("shop")), output("all", None)];
        assert_eq!(announced(folder.path(), None).unwrap(), None);
        let mut earlier = None;
        for _ in 0..2 {
            announce(folder.path(), &outputs).unwrap();
            assert_eq!(announced(folder.path(), earlier).unwrap().unwrap(), outputs);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            earlier = list_id(folder.path());
            assert_eq!(announced(folder.path(), earlier).unwrap(), None);
        }
    }
}
