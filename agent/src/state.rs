//! The check of the databases in the state folder, which renames unusable ones.
//!
//! An unusable database is renamed, not repaired: a database of positions is
//! expendable, because without it files are read again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::database::{COMPANIONS, Verdict, check, with_suffix};
use crate::log::{error, info, warn};

/// The file name extension of databases.
const DATABASE: &str = "db";
/// The suffix of renamed databases, before the time.
const CORRUPT: &str = ".corrupt-";
/// The maximum number of renamed databases to keep, per database.
const KEPT: usize = 3;
/// The maximum time for the checks of all databases.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A file that is created to check that the folder is writable.
const PROBE: &str = ".sink-agent";

/// Checks all databases in the folder, renames unusable ones, and logs the results.
/// Failures are only logged, because Fluent Bit is to start in any case.
pub(crate) fn prepare(folder: &Path) {
    let deadline = Instant::now() + TIMEOUT;
    let shown = folder.display();
    let databases = match databases(folder) {
        Ok(databases) => databases,
        Err(error) => {
            return warn(&format!(
                "cannot read the state folder {shown}: {error}; Fluent Bit cannot store file \
                 positions there, and existing databases are not checked"
            ));
        }
    };
    if let Err(error) = probe(folder) {
        warn(&format!(
            "cannot write to the state folder {shown}: {error}; Fluent Bit cannot store file \
             positions and pending messages there"
        ));
    }
    for database in databases {
        let shown = database.display();
        match check(&database, deadline) {
            Verdict::Usable => {}
            Verdict::Unknown(reason) => info(&format!(
                "cannot check {shown}: {reason}; Fluent Bit uses it unchecked"
            )),
            Verdict::Unusable(reason) => match rename_unusable(&database) {
                Ok(name) => warn(&format!(
                    "{shown} is unusable ({reason}): renamed to {}. Fluent Bit reads the files of \
                     this input again from the beginning, so receivers get duplicates but no \
                     message is lost",
                    name.display(),
                )),
                Err(problem) => error(&format!(
                    "{shown} is unusable ({reason}) and cannot be renamed: {problem}; Fluent Bit \
                     will probably not start"
                )),
            },
        }
    }
}

/// Returns the databases in a folder, sorted by name.
fn databases(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut databases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == DATABASE) {
            databases.push(path);
        }
    }
    databases.sort();
    Ok(databases)
}

/// Checks that a folder is writable.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(PROBE);
    File::create(&probe)?;
    fs::remove_file(probe)
}

/// Renames an unusable database with its companions, and removes the oldest renamed
/// databases. Returns the new name.
fn rename_unusable(database: &Path) -> io::Result<OsString> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ");
    let new = with_suffix(database, &format!("{CORRUPT}{now}"));
    // The database is renamed first, because SQLite ignores companions without a
    // database.
    fs::rename(database, &new)?;
    for suffix in COMPANIONS {
        match fs::rename(with_suffix(database, suffix), with_suffix(&new, suffix)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => warn(&format!(
                "cannot rename {}: {problem}; SQLite ignores this file without its database",
                with_suffix(database, suffix).display()
            )),
            _ => {}
        }
    }
    remove_oldest(database);
    Ok(new.file_name().unwrap_or_default().to_owned())
}

/// Removes the oldest renamed databases beyond [`KEPT`]. Failures are ignored.
fn remove_oldest(database: &Path) {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else {
        return;
    };
    let begin = format!("{}{CORRUPT}", name.to_string_lossy());
    let is_companion = |name: &str| COMPANIONS.iter().any(|suffix| name.ends_with(suffix));
    let mut old: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&begin) && !is_companion(name))
        .collect();
    old.sort();
    old.truncate(old.len().saturating_sub(KEPT));
    for name in old {
        let path = folder.join(name);
        for file in crate::database::files(&path) {
            let _ = fs::remove_file(file);
        }
    }
}
