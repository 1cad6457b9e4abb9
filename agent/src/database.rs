//! The check whether Fluent Bit can use a database of file positions.
//!
//! At its start, Fluent Bit reads the whole table `in_tail_files` and prepares its
//! statements. If any of this fails, Fluent Bit exits.
//!
//! The check uses `SQLite` itself (`quick_check`), and prepares Fluent Bit's
//! statements, because a table with a different schema also stops Fluent Bit. It runs
//! before each start rather than after a failed one, so a start takes one attempt. It
//! costs a millisecond for each input.
//!
//! A test damages databases in 29 variants, and compares the verdict with the behaviour
//! of a real Fluent Bit (`tests/databases.rs`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::ffi;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The suffixes of the files that `SQLite` keeps next to a database.
pub(crate) const COMPANIONS: [&str; 3] = [WAL, "-shm", "-journal"];
const WAL: &str = "-wal";

/// The result of a check.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Fluent Bit can use the database.
    Usable,
    /// Fluent Bit would not start with the database, for this reason.
    Unusable(String),
    /// The check could not be completed, for this reason.
    Unknown(String),
}

/// The name of Fluent Bit's table.
const TABLE: &str = "in_tail_files";
/// Statements like those that Fluent Bit prepares at its start. Columns of later
/// versions are not included, because Fluent Bit adds them to an existing table.
const STATEMENTS: [&str; 5] = [
    "ALTER TABLE in_tail_files ADD COLUMN sink_agent INTEGER",
    "SELECT id, name, offset, inode FROM in_tail_files WHERE inode = ? ORDER BY id DESC",
    "INSERT INTO in_tail_files (name, offset, inode, created) VALUES (?, ?, ?, ?)",
    "UPDATE in_tail_files SET name = ?, offset = ?, rotated = 1 WHERE id = ?",
    "DELETE FROM in_tail_files WHERE id = ?",
];

/// The number of operations of `SQLite`'s virtual machine between checks of the
/// deadline.
const OPERATIONS: i32 = 1000;

/// Checks a database. Returns [`Verdict::Unknown`] if the check takes longer than the
/// deadline. The database is not modified, except that `SQLite` rolls back a journal
/// left by a crash.
pub(crate) fn check(path: &Path, deadline: Instant) -> Verdict {
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
    match examine(path, deadline) {
        Ok(None) => Verdict::Usable,
        Ok(Some(problem)) => Verdict::Unusable(problem),
        Err(error) => verdict(&error, path),
    }
}

/// Returns the paths of the database and its companions, whether or not they exist.
pub(crate) fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
    let companions = COMPANIONS.map(|suffix| with_suffix(path, suffix));
    std::iter::once(path.to_owned()).chain(companions)
}

/// Returns the path with `suffix` appended to its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Returns the first problem of a database, if there is one.
fn examine(path: &Path, deadline: Instant) -> rusqlite::Result<Option<String>> {
    let has_wal = with_suffix(path, WAL).exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut database = Connection::open_with_flags(path, flags)?;
    // Keep an existing WAL: by default, closing the connection would move its content
    // into the database. A new WAL is empty and is removed.
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_wal)?;
    database.busy_timeout(std::time::Duration::ZERO)?;
    database.progress_handler(OPERATIONS, Some(move || Instant::now() >= deadline))?;
    let mut check = database.prepare("PRAGMA quick_check")?;
    let mut problems = check.query_map([], |row| row.get::<_, String>(0))?;
    while let Some(text) = problems.next().transpose()? {
        if let Some(problem) = text.lines().find(|line| !is_harmless(line)) {
            return Ok(Some(problem.to_owned()));
        }
    }
    if database.is_readonly("main")? {
        let problem =
            "read-only, because of its permissions or because a later version of SQLite wrote it";
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

/// Whether a line of `SQLite`'s check does not affect Fluent Bit: the result of a
/// healthy database, a heading, an unused page, or a NULL value in a NOT NULL column.
fn is_harmless(line: &str) -> bool {
    line == "ok"
        || line.starts_with("*** in database ")
        || line.ends_with(": never used")
        || line.starts_with("NULL value in ")
}

/// Classifies an error of `SQLite`: a permanent one that Fluent Bit would get as well,
/// or a temporary one.
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
        // `Unknown` is SQLITE_ERROR: this version cannot read the schema.
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
        Verdict::Unknown("the check timed out".to_owned())
    } else {
        Verdict::Unknown(text)
    }
}

/// Whether permissions deny reading or writing a file of the database.
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

    #[test]
    fn a_check_ends_at_its_deadline() {
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
            Verdict::Unknown("the check timed out".to_owned())
        );
        assert_eq!(check(&path, now + Duration::from_secs(60)), Verdict::Usable);
    }
}
