//! Tests with damaged databases and a real Fluent Bit: `sink-agent` renames exactly the
//! databases with which Fluent Bit does not start.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rig::fluent_bit;
use rig::wait::{BOUND, until};
use rusqlite::Connection;
use tempfile::TempDir;

/// The number of files in the database, enough for several pages.
const ROWS: i64 = 300;
const PAGE: u64 = 4096;
const AGENT: &str = env!("CARGO_BIN_EXE_sink-agent");

/// A state folder with a database in Fluent Bit's format, and a log file.
struct State(TempDir);

impl State {
    fn new() -> Self {
        let state = Self(tempfile::tempdir().unwrap());
        fs::create_dir(state.folder()).unwrap();
        fs::create_dir(state.path("log")).unwrap();
        fs::write(state.path("log/app.log"), "a line\n").unwrap();
        state
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn folder(&self) -> PathBuf {
        self.path("state")
    }

    fn database(&self) -> PathBuf {
        self.path("state/tail.db")
    }

    /// Creates the database of Fluent Bit 5.1 with [`ROWS`] files.
    fn fill(&self) {
        self.run(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE in_tail_files (
                 id INTEGER PRIMARY KEY, name TEXT NOT NULL, offset INTEGER, inode INTEGER,
                 created INTEGER, rotated INTEGER DEFAULT 0,
                 offset_marker INTEGER DEFAULT 0, offset_marker_size INTEGER DEFAULT 0
             );",
        );
        let mut database = Connection::open(self.database()).unwrap();
        let transaction = database.transaction().unwrap();
        let insert = "INSERT INTO in_tail_files (name, offset, inode, created) VALUES (?, ?, ?, ?)";
        for row in 0..ROWS {
            let name = format!("/var/log/containers/pod-{row}_namespace_container-{row:064}.log");
            transaction
                .execute(insert, (name, row * 1000, 1_000_000 + row, 1_772_366_400))
                .unwrap();
        }
        transaction.commit().unwrap();
        // Closing moves the content of the WAL into the database file.
        database.close().unwrap();
    }

    fn run(&self, statements: &str) {
        let database = Connection::open(self.database()).unwrap();
        database.execute_batch(statements).unwrap();
    }

    fn write_at(&self, position: u64, bytes: &[u8]) {
        let mut file = OpenOptions::new().write(true).open(self.database());
        let file = file.as_mut().unwrap();
        file.seek(SeekFrom::Start(position)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn truncate(&self, size: u64) {
        let file = OpenOptions::new().write(true).open(self.database());
        file.unwrap().set_len(size).unwrap();
    }

    fn write_companion(&self, suffix: &str, bytes: &[u8]) {
        fs::write(self.path(&format!("state/tail.db{suffix}")), bytes).unwrap();
    }

    /// Returns the content of all files in the folder, except shared memory, which
    /// `SQLite` rebuilds from the other files, and journals, which it removes.
    fn content(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let entry = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).ok())
        };
        let files = entries.map(|found| entry(found.unwrap().path()));
        let is_permanent = |name: &str| !name.ends_with("-shm") && !name.ends_with("-journal");
        files.filter(|(name, _)| is_permanent(name)).collect()
    }

    /// Runs `sink-agent` on the folder, and returns its log.
    fn prepare(&self) -> String {
        let output = Command::new(AGENT)
            .arg("--state")
            .arg(self.folder())
            .args(["--", "true"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Returns pseudo-random bytes, which are not a valid page of a database.
fn garbage(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..count).map(next).collect()
}

struct Case {
    name: &'static str,
    /// Whether Fluent Bit starts with the damaged database.
    starts: bool,
    damage: fn(&State),
}

/// A case in which Fluent Bit does not start.
const fn fails(name: &'static str, damage: fn(&State)) -> Case {
    Case {
        name,
        starts: false,
        damage,
    }
}

/// A case in which Fluent Bit starts.
const fn starts(name: &'static str, damage: fn(&State)) -> Case {
    Case {
        name,
        starts: true,
        damage,
    }
}

fn replace(state: &State, statements: &str) {
    fs::remove_file(state.database()).unwrap();
    state.run(statements);
}

const CASES: &[Case] = &[
    starts("healthy", |_| {}),
    starts("empty", |state| state.truncate(0)),
    starts("absent", |state| fs::remove_file(state.database()).unwrap()),
    starts("of an earlier Fluent Bit", |state| {
        replace(
            state,
            "CREATE TABLE in_tail_files (id INTEGER PRIMARY KEY, name TEXT NOT NULL,
             offset INTEGER, inode INTEGER, created INTEGER, rotated INTEGER DEFAULT 0);",
        );
    }),
    starts("another table", |state| {
        replace(state, "CREATE TABLE other (a);");
    }),
    starts("pages that nothing uses", |state| {
        state.run("PRAGMA journal_mode = DELETE; DELETE FROM in_tail_files WHERE id > 20;");
        state.write_at(32, &[0; 8]);
    }),
    starts("garbage as the WAL", |state| {
        state.write_companion("-wal", &garbage(100_000));
    }),
    starts("garbage as the shared memory", |state| {
        state.write_companion("-shm", &garbage(32_768));
    }),
    starts("garbage as the journal", |state| {
        state.write_companion("-journal", &garbage(10_000));
    }),
    starts("by way of a link", |state| {
        let elsewhere = state.path("state/elsewhere");
        fs::rename(state.database(), &elsewhere).unwrap();
        symlink(elsewhere, state.database()).unwrap();
    }),
    fails("a header of zeros", |state| state.write_at(0, &[0; 100])),
    fails("a first page of zeros", |state| {
        state.write_at(100, &[0; PAGE as usize - 100]);
    }),
    fails("a wrong page size", |state| state.write_at(16, &[7, 1])),
    fails("a later file format", |state| state.write_at(18, &[9, 9])),
    fails("a later file format to write", |state| {
        state.write_at(18, &[9]);
    }),
    fails("a later schema format", |state| {
        state.write_at(44, &[0, 0, 0, 9]);
    }),
    fails("cut to half", |state| state.truncate(7 * PAGE)),
    fails("cut within a page", |state| state.truncate(7 * PAGE + 1000)),
    fails("cut to a page", |state| state.truncate(PAGE)),
    fails("cut within the header", |state| state.truncate(50)),
    fails("garbage as the table's root", |state| {
        state.write_at(PAGE, &garbage(PAGE as usize));
    }),
    fails("garbage in the middle", |state| {
        state.write_at(7 * PAGE, &garbage(PAGE as usize));
    }),
    fails("text", |state| {
        fs::write(state.database(), "no database\n".repeat(1000)).unwrap();
    }),
    fails("a little text", |state| {
        fs::write(state.database(), "no").unwrap();
    }),
    fails("a folder", |state| {
        fs::remove_file(state.database()).unwrap();
        fs::create_dir(state.database()).unwrap();
    }),
    fails("a folder as the WAL", |state| {
        fs::create_dir(state.path("state/tail.db-wal")).unwrap();
    }),
    fails("a table with other columns", |state| {
        replace(state, "CREATE TABLE in_tail_files (a);");
    }),
    fails("a view", |state| {
        replace(
            state,
            "CREATE TABLE other (id, name, offset, inode, created, rotated);
             CREATE VIEW in_tail_files AS SELECT * FROM other;",
        );
    }),
    fails("an index", |state| {
        replace(
            state,
            "CREATE TABLE other (a); CREATE INDEX in_tail_files ON other (a);",
        );
    }),
];

#[test]
fn only_unusable_databases_are_renamed() {
    for case in CASES {
        let state = State::new();
        state.fill();
        (case.damage)(&state);
        let before = state.content();
        let log = state.prepare();
        let after = state.content();
        if case.starts {
            assert_eq!(log, "", "{}", case.name);
            assert!(
                before == after,
                "{}: {:?} became {:?}",
                case.name,
                before.keys(),
                after.keys()
            );
            continue;
        }
        assert_eq!(log.lines().count(), 1, "{}: {log}", case.name);
        for words in [
            " warn] [sink-agent] ",
            "tail.db is unusable (",
            "duplicates",
        ] {
            assert!(log.contains(words), "{}: {log}", case.name);
        }
        // The same files exist under new names.
        let original_name = |name: &str| match name.split_once(".corrupt-") {
            Some((begin, time)) => {
                let suffix = if time.ends_with("-wal") { "-wal" } else { "" };
                format!("{begin}{suffix}")
            }
            None => panic!("{}: {name} was not renamed", case.name),
        };
        let after: BTreeMap<String, Option<Vec<u8>>> = after
            .into_iter()
            .map(|(name, content)| (original_name(&name), content))
            .collect();
        assert!(before == after, "{}: a file has changed", case.name);
    }
}

/// A running Fluent Bit that tails the log file. Dropping it ends the process.
struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, program: &Path, state: &State) -> Self {
        let (folder, database) = (state.0.path().display(), state.database());
        let configuration = state.path("fluent-bit.yaml");
        fs::write(
            &configuration,
            format!(
                "service: {{flush: 0.2, log_level: info}}\n\
                 pipeline:\n  inputs:\n    - {{name: tail, path: {folder}/log/*.log, \
                 db: {}, read_from_head: on, refresh_interval: 1}}\n  outputs:\n    - \
                 {{name: file, match: '*', file: {folder}/out, format: plain}}\n",
                database.display()
            ),
        )
        .unwrap();
        let log = state.path("fluent-bit.log");
        let output = File::create(&log).unwrap();
        let process = command
            .arg(program)
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// Waits until Fluent Bit has read the line or has ended. Returns whether it has
    /// read the line.
    fn reads_line(&mut self, state: &State) -> bool {
        let out = state.path("out");
        let result = until(BOUND, || {
            let has_line = fs::read_to_string(&out).is_ok_and(|text| text.contains("a line"));
            let has_ended = !matches!(self.process.try_wait(), Ok(None));
            (has_line || has_ended).then_some(has_line)
        });
        let log = fs::read_to_string(&self.log).unwrap();
        result.unwrap_or_else(|error| panic!("{error}: {log}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn fluent_bit_starts_after_unusable_databases_are_renamed() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for case in CASES {
        let state = State::new();
        state.fill();
        (case.damage)(&state);
        // Without `sink-agent`, as the table states.
        let alone = Running::start(Command::new("env"), &program, &state).reads_line(&state);
        assert_eq!(alone, case.starts, "{}", case.name);
        if alone {
            continue;
        }
        let mut by_agent = Command::new(AGENT);
        by_agent.arg("--state").arg(state.folder()).arg("--");
        let mut running = Running::start(by_agent, &program, &state);
        assert!(running.reads_line(&state), "{}", case.name);
    }
}

/// Changes that only the WAL contains are part of the database.
#[test]
fn a_wal_is_not_changed() {
    let state = State::new();
    state.fill();
    let elsewhere = State::new();
    let database = Connection::open(state.database()).unwrap();
    let update = "UPDATE in_tail_files SET offset = 7";
    database.execute(update, ()).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("state/tail.db{suffix}");
        fs::copy(state.path(&name), elsewhere.path(&name)).unwrap();
    }
    drop(database);
    let before = elsewhere.content();
    assert!(before["tail.db-wal"].as_ref().unwrap().len() > PAGE as usize);
    assert_eq!(elsewhere.prepare(), "");
    assert!(elsewhere.content() == before);
    let database = Connection::open(elsewhere.database()).unwrap();
    let count = "SELECT count(*) FROM in_tail_files WHERE offset = 7";
    let count: i64 = database.query_row(count, (), |row| row.get(0)).unwrap();
    assert_eq!(count, ROWS);
}

#[test]
fn a_database_in_use_is_not_renamed() {
    let state = State::new();
    state.fill();
    let database = Connection::open(state.database()).unwrap();
    let lock = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM in_tail_files;";
    database.execute_batch(lock).unwrap();
    let log = state.prepare();
    assert!(log.contains("tail.db: database is locked"), "{log}");
    assert!(state.content().contains_key("tail.db"));
}

/// Renamed databases are limited per name, so that they do not fill the folder.
#[test]
fn the_three_newest_renamed_databases_are_kept() {
    let state = State::new();
    for round in 0..5 {
        fs::write(state.database(), format!("no database {round}")).unwrap();
        state.write_companion("-wal", b"no WAL either");
        fs::write(state.path("state/lane-0.db"), format!("other {round}")).unwrap();
        assert_eq!(state.prepare().lines().count(), 2);
    }
    let content = state.content();
    let contents = |begin: &str| {
        let of_name = content.iter().filter(|(name, _)| name.starts_with(begin));
        let databases = of_name.filter(|(name, _)| !name.ends_with("-wal"));
        let text = |content: &Option<Vec<u8>>| String::from_utf8(content.clone().unwrap());
        databases
            .map(|(_, content)| text(content).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        contents("tail.db.corrupt-"),
        ["no database 2", "no database 3", "no database 4"]
    );
    assert_eq!(contents("lane-0.db"), ["other 2", "other 3", "other 4"]);
    assert_eq!(content.len(), 9, "{:?}", content.keys());
}
