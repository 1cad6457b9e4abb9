//! A real Fluent Bit that is killed, reloads, or has no disk space.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use receiver::{Listen, Receiver};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{self, BOUND};
use tempfile::TempDir;

use super::{receiver, receiver_at};
use crate::load::{Counts, Load};
use crate::{Outcome, Skipped, mount};

pub(super) const TIMES: usize = 3;
/// The time limit for chunks that Fluent Bit has on disk and retries with backoff.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// A folder with a log file, a configuration that reads it, and the state that survives
/// a process.
pub(super) struct Agent {
    program: PathBuf,
    pub(super) dir: TempDir,
    log: File,
    pub(super) http_port: u16,
}

impl Agent {
    fn new(address: &str, workers: usize) -> Result<Self, Skipped> {
        let workers = match workers {
            0 => String::new(),
            workers => format!("Workers {workers}"),
        };
        Self::with_outputs(|_| {
            format!(
                "[OUTPUT]
    Name syslog_sink
    Match *
    servers {address}
    transport tcp
    cluster on
    backoff_min 50ms
    backoff_max 200ms
    Retry_Limit no_limits
    {workers}
"
            )
        })
    }

    /// Creates an agent with these outputs, which may store state in a folder.
    pub(super) fn with_outputs(outputs: impl FnOnce(&Path) -> String) -> Result<Self, Skipped> {
        let program =
            fluent_bit::find().ok_or_else(|| Skipped("Fluent Bit is not installed".into()))?;
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("app.log")).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let agent = Self {
            program,
            dir,
            log,
            http_port: free_port(),
        };
        agent.configure(outputs);
        Ok(agent)
    }

    /// Replaces the outputs for the next start.
    pub(super) fn configure(&self, outputs: impl FnOnce(&Path) -> String) {
        let configuration = format!(
            "[SERVICE]
    Flush 0.2
    Grace 1
    HTTP_Server On
    HTTP_Listen 127.0.0.1
    HTTP_Port {http_port}
    scheduler.base 1
    scheduler.cap 2
    storage.path {dir}/state
    storage.backlog.mem_limit 100M
[INPUT]
    Name tail
    Tag app.*
    Path {dir}/*.log
    DB {dir}/tail.db
    Read_from_Head On
    Refresh_Interval 1
    storage.type filesystem
{outputs}",
            http_port = self.http_port,
            dir = self.dir.path().display(),
            outputs = outputs(&self.dir.path().join("state")),
        );
        fs::write(self.dir.path().join("fluent-bit.conf"), configuration).unwrap();
    }

    pub(super) fn start(&self, wrapper: &[String]) -> FluentBit {
        let configuration = self.dir.path().join("fluent-bit.conf");
        FluentBit::start_by(
            wrapper,
            &self.program,
            &[host::library()],
            &configuration,
            &[],
        )
    }

    /// Starts Fluent Bit with a folder on a disk of 16 MB, and waits until it cannot
    /// reach its receiver. Also returns the path of a file on that disk.
    pub(super) fn start_with_small_disk(
        &self,
        folder: &Path,
    ) -> Result<(FluentBit, PathBuf), Skipped> {
        let folder = folder.display();
        let wrapper = mount::wrapper(&format!("mount -t tmpfs -o size=16m tmpfs {folder}"))?;
        let running = self.start(&wrapper);
        running.wait_for_log("cannot connect", 1, BOUND).unwrap();
        // The folder in the mount namespace of that process.
        let inside = format!("/proc/{}/root{folder}", running.id());
        Ok((running, PathBuf::from(inside).join("filler")))
    }

    /// Waits until the input has read this many records.
    pub(super) fn wait_for_records(&self, count: usize) {
        let taken = || (records(self.http_port) >= count).then_some(());
        wait::until(BOUND, taken).unwrap();
    }

    pub(super) fn write(&mut self, load: &Load, chunks: Range<usize>) {
        let lines = chunks.start * load.lines..chunks.end * load.lines;
        let text: String = lines.map(|line| load.line(line) + "\n").collect();
        self.log.write_all(text.as_bytes()).unwrap();
    }
}

/// Splits the load into one part more than there are events.
pub(super) fn parts(load: &Load) -> impl Iterator<Item = Range<usize>> {
    let part = load.chunks / (TIMES + 1);
    (0..=TIMES).map(move |number| number * part..(number + 1) * part)
}

/// Waits until all messages have arrived, or no more arrive, and returns the counts.
fn arrived(load: &Load, receiver: &Receiver, agent: FluentBit) -> Counts {
    let complete = || {
        let counts = load.compare(crate::load::texts(&receiver.received()));
        (counts.lost == 0).then_some(())
    };
    // The lost messages are counted below.
    let _ = wait::until(LONG, complete);
    agent.stop();
    // Fluent Bit sends other chunks while one waits for its retry.
    load.arrived(receiver).in_any_order()
}

/// Allows the duplicates of kills: each may resend the replay buffer, and the delivered
/// chunks of a part that were not yet deleted.
pub(super) fn with_kills(counts: Counts, load: &Load) -> Counts {
    let kept = counts.with_replays(TIMES, load).may_be_duplicated;
    let part = load.total() / (TIMES + 1);
    counts.with_duplicates(kept + TIMES * part)
}

pub(crate) fn kill() -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(Listen::Tcp);
    let mut agent = Agent::new(&receiver.address(), 1)?;
    let mut running = agent.start(&[]);
    for (number, part) in parts(&load).enumerate() {
        let before = receiver.count();
        agent.write(&load, part);
        if number < TIMES {
            receiver.wait_for(before + 1, BOUND).unwrap();
            running.kill();
            running = agent.start(&[]);
        }
    }
    let counts = arrived(&load, &receiver, running);
    Ok(with_kills(counts, &load))
}

/// Without workers: Fluent Bit starts those of a proxy plugin twice and stops them
/// once, so a reload crashes.
pub(crate) fn reload() -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(Listen::Tcp);
    let mut agent = Agent::new(&receiver.address(), 0)?;
    let running = agent.start(&[]);
    running.wait_for_log("connected to", 1, BOUND).unwrap();
    for (number, part) in parts(&load).enumerate() {
        let before = receiver.count();
        agent.write(&load, part);
        if number < TIMES {
            receiver.wait_for(before + 1, BOUND).unwrap();
            running.reload();
            // A signal during a reload would stop Fluent Bit without calling the exit
            // of its outputs.
            for (text, count) in [("successful reload done", 1), ("connected to", 2)] {
                running.wait_for_log(text, number + count, BOUND).unwrap();
            }
        }
    }
    Ok(arrived(&load, &receiver, running).with_replays(TIMES, &load))
}

/// Fluent Bit loses, and logs, the records that it reads while the disk is full.
/// Earlier and later records arrive.
pub(crate) fn disk_full() -> Outcome {
    let load = Load::USUAL;
    let port = free_port();
    let mut agent = Agent::new(&format!("127.0.0.1:{port}"), 1)?;
    let state = agent.dir.path().join("state");
    let (running, filler) = agent.start_with_small_disk(&state)?;
    let third = load.chunks / 3;

    agent.write(&load, 0..third);
    agent.wait_for_records(third * load.lines);
    fill(&filler);
    agent.write(&load, 2 * third..load.chunks);
    let full = "No space left on device";
    running.wait_for_log(full, 1, BOUND).unwrap();
    fs::remove_file(&filler).unwrap();
    let receiver = receiver_at(port, Listen::Tcp);
    let count = (third * load.lines) as u64;
    receiver.wait_for(count, LONG).unwrap();
    agent.write(&load, third..2 * third);

    let kept = Load {
        chunks: 2 * third,
        ..load
    };
    let arrived = || kept.compare_own(&crate::load::texts(&receiver.received()));
    // The lost messages are counted below.
    let _ = wait::until(LONG, || (arrived().lost == 0).then_some(()));
    running.stop();
    receiver.wait_for_the_end();
    Ok(arrived().in_any_order().with_replays(1, &load))
}

/// Returns the number of records that the input has read.
fn records(http_port: u16) -> usize {
    let metrics = fluent_bit::get(http_port, "/api/v1/metrics").unwrap_or_default();
    let (_, behind) = metrics.split_once("\"records\":").unwrap_or_default();
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Writes a file until the disk is full.
pub(super) fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
}
