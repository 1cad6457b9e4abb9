//! The state folder: the check that it can be used, and the removal of files that an earlier
//! version has left there.
//!
//! Earlier versions kept positions in databases. They stay for a day, because a rollback to
//! such a version continues where they are.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::log::{info, warn};

/// A file that is created to check that the folder is writable.
const PROBE: &str = ".sink-agent";
/// The beginnings of the names of the agents' databases. Configurations that still use the
/// input `tail` have databases of other names.
const OLD: [&str; 2] = ["lane-", "cluster-"];
/// A part of the name of every database, including companions and renamed databases.
pub(crate) const DATABASE: &str = ".db";
/// The time after the last change of any database after which all of them are removed.
const KEPT: Duration = Duration::from_secs(86_400);

/// Checks the folder, removes old databases, and logs the results. Failures are only logged,
/// because Fluent Bit is to start in any case.
pub(crate) fn prepare(folder: &Path) {
    let shown = folder.display();
    let databases = match Databases::find(folder) {
        Ok(databases) => databases,
        Err(error) => {
            return warn(&format!(
                "cannot read the state folder {shown}: {error}; Fluent Bit cannot store positions \
                 and pending messages there"
            ));
        }
    };
    if let Err(error) = probe(folder) {
        return warn(&format!(
            "cannot write to the state folder {shown}: {error}; Fluent Bit cannot store positions \
             and pending messages there"
        ));
    }
    if databases.are_old(SystemTime::now()) {
        let removed = databases.remove();
        info(&format!(
            "removed {removed} files of databases from {shown}, in which an earlier version kept \
             its positions"
        ));
    }
}

/// The files of an earlier version's databases.
struct Databases {
    files: Vec<PathBuf>,
    /// The time of the last change.
    changed: Option<SystemTime>,
}

impl Databases {
    fn find(folder: &Path) -> io::Result<Self> {
        let mut this = Self {
            files: Vec::new(),
            changed: None,
        };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if OLD.iter().any(|begin| name.starts_with(begin)) && name.contains(DATABASE) {
                let changed = entry.metadata()?.modified()?;
                this.changed = this.changed.max(Some(changed));
                this.files.push(entry.path());
            }
        }
        Ok(this)
    }

    fn are_old(&self, now: SystemTime) -> bool {
        let age = |changed| now.duration_since(changed).unwrap_or_default();
        self.changed.is_some_and(|changed| age(changed) > KEPT)
    }

    /// Removes the files, and returns their number.
    fn remove(self) -> usize {
        let mut removed = 0;
        for file in self.files {
            match fs::remove_file(&file) {
                Ok(()) => removed += 1,
                Err(error) => warn(&format!("cannot remove {}: {error}", file.display())),
            }
        }
        removed
    }
}

/// Checks that a folder is writable.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(PROBE);
    File::create(&probe)?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_an_earlier_version_are_removed_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let old = [
            "cluster-all.db.corrupt-20261127T025838.429607Z",
            "lane-0.db",
            "lane-0.db-shm",
            "lane-0.db-wal",
        ];
        let others = ["cluster-all", "notes", "tail.db", "tail.db-wal"];
        let left = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            left
        };
        let set_age = |name: &str, age: Duration| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        for name in old.iter().chain(&others) {
            set_age(name, KEPT * 2);
        }
        // A database that changes is one in use, and the others belong to it.
        set_age(old[3], KEPT / 2);
        prepare(folder.path());
        assert_eq!(left().len(), old.len() + others.len());
        set_age(old[3], KEPT + Duration::from_secs(60));
        for _ in 0..2 {
            prepare(folder.path());
            assert_eq!(left(), others);
        }
    }
}
