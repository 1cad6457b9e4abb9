//! A database of positions in files: whether Fluent Bit can use it.
//!
//! Fluent Bit reads the whole table `in_tail_files` at its start, and prepares its
//! statements. Whatever makes one of these fail ends it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::ffi;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The files that `SQLite` keeps beside a database, by the end of their names.
pub(crate) const COMPANIONS: [&str; 3] = [WAL, "-shm", "-journal"];
const WAL: &str = "-wal";

/// The result of a check.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Fluent Bit can use it.
    Usable,
    /// Fluent Bit would not start, and why.
    Unusable(String),
    /// The check could not be completed, and why.
    Unknown(String),
}

/// Fluent Bit's table, and statements like those that it prepares at its start. It
/// adds columns by itself where an earlier version has made the table.
const TABLE: &str = "in_tail_files";
const STATEMENTS: [&str; 5] = [
    "ALTER TABLE in_tail_files ADD COLUMN sink_agent INTEGER",
    "SELECT id, name, offset, inode FROM in_tail_files WHERE inode = ? ORDER BY id DESC",
    "INSERT INTO in_tail_files (name, offset, inode, created) VALUES (?, ?, ?, ?)",
    "UPDATE in_tail_files SET name = ?, offset = ?, rotated = 1 WHERE id = ?",
    "DELETE FROM in_tail_files WHERE id = ?",
];

/// Operations of `SQLite`'s virtual machine between two looks at the clock.
const OPERATIONS: i32 = 1000;

/// Checks a database, until a moment at most. Changes
/// nothing but a rollback journal that a crash left.
pub(crate) fn check(path: &Path, until: Instant) -> Verdict {
    for file in files(path) {
        match fs::metadata(&file) {
            Ok(found) if !found.is_file() => {
                let name = file.display();
                return Verdict::Unusable(format!("{name} is not a regular file"));
            }
            // A new database.
            Ok(found) if found.len() == 0 && file == path => return Verdict::Usable,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Verdict::Unknown(error.to_string()),
        }
    }
    match examine(path, until) {
        Ok(None) => Verdict::Usable,
        Ok(Some(problem)) => Verdict::Unusable(problem),
        Err(error) => verdict(&error, path),
    }
}

/// The database and its companions, whether or not they exist.
pub(crate) fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
    let companions = COMPANIONS.map(|end| with_end(path, end));
    std::iter::once(path.to_owned()).chain(companions)
}

/// A path with this behind its name.
pub(crate) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Returns the first problem, if any.
fn examine(path: &Path, until: Instant) -> rusqlite::Result<Option<String>> {
    let has_wal = with_end(path, WAL).exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut database = Connection::open_with_flags(path, flags)?;
    // The WAL stays as it is; without this its content would be moved into the
    // database. A new one is empty, and goes.
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_wal)?;
    database.busy_timeout(std::time::Duration::ZERO)?;
    database.progress_handler(OPERATIONS, Some(move || Instant::now() >= until))?;
    let mut check = database.prepare("PRAGMA quick_check")?;
    let mut problems = check.query_map([], |row| row.get::<_, String>(0))?;
    while let Some(text) = problems.next().transpose()? {
        if let Some(problem) = text.lines().find(|line| !is_harmless(line)) {
            return Ok(Some(problem.to_owned()));
        }
    }
    if database.is_readonly("main")? {
        let problem = "is read-only: by its permissions, or written by a later version of SQLite";
        return Ok(Some(problem.to_owned()));
    }
    let find = "SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE";
    let found: i64 = database.query_row(find, [TABLE], |row| row.get(0))?;
    if found > 0 {
        for statement in STATEMENTS {
            if let Err(error) = database.prepare(statement) {
                return Ok(Some(format!("{TABLE} is not Fluent Bit's table: {error}")));
            }
        }
    }
    Ok(None)
}

/// Whether a line of `SQLite`'s check is no problem to Fluent Bit: the result of a
/// healthy database, a heading, a page that nothing uses, a value that is missing
/// where the schema wants one.
fn is_harmless(line: &str) -> bool {
    line == "ok"
        || line.starts_with("*** in database ")
        || line.ends_with(": never used")
        || line.starts_with("NULL value in ")
}

/// Sorts an error of `SQLite`: one that Fluent Bit meets as well, or one of the
/// moment.
fn verdict(error: &rusqlite::Error, path: &Path) -> Verdict {
    let text = error.to_string();
    let rusqlite::Error::SqliteFailure(
        ffi::Error {
            code,
            extended_code,
        },
        _,
    ) = error
    else {
        return Verdict::Unknown(text);
    };
    let is_unusable = match code {
        // Unknown is SQLITE_ERROR: a schema that this version cannot read.
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::ReadOnly
        | ErrorCode::Unknown => true,
        ErrorCode::CannotOpen => is_denied(path),
        ErrorCode::SystemIoFailure => matches!(
            *extended_code,
            ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
        ),
        _ => false,
    };
    if is_unusable {
        Verdict::Unusable(text)
    } else if *code == ErrorCode::OperationInterrupted {
        Verdict::Unknown("the check takes too long".to_owned())
    } else {
        Verdict::Unknown(text)
    }
}

/// Whether a file of the database may not be read or written.
fn is_denied(path: &Path) -> bool {
    files(path).any(|file| {
        let opened = File::options().read(true).write(true).open(file);
        opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A check ends in time, and its database stays.
    #[test]
    fn a_check_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tail.db");
        let database = Connection::open(&path).unwrap();
        let fill = "CREATE TABLE large (text);
                    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
                    LIMIT 20000) INSERT INTO large SELECT hex(zeroblob(50)) FROM numbers;";
        database.execute_batch(fill).unwrap();
        drop(database);
        let now = Instant::now();
        assert_eq!(
            check(&path, now),
            Verdict::Unknown("the check takes too long".to_owned())
        );
        assert_eq!(check(&path, now + Duration::from_secs(60)), Verdict::Usable);
    }
}
