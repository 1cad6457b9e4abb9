//! The state folder: the check that it can be used, and the removal of files that an earlier
//! version has left there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::log::{info, warn};

/// A file that is created to check that the folder is writable.
const PROBE: &str = ".sink-agent";
/// The beginnings of the names of databases in which the input `tail` kept its positions,
/// before `pod_logs`. Configurations that still use `tail` have databases of other names.
const OLD: [&str; 2] = ["lane-", "cluster-"];
/// A part of the name of every database, including companions and renamed databases.
pub(crate) const DATABASE: &str = ".db";

/// Checks the folder, removes old databases, and logs the results. Failures are only logged,
/// because Fluent Bit is to start in any case.
pub(crate) fn prepare(folder: &Path) {
    let shown = folder.display();
    let old = match old_databases(folder) {
        Ok(old) => old,
        Err(error) => {
            return warn(&format!(
                "cannot read the state folder {shown}: {error}; Fluent Bit cannot store pending \
                 messages there"
            ));
        }
    };
    if let Err(error) = probe(folder) {
        return warn(&format!(
            "cannot write to the state folder {shown}: {error}; Fluent Bit cannot store pending \
             messages there"
        ));
    }
    let mut removed = 0;
    for file in old {
        match fs::remove_file(&file) {
            Ok(()) => removed += 1,
            Err(error) => warn(&format!("cannot remove {}: {error}", file.display())),
        }
    }
    if removed > 0 {
        info(&format!(
            "removed {removed} files of databases from {shown}: this version reads on from what \
             the queues have"
        ));
    }
}

/// Returns the databases in a folder that are no longer used.
fn old_databases(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut databases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if OLD.iter().any(|begin| name.starts_with(begin)) && name.contains(DATABASE) {
            databases.push(path);
        }
    }
    Ok(databases)
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
    fn old_databases_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let old = [
            "cluster-all.db.corrupt-20261127T025838.429607Z",
            "lane-0.db",
            "lane-0.db-shm",
            "lane-0.db-wal",
        ];
        let others = ["cluster-all", "notes", "tail.db", "tail.db-wal"];
        for name in old.iter().chain(&others) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for _ in 0..2 {
            prepare(folder.path());
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, others);
        }
    }
}
