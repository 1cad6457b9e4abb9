//! The state folder: its databases are checked, and the unusable ones set aside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::database::{COMPANIONS, Verdict, check, with_end};
use crate::log::{error, info, warn};

/// How databases end, and how the name of one that was set aside goes on.
const DATABASE: &str = "db";
const CORRUPT: &str = ".corrupt-";
/// The number of unusable databases that are kept, for each name.
const KEPT: usize = 3;
/// The maximum time for the checks of all databases.
const PATIENCE: Duration = Duration::from_secs(5);
/// A file that is written to see whether files can be.
const PROBE: &str = ".sink-agent";

/// Checks all databases of the folder, and logs what was found. Fluent Bit starts
/// whatever comes of it.
pub(crate) fn prepare(folder: &Path) {
    let until = Instant::now() + PATIENCE;
    let shown = folder.display();
    let databases = match databases(folder) {
        Ok(databases) => databases,
        Err(error) => {
            return warn(&format!(
                "cannot read the state folder {shown}: {error}; positions in files are not \
                 checked, and Fluent Bit will not keep any there"
            ));
        }
    };
    if let Err(error) = probe(folder) {
        warn(&format!(
            "cannot write to the state folder {shown}: {error}; Fluent Bit will not keep \
             positions in files and waiting messages there"
        ));
    }
    for database in databases {
        let shown = database.display();
        match check(&database, until) {
            Verdict::Usable => {}
            Verdict::Unknown(why) => {
                info(&format!(
                    "{shown} is not checked, and stays as it is: {why}"
                ));
            }
            Verdict::Unusable(why) => match set_aside(&database) {
                Ok(name) => warn(&format!(
                    "{shown} is unusable ({why}): renamed to {}. Fluent Bit reads the files of \
                     this input from their beginning again: messages arrive twice rather than \
                     not at all",
                    name.display(),
                )),
                Err(problem) => error(&format!(
                    "{shown} is unusable ({why}) and cannot be renamed: {problem}; Fluent Bit \
                     will probably not start"
                )),
            },
        }
    }
}

/// The databases in a folder, in the order of their names.
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

/// Whether files can be written in a folder.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(PROBE);
    File::create(&probe)?;
    fs::remove_file(probe)
}

/// Renames a database and its companions, and removes the oldest of those that were
/// renamed before. Returns the new name.
fn set_aside(database: &Path) -> io::Result<OsString> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ");
    let new = with_end(database, &format!("{CORRUPT}{now}"));
    // The database first: SQLite ignores what is beside one that does not exist.
    fs::rename(database, &new)?;
    for end in COMPANIONS {
        match fs::rename(with_end(database, end), with_end(&new, end)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => warn(&format!(
                "cannot rename {}: {problem}; SQLite ignores it without its database",
                with_end(database, end).display()
            )),
            _ => {}
        }
    }
    remove_oldest(database);
    Ok(new.file_name().unwrap_or_default().to_owned())
}

/// Removes the oldest databases that were set aside. One that cannot be removed
/// stays.
fn remove_oldest(database: &Path) {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else {
        return;
    };
    let begin = format!("{}{CORRUPT}", name.to_string_lossy());
    let is_companion = |name: &str| COMPANIONS.iter().any(|end| name.ends_with(end));
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
