//! The bytes that Fluent Bit writes to disk, and the lines that a kill loses, for
//! inputs that keep their chunks on disk or in memory.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use rig::fluent_bit;

use super::arrivals::{Arrivals, stamped};
use super::{Agent, Logs, Settings, number, ours};
use crate::link::Links;
use crate::report::{Report, Target};

const CONTAINERS: usize = 10;
/// The number of lines per second.
const RATE: u64 = 5000;
/// Longer than the kernel delays writing to the disk.
const SPAN: Duration = Duration::from_secs(60);
const KILLS: usize = 5;
const BETWEEN: Duration = Duration::from_millis(2300);
/// The time in which everything must arrive.
const END: Duration = Duration::from_secs(6);

pub(crate) fn measure(_: &Links, report: &mut Report) {
    if fluent_bit::find().is_none() {
        return report.skip("Bytes written to disk", "Fluent Bit is not installed");
    }
    let null = "[OUTPUT]\n    Name null\n    Match *\n";
    for (what, storage, output) in [
        ("Queue and `storage.type filesystem`", "filesystem", None),
        ("Queue and `storage.type memory`", "memory", None),
        (
            "Null output and `storage.type memory`",
            "memory",
            Some(null),
        ),
    ] {
        let (written, cancelled, log) = bytes(storage, output);
        let of = |bytes: u64| bytes as f64 / log as f64;
        report.fact(
            &format!("{what}: bytes for the disk per byte of log"),
            &format!(
                "{:.2}, of which {:.2} were deleted before they were written back",
                of(written),
                of(cancelled)
            ),
        );
    }
    for storage in ["filesystem", "memory"] {
        let (lost, twice, all) = kills(storage);
        let what = format!("Queue and `storage.type {storage}`: lines lost in {KILLS} kills");
        let detail = format!(" of {all}, {twice} duplicated");
        if storage == "filesystem" {
            report.detailed(&what, lost as f64, "", Target::AtMost(0.0), &detail);
        } else {
            report.fact(&what, &format!("{lost}{detail}"));
        }
    }
}

/// Writes numbered lines at [`RATE`] for a span of time. Returns the bytes written.
fn write(logs: &mut Logs, next: &mut u64, span: Duration) -> u64 {
    const TICK: u64 = 50;
    let begin = Instant::now();
    let (mut bytes, mut ticks) = (0, 0);
    while begin.elapsed() < span {
        for _ in 0..RATE / TICK {
            let line = stamped(*next);
            let container = *next as usize % CONTAINERS;
            let text = format!("2026-03-01T12:00:00.000000000Z stdout F {line}\n");
            logs.containers[container].append(text.as_bytes());
            bytes += text.len() as u64;
            *next += 1;
        }
        ticks += 1;
        let due = Duration::from_millis(ticks * 1000 / TICK);
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    bytes
}

/// Returns the bytes that were to be written to disk, the bytes that were deleted
/// before that, and the bytes of the log. If `output` is set, it replaces the plugin's
/// output, and nothing arrives.
fn bytes(storage: &str, output: Option<&str>) -> (u64, u64, u64) {
    let mut logs = Logs::new(CONTAINERS);
    let queues = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::listen(Ipv4Addr::LOCALHOST, false);
    let path = logs.path();
    let ours = ours(&arrivals.address(), queues.path());
    let agent = Agent::start(Settings {
        wrapper: &[],
        logs: &path,
        storage,
        outputs: output.unwrap_or(&ours),
    });
    thread::sleep(Duration::from_secs(2));
    let mut next = 0;
    let log = write(&mut logs, &mut next, SPAN);
    let begin = Instant::now();
    while output.is_none() && arrivals.count() < next {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{} lines",
            arrivals.count()
        );
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(END);
    let process = agent.fluent_bit.id();
    let written = number(process, "io", "write_bytes");
    let cancelled = number(process, "io", "cancelled_write_bytes");
    (written, cancelled, log)
}

/// Returns the numbers of lost, duplicated and written lines.
fn kills(storage: &str) -> (u64, u64, u64) {
    let mut logs = Logs::new(CONTAINERS);
    let queues = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::listen(Ipv4Addr::LOCALHOST, true);
    let path = logs.path();
    let outputs = ours(&arrivals.address(), queues.path());
    let settings = Settings {
        wrapper: &[],
        logs: &path,
        storage,
        outputs: &outputs,
    };
    let mut agent = Agent::start(settings);
    let mut next = 0;
    for kill in 0..KILLS as u32 {
        // At a different time within the flush interval for each kill.
        write(
            &mut logs,
            &mut next,
            BETWEEN + Duration::from_millis(170) * kill,
        );
        agent.kill_and_start(settings);
    }
    write(&mut logs, &mut next, BETWEEN);
    let mut before = u64::MAX;
    while arrivals.count() != before {
        before = arrivals.count();
        thread::sleep(END);
    }
    let stamps = arrivals.stamps();
    let distinct = stamps.iter().collect::<HashSet<_>>().len() as u64;
    (next - distinct, stamps.len() as u64 - distinct, next)
}
