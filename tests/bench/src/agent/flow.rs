//! The throughput of Fluent Bit with a round trip of 100 ms.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use faults::namespace::{Namespace, Weather};
use rig::fluent_bit;

use super::arrivals::{Arrivals, now, stamped};
use super::{Agent, Logs, Settings, built_in, ours};
use crate::link::Links;
use crate::peers::processor_time;
use crate::report::Report;

const CONTAINERS: usize = 50;
/// The number of lines per second and container.
const RATE: u32 = 2000;
const TICKS: u32 = 50;
/// The time before the measurement starts.
const WARM_UP: Duration = Duration::from_secs(10);
const SPAN: Duration = Duration::from_secs(15);
/// The delay in each direction.
const DELAY: Duration = Duration::from_millis(50);

pub(crate) fn measure(_: &Links, report: &mut Report) {
    let what = "50 containers with 2,000 lines per second each, round trip of 100 ms";
    if fluent_bit::find().is_none() {
        return report.skip(what, "Fluent Bit is not installed");
    }
    let network = match Namespace::new() {
        Ok(network) => network,
        Err(skipped) => return report.skip(what, &skipped.0),
    };
    network.set_weather(Weather {
        delay: DELAY,
        ..Weather::default()
    });
    let queues = tempfile::tempdir().unwrap();
    let here = network.here().parse().unwrap();
    for (name, input) in [
        ("plugin with a queue", ""),
        (
            "plugin with a queue, `threaded on` for tail",
            "    threaded on\n",
        ),
        (
            "plugin with a queue, `Event_Batch_Size` and `Static_Batch_Size 32k` for tail",
            "    Event_Batch_Size 32k\n    Static_Batch_Size 32k\n",
        ),
        ("plugin with a queue and `Workers 1`", ""),
        ("built-in output, `Workers 1`", ""),
        ("null output", ""),
    ] {
        let arrivals = Arrivals::listen(here, false);
        let outputs = match name {
            "null output" => "[OUTPUT]\n    Name null\n    Match *\n".to_owned(),
            "built-in output, `Workers 1`" => built_in(&arrivals.address()),
            _ => ours(&arrivals.address(), queues.path()),
        };
        let outputs = if name.ends_with("and `Workers 1`") {
            format!("{outputs}    Workers 1\n")
        } else {
            outputs
        };
        // A section continues until the next one begins.
        let outputs = format!("{input}{outputs}");
        let wrapper = network.wrapper();
        let Flow {
            written,
            read,
            arrived,
            cpu,
        } = flow(&arrivals, &wrapper, &outputs);
        let arrived = if name == "null output" {
            String::new()
        } else {
            format!(", {arrived:.0} arrived")
        };
        report.fact(
            &format!("{what}: lines per second, {name}"),
            &format!(
                "{written:.0} written, {read:.0} read by Fluent Bit{arrived}; {:.0} % of a core",
                cpu * 100.0
            ),
        );
    }
}

/// Lines per second, and the share of a core.
struct Flow {
    written: f64,
    read: f64,
    arrived: f64,
    cpu: f64,
}

fn flow(arrivals: &Arrivals, wrapper: &[String], outputs: &str) -> Flow {
    let mut logs = Logs::new(CONTAINERS);
    let path = logs.path();
    let agent = Agent::start(Settings {
        wrapper,
        logs: &path,
        storage: "filesystem",
        outputs,
    });
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| write(&mut logs, &stop, &written));
        thread::sleep(WARM_UP);
        let process = agent.fluent_bit.id();
        let look = || {
            (
                written.load(Ordering::Relaxed),
                super::bytes_read(process),
                arrivals.count(),
                processor_time(process),
            )
        };
        let (start, before) = (Instant::now(), look());
        thread::sleep(SPAN);
        let (seconds, after) = (start.elapsed().as_secs_f64(), look());
        stop.store(true, Ordering::Relaxed);
        let line = "2026-03-01T12:00:00.000000000Z stdout F ".len() + stamped(0).len() + 1;
        Flow {
            written: (after.0 - before.0) as f64 / seconds,
            read: (after.1 - before.1) as f64 / line as f64 / seconds,
            arrived: (after.2 - before.2) as f64 / seconds,
            cpu: after.3.saturating_sub(before.3).as_secs_f64() / seconds,
        }
    })
}

fn write(logs: &mut Logs, stop: &AtomicBool, written: &AtomicU64) {
    let start = Instant::now();
    let lines = RATE / TICKS;
    let mut tick = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut text = String::new();
        for _ in 0..lines {
            let line = stamped(now());
            writeln!(text, "2026-03-01T12:00:00.000000000Z stdout F {line}").unwrap();
        }
        for container in &mut logs.containers {
            container.append(text.as_bytes());
        }
        written.fetch_add(u64::from(lines) * CONTAINERS as u64, Ordering::Relaxed);
        tick += 1;
        thread::sleep((Duration::from_secs(1) * tick / TICKS).saturating_sub(start.elapsed()));
    }
}
